/* The ball of the first page: it is lit from where the pointer is, as a photo will be. */
import { $ } from "./dom.js";
import { lampLight } from "./shading.js";
import { directionAt, drawBall } from "./sphere.js";

const AT_FIRST = [0.45, 0.4];
const COLOUR = [1, 0.9, 0.76];

export function startWelcome() {
  const canvas = $("welcome-ball");
  const lit = ([x, y]) => drawBall(canvas, lampLight(directionAt(x, y), COLOUR, 0.9, 0.22));
  lit(AT_FIRST);
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  $("welcome").addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const away = [event.clientX - box.left - box.width / 2, box.top + box.height / 2 - event.clientY];
    const reach = Math.max(box.width, Math.hypot(...away) * 1.1);
    requestAnimationFrame(() => lit(away.map((distance) => distance / reach)));
  });
}
