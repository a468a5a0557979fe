/* The tabs of the panel, and the head of a panel with its reset. */
import { $, button, el } from "./dom.js";
import { session } from "./session.js";

const NAMES = ["light", "head", "expression", "match", "finish"];

export function startPanels() {
  const tabs = NAMES.map((name) => $(`tab-${name}`));
  tabs.forEach((tab, index) => {
    tab.addEventListener("click", () => choose(tabs, tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      const next = event.key === "Home" ? 0 : event.key === "End" ? tabs.length - 1 : step ? (index + step + tabs.length) % tabs.length : null;
      if (next === null) return;
      event.preventDefault();
      choose(tabs, tabs[next]);
      tabs[next].focus();
    });
  });
  choose(tabs, tabs[0]);
}

function choose(tabs, chosen) {
  for (const tab of tabs) {
    tab.setAttribute("aria-selected", String(tab === chosen));
    tab.tabIndex = tab === chosen ? 0 : -1;
    $(tab.getAttribute("aria-controls")).hidden = tab !== chosen;
  }
  // Where the page scrolls, as on phones, a new panel begins at its top.
  if (document.scrollingElement.scrollTop > 0) $(chosen.getAttribute("aria-controls")).scrollIntoView({ block: "start" });
}

/* The heading of a panel. `isChanged(settings)` says whether there is something to reset, and marks the tab. */
export function panelHead(name, title, isChanged, onReset) {
  const reset = button("Reset", { class: "plain small", onclick: onReset, "aria-label": `Reset: ${title}` }, "reset");
  session.on("change", () => {
    const changed = isChanged(session.settings);
    reset.disabled = !changed;
    $(`tab-${name}`).classList.toggle("changed", changed);
  });
  return el("div", { class: "panel-head" }, el("h2", {}, title), reset);
}
