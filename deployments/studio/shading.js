/* Light as the server shades with it: nine spherical harmonics for each of red, green and blue.
   Directions and normals are [x right, y up, z towards the viewer]; see drig/faces/lighting.py. */
const { PI, sqrt } = Math;
const BAND1 = ((2 * PI) / 3) * sqrt(3 / (4 * PI));
const BAND2 = (PI / 4) * 3 * sqrt(5 / (12 * PI));
const SCALE = [1 / sqrt(4 * PI), BAND1, BAND1, BAND1, BAND2, BAND2, BAND2, BAND2 / 2, (PI / 4) * 0.5 * sqrt(5 / (4 * PI))];
const COSINE = [1 / 4, 1 / 2, 1 / 2, 1 / 2, 15 / 16, 15 / 16, 15 / 16, 15 / 64, 5 / 64];

export function basis([x, y, z]) {
  return [1, x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1].map((value, k) => value * SCALE[k]);
}

/* The light of a lamp: 9 x 3 coefficients. */
export function lampLight(direction, colour, intensity, ambient) {
  const unit = normalised(direction);
  return basis(unit).map((value, k) => {
    const strength = (COSINE[k] * value) / SCALE[k] ** 2;
    return colour.map((channel) => strength * intensity * channel + (k === 0 ? ambient / SCALE[0] : 0));
  });
}

/* Where most of the light comes from. */
export function mainDirection(light) {
  const grey = light.slice(1, 4).map((channels) => channels.reduce((sum, value) => sum + value));
  return Math.hypot(...grey) > 1e-6 ? normalised(grey) : [0, 0, 1];
}

/* A direction turned to the right about the vertical axis. */
export function turned([x, y, z], angle) {
  const [cos, sin] = [Math.cos((angle * PI) / 180), Math.sin((angle * PI) / 180)];
  return [cos * x + sin * z, y, cos * z - sin * x];
}

export function normalised(vector) {
  const length = Math.hypot(...vector);
  return vector.map((value) => value / length);
}
