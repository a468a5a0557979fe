/* How the edit is computed: sampler, steps, seed, size; and a photo that is aligned already. */
import { $, button, el, field } from "./dom.js";
import { panelHead } from "./panels.js";
import { session } from "./session.js";
import { slider } from "./sliders.js";
import { openPhoto } from "./source.js";

const SAMPLERS = {
  ddim: "DDIM, as in the paper",
  unipc: "UniPC, good in 8 to 12 steps",
  dpmpp: "DPM++, good in 10 to 15 steps",
  heun: "Heun, two evaluations a step",
};
const DEFAULTS = { sampler: "ddim", steps: null, seed: 0, size: null };
const SIZES = [null, 256, 512, 1024];
const MOST_STEPS = 100;
const MOST_SEED = 2 ** 31;

export function startFinish() {
  const sampler = select(session.options.samplers.map((name) => [name, SAMPLERS[name] ?? name]), (value) => session.change({ sampler: value }, "Sampler"));
  const size = select(SIZES.map((side) => [side ?? "", side ? `${side} px, enlarged` : "As the model gives it"]), (value) => session.change({ size: Number(value) || null }, "Size"));
  const steps = slider({ label: "Steps", min: 0, max: MOST_STEPS, step: 1, text: (value) => String(value || "as the model needs"), onInput: (value) => session.change({ steps: value || null }, "Steps") });
  const seed = seedField();
  const aligned = el("input", { type: "checkbox", onchange: () => openPhoto(session.source.file, { aligned: aligned.checked }) });
  const isChanged = (settings) => Object.entries(DEFAULTS).some(([name, value]) => settings[name] !== value);
  $("panel-finish").append(
    panelHead("finish", "Advanced", isChanged, () => session.change(DEFAULTS, "Defaults")),
    field("Sampler", sampler),
    steps.element,
    seed.element,
    field("Size of the portrait", size),
    el("label", { class: "check" }, aligned, el("span", {}, "The photo is an FFHQ crop", el("small", {}, "it is taken as it is, not aligned again"))),
  );
  session.on("change", () => {
    const { settings, source } = session;
    sampler.value = settings.sampler;
    size.value = settings.size ?? "";
    steps.set(settings.steps ?? 0, settings.steps !== DEFAULTS.steps);
    seed.input.value = settings.seed;
    aligned.checked = Boolean(source.aligned);
  });
}

function seedField() {
  const input = el("input", { type: "number", min: 0, max: MOST_SEED, step: 1, inputmode: "numeric", id: "seed" });
  input.addEventListener("change", () => session.change({ seed: Math.max(0, Math.min(MOST_SEED, Math.floor(input.valueAsNumber || 0))) }, "Seed"));
  const roll = () => session.change({ seed: Math.floor(Math.random() * MOST_SEED) }, "Seed");
  const row = el("div", { class: "row" }, el("div", { class: "grow" }, input), button("New", { onclick: roll, "aria-label": "A new seed" }, "dice"));
  const element = el("div", { class: "field" }, el("label", { for: "seed" }, "Seed"), row, el("small", {}, "The same seed gives the same picture."));
  return { input, element };
}

function select(choices, onChoice) {
  const made = el("select", { onchange: () => onChoice(made.value) }, ...choices.map(([value, text]) => el("option", { value }, text)));
  return made;
}
