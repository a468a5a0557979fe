/* The history as thumbnails, undo and redo. */
import { $, el } from "./dom.js";
import { redo, travel, undo } from "./edits.js";
import { session } from "./session.js";

export function startStrip() {
  session.on("entry", draw);
  $("undo").addEventListener("click", undo);
  $("redo").addEventListener("click", redo);
  session.on("change", (event) => event.detail?.byHand && ($("undo").disabled = false)); // of what is not an entry yet
  addEventListener("keydown", shortcut);
}

function shortcut(event) {
  const typing = event.target.matches?.("input:is([type=text], [type=search], [type=number], [type=password]), textarea");
  if (!(event.ctrlKey || event.metaKey) || event.altKey || typing || !session.source || document.querySelector("dialog[open]")) return;
  const key = event.key.toLowerCase();
  if (key !== "z" && key !== "y") return;
  event.preventDefault();
  if (key === "y" || event.shiftKey) redo();
  else undo();
}

function draw() {
  const { history } = session;
  $("undo").disabled = !history.canUndo;
  $("redo").disabled = !history.canRedo;
  $("strip").replaceChildren(...history.entries.map(thumbnail));
  const current = $("strip").querySelector("[aria-current]");
  const strip = $("strip").getBoundingClientRect();
  const box = current.getBoundingClientRect();
  $("strip").scrollLeft += Math.min(0, box.left - strip.left) + Math.max(0, box.right - strip.right);
}

function thumbnail(entry, index) {
  const { history, source } = session;
  const url = entry.picture?.url ?? (index === 0 ? source.portrait : null);
  const picture = el("span", { class: url ? "thumb" : "thumb waiting" }, url && el("img", { src: url, alt: "" }));
  const now = index === history.at;
  const name = el("span", { class: "name" }, entry.label);
  const properties = { type: "button", class: index > history.at ? "undone" : null, "aria-current": now ? "step" : null, onclick: () => travel(index) };
  return el("li", {}, el("button", properties, picture, name));
}
