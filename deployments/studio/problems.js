/* What went wrong, where it went wrong: what, what is allowed, what to do. */
import { el, svg } from "./dom.js";

export function showProblems(place, problems) {
  place.replaceChildren(...problems.map(problemNote));
}

/* The problems of an error that may be anything: those of an answer, or what the browser says. */
export const problemsOf = (error) => error.problems ?? [{ what: `The studio failed: ${error.message}`, do: "Reload the page." }];

function problemNote({ what, allowed, do: remedy }) {
  const text = el("div", {}, el("strong", {}, sentence(what)));
  if (allowed) text.append(el("p", {}, `Allowed: ${allowed}`));
  if (remedy) text.append(el("p", {}, sentence(remedy)));
  return el("div", { class: "problem", role: "alert" }, sign(), text);
}

const sign = () =>
  svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, svg("circle", { cx: 12, cy: 12, r: 9 }), svg("path", { d: "M12 7.5v5.5M12 16.2v.1" }));

function sentence(text) {
  const said = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?…]$/.test(said) ? said : `${said}.`;
}
