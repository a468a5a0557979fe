/* Where there is room for one picture only: which one is large, the other being small in its corner. */
import { $ } from "./dom.js";
import { session } from "./session.js";

const AFTER_REST_MS = 600;

let chosen = "portrait";
let resting;

export function startFrames() {
  for (const [name, main] of [["show-guide", "guide"], ["show-portrait", "portrait"]]) {
    $(name).addEventListener("click", () => ($("frames").dataset.main = chosen = main));
  }
  // The guide follows the hand, so it is the one to look at until the hand rests.
  session.on("change", (event) => {
    if (!event.detail?.byHand) return;
    $("frames").dataset.main = "guide";
    clearTimeout(resting);
    resting = setTimeout(() => ($("frames").dataset.main = chosen), AFTER_REST_MS);
  });
}
