/* The expression: moods as presets, and a slider for every facial action, both sides at once unless wanted apart. */
import { $, el, icon, radios } from "./dom.js";
import { panelHead } from "./panels.js";
import { session, takes } from "./session.js";
import { percent, slider } from "./sliders.js";

const GROUPS = [
  ["Brows", ["brow"]],
  ["Eyes", ["eye"]],
  ["Cheeks and nose", ["cheek", "nose"]],
  ["Jaw and tongue", ["jaw", "tongue"]],
  ["Mouth", ["mouth"]],
];
const GAZE = "eyeLook"; // a mood leaves where the eyes look
const CLEAR = /^(brow|eye|mouth)/; // what the group's title says already
const OWN = ""; // the mood of the photo
const LABEL = "Expression";

let sides = false; // left and right apart
let sliders = []; // [names, slider]
let moods;
const list = el("div");
const search = el("input", { type: "search", placeholder: "Search: smile, brow, open…", "aria-label": "Search facial actions" });

export function startExpression() {
  const chips = el("div", { class: "chips", role: "radiogroup", "aria-label": "Mood" });
  const names = Object.keys(session.options.moods).map((name) => [name, capital(name)]);
  moods = radios(chips, "chip", [[OWN, "As in the photo"], ...names], (mood) => {
    session.change({ controls: withExpression({}, mood || undefined) }, mood ? capital(mood) : "Own expression");
  });
  const apart = el("input", { type: "checkbox" });
  apart.addEventListener("change", () => {
    sides = apart.checked;
    build();
  });
  const reset = () => session.change({ controls: withExpression({}, undefined) }, "Own expression");
  $("panel-expression").append(
    panelHead("expression", "Expression", ({ controls }) => "mood" in controls || "expression" in controls, reset),
    chips,
    el("div", { class: "stack" }, el("div", { class: "search" }, icon("search"), search), el("label", { class: "check" }, apart, el("span", {}, "Left and right apart"))),
    list,
  );
  search.addEventListener("input", build);
  build();
  session.on("change", draw);
}

function build() {
  const wanted = search.value.trim().toLowerCase();
  const open = new Set([...list.querySelectorAll("details[open]")].map((one) => one.dataset.group));
  sliders = [];
  const groups = GROUPS.map(([title, stems]) => group(title, stems, wanted, open)).filter(Boolean);
  const none = el("p", { class: "empty" }, `No facial action is called “${search.value.trim()}”.`);
  list.replaceChildren(...(groups.length ? groups : [none]));
  if (session.source) draw();
}

function group(title, stems, wanted, open) {
  const actions = session.options.actions.filter((name) => stems.some((stem) => name.startsWith(stem)));
  const found = paired(actions).filter(({ label }) => `${title} ${label}`.toLowerCase().includes(wanted));
  if (!found.length) return null;
  const made = found.map(({ names, label }) => {
    const onInput = (value) => setActions(names, value);
    const one = slider({ label, min: 0, max: 1, step: 0.01, text: percent, onInput, onReset: () => setActions(names, undefined) });
    sliders.push([names, one]);
    return one.element;
  });
  const count = el("span", { class: "count" });
  const summary = el("summary", {}, icon("down"), title, count);
  return el("details", { class: "actions", "data-group": title, open: Boolean(wanted) || open.has(title) }, summary, el("div", { class: "sliders" }, ...made));
}

/* Actions as [{names, label}]: twins together, unless they are wanted apart. */
function paired(actions) {
  const all = new Map();
  for (const name of actions) {
    const [, stem, side] = name.match(/^(.*?)(Left|Right)$/) ?? [];
    const twins = side && stem !== "jaw" && stem !== "mouth"; // these two move to a side
    const label = words((twins ? stem : name).replace(CLEAR, ""));
    const key = twins && !sides ? stem : name;
    const shown = twins && sides ? `${label}, ${side.toLowerCase()}` : label;
    if (all.has(key)) all.get(key).names.push(name);
    else all.set(key, { names: [name], label: shown });
  }
  return [...all.values()];
}

function words(name) {
  return capital(name.replace(/([A-Z])/g, " $1").toLowerCase());
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

function setActions(names, value) {
  const { controls } = session.settings;
  const actions = { ...controls.expression };
  for (const name of names) {
    if (value === undefined) delete actions[name];
    else actions[name] = value;
  }
  session.change({ controls: withExpression(actions, controls.mood) }, LABEL);
}

function withExpression(actions, mood) {
  const { expression: _, mood: __, ...others } = session.settings.controls;
  return { ...others, ...(mood && { mood }), ...(Object.keys(actions).length && { expression: actions }) };
}

/* What an action is now: set by hand, or by the mood, or as in the photo that the expression is from. */
function strength(name) {
  const { settings, source, options } = session;
  const { controls } = settings;
  if (controls.expression && name in controls.expression) return controls.expression[name];
  if (controls.mood && !name.startsWith(GAZE)) return options.moods[controls.mood][name] ?? 0;
  return (takes(settings, "exp") ? settings.target : source).found.expression[name] ?? 0;
}

function draw() {
  const { controls } = session.settings;
  moods.set(controls.mood ?? OWN);
  for (const [names, one] of sliders) {
    const changed = names.some((name) => name in (controls.expression ?? {}));
    one.set(Math.max(...names.map(strength)), changed);
  }
  for (const details of list.querySelectorAll("details")) {
    const changed = details.querySelectorAll(".changed").length;
    details.querySelector(".count").textContent = changed ? `${changed} changed` : "";
  }
}
