/* Sheets over the page: they close by their cross, by Escape, and by a click beside them. */
import { $ } from "./dom.js";

export function open(id) {
  $(id).showModal();
}

export function startDialogs() {
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
    dialog.addEventListener("pointerdown", (event) => {
      if (event.target === dialog && outside(event, dialog.getBoundingClientRect())) dialog.close();
    });
  }
}

function outside({ clientX: x, clientY: y }, box) {
  return x < box.left || x > box.right || y < box.top || y > box.bottom;
}
