/* A white ball in some light, and the mapping of points on it to directions of a lamp. */
import { scaled } from "./shading.js";

export const RADIUS = 0.86; // of the canvas' half: around the ball there is room for lamps behind it
const WHITE = 0.82;
const FARTHEST = 150; // degrees from the front

/* Draws the ball as `light` (9 x 3) shows it, turned by `turn` degrees. */
export function drawBall(canvas, light, turn = 0) {
  const side = canvas.width;
  const context = canvas.getContext("2d");
  const image = context.createImageData(side, side);
  const radius = (RADIUS * side) / 2;
  const [cos, sin] = [Math.cos((turn * Math.PI) / 180), Math.sin((turn * Math.PI) / 180)];
  const channels = [0, 1, 2].map((channel) => scaled(light, channel));
  for (let row = 0; row < side; row++) {
    const y = (side / 2 - row - 0.5) / radius;
    for (let column = 0; column < side; column++) {
      const across = (column + 0.5 - side / 2) / radius;
      const cover = (1 - Math.sqrt(across * across + y * y)) * radius + 0.5; // of the pixel
      if (cover <= 0) continue;
      const depth = Math.sqrt(Math.max(0, 1 - across * across - y * y));
      const [x, z] = [cos * across - sin * depth, cos * depth + sin * across];
      const at = 4 * (row * side + column);
      for (let channel = 0; channel < 3; channel++) image.data[at + channel] = 255 * WHITE * shade(channels[channel], x, y, z);
      image.data[at + 3] = 255 * Math.min(1, cover);
    }
  }
  context.putImageData(image, 0, 0);
}

/* Written out, since it runs for every pixel of every move. */
function shade(k, x, y, z) {
  return k[0] + k[1] * x + k[2] * y + k[3] * z + k[4] * x * y + k[5] * x * z + k[6] * y * z + k[7] * (x * x - y * y) + k[8] * (3 * z * z - 1);
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
