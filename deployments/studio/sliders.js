/* A labelled slider that shows its value, what it is measured from, and whether it was changed. */
import { el, newId } from "./dom.js";

/* {element, set(value, changed)}; `onInput(value)` while it moves, a double click calls `onReset`. `from` is where its
   filled part starts, `text` how a value reads. */
export function slider({ label, min, max, step, from = min, text = String, onInput, onReset }) {
  const id = newId("slider");
  const input = el("input", { type: "range", id, min, max, step });
  const output = el("output", { for: id });
  const element = el("div", { class: "slider" }, el("label", { for: id }, label), output, input);

  function draw(value) {
    const share = (one) => `${(100 * (Math.min(max, Math.max(min, one)) - min)) / (max - min)}%`;
    const [start, end] = value < from ? [value, from] : [from, value];
    input.style.setProperty("--start", share(start));
    input.style.setProperty("--end", share(end));
    output.textContent = text(value);
    input.setAttribute("aria-valuetext", text(value));
  }

  input.addEventListener("input", () => {
    draw(input.valueAsNumber);
    onInput(input.valueAsNumber);
  });
  if (onReset) {
    input.title = "Double-click: as in the photo";
    input.addEventListener("dblclick", onReset);
  }
  return {
    element,
    input,
    set(value, changed) {
      input.value = value;
      element.classList.toggle("changed", changed);
      draw(value);
    },
  };
}

export const percent = (value) => `${Math.round(100 * value)} %`;
export const degrees = (value) => `${Math.round(value)}°`.replace("-", "−");
