/* A white ball in some light, and the mapping of points on it to directions of a lamp. */
import { basis, turned } from "./shading.js";

export const RADIUS = 0.86; // of the canvas' half: around the ball there is room for lamps behind it
const WHITE = 0.82;
const FARTHEST = 150; // degrees from the front

/* Draws the ball as `light` (9 x 3) shows it, turned by `turn` degrees. */
export function drawBall(canvas, light, turn = 0) {
  const side = canvas.width;
  const context = canvas.getContext("2d");
  const image = context.createImageData(side, side);
  const radius = (RADIUS * side) / 2;
  for (let row = 0; row < side; row++) {
    for (let column = 0; column < side; column++) {
      const [x, y] = [(column + 0.5 - side / 2) / radius, (side / 2 - row - 0.5) / radius];
      const cover = (1 - Math.hypot(x, y)) * radius + 0.5; // of the pixel
      if (cover <= 0) continue;
      const z = Math.sqrt(Math.max(0, 1 - x * x - y * y));
      paint(image.data, 4 * (row * side + column), basis(turned([x, y, z], -turn)), light, Math.min(1, cover));
    }
  }
  context.putImageData(image, 0, 0);
}

function paint(data, at, functions, light, cover) {
  for (let channel = 0; channel < 3; channel++) {
    let shading = 0;
    for (let k = 0; k < 9; k++) shading += functions[k] * light[k][channel];
    data[at + channel] = 255 * WHITE * shading;
  }
  data[at + 3] = 255 * cover;
}

/* A point of the square, -1..1 right and up -> the direction that a lamp there shines from. On the ball that is the way
   its surface looks; past its edge the lamp goes behind it. */
export function directionAt(x, y) {
  const distance = Math.hypot(x, y) / RADIUS;
  const angle = distance <= 1 ? Math.asin(distance) : Math.min((FARTHEST * Math.PI) / 180, Math.PI / 2 + 4 * (distance - 1));
  const around = Math.atan2(y, x);
  return [Math.sin(angle) * Math.cos(around), Math.sin(angle) * Math.sin(around), Math.cos(angle)];
}

/* The inverse, kept inside the square. */
export function pointOf([x, y, z]) {
  const across = Math.hypot(x, y);
  if (across < 1e-6) return [0, 0];
  const distance = z >= 0 ? across : 1 + (Math.acos(z) - Math.PI / 2) / 4;
  const scale = Math.min(0.98, RADIUS * distance) / across;
  return [x * scale, y * scale];
}
