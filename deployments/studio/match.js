/* Another photo to take light, expression, pose or the rest from. */
import { $, button, el } from "./dom.js";
import { choosePhoto } from "./files.js";
import { panelHead } from "./panels.js";
import { problemsOf, showProblems } from "./problems.js";
import { session } from "./session.js";
import { dropPlace, Photo } from "./source.js";

const MODES = {
  light: ["Light", "where it comes from, how strong, which colour"],
  exp: ["Expression", "what the face does"],
  pose: ["Head pose", "where the head is turned"],
  latent: ["Everything else", "hair, skin and background: little of the first photo stays"],
};
const HIDES = {
  light: ["light_direction", "light_intensity", "light_colour", "light_ambient", "light_turn"],
  exp: ["mood", "expression"],
  pose: ["yaw", "pitch", "roll"],
};
const AT_FIRST = ["light"];
const LABEL = "Match";

const place = el("div", { class: "stack" });
const status = el("p", { class: "fine", role: "status" });
const problems = el("div");

export function startMatch() {
  $("panel-match").append(
    panelHead("match", "Match another photo", ({ target }) => target !== null, remove),
    el("p", { class: "fine" }, "Choose a photo whose light, expression or pose you like, of anyone. It replaces what is set by hand; what you set later comes on top."),
    place,
    status,
    problems,
  );
  session.on("change", draw);
}

async function take(file) {
  const photo = session.source;
  const wait = (text) => (status.textContent = text || "Looking for the face…");
  showProblems(problems, []);
  wait();
  try {
    const target = await new Photo(file).send({ onWait: wait });
    const modes = session.settings.target ? session.settings.modes : AT_FIRST;
    if (photo === session.source) session.change({ target, modes, controls: without(modes) }, LABEL);
  } catch (error) {
    showProblems(problems, problemsOf(error));
  }
  status.textContent = "";
}

function remove() {
  session.change({ target: null, modes: [] }, "No match");
}

let drawn; // the target that is shown

function draw() {
  const { target, modes } = session.settings;
  if (drawn !== target) {
    drawn = target;
    place.replaceChildren(target ? chosen(target) : dropPlace("Drop a photo of a face", take));
  }
  for (const box of place.querySelectorAll("input[type=checkbox]")) box.checked = modes.includes(box.value);
}

function chosen(target) {
  const picture = el("div", { class: "square" }, el("img", { src: target.portrait, alt: "The face in the other photo" }));
  const boxes = session.options.modes.map((mode) => {
    const box = el("input", { type: "checkbox", value: mode, onchange: () => toggle(mode, box.checked) });
    const [name, about] = MODES[mode];
    return el("label", { class: "check" }, box, el("span", {}, name, el("small", {}, about)));
  });
  const others = el("div", { class: "row" }, button("Another photo", { class: "plain small", onclick: () => choosePhoto(take) }), button("Remove", { class: "plain small", onclick: remove }));
  return el("div", { class: "stack" }, el("div", { class: "target" }, picture, el("div", {}, el("h3", { class: "small-title" }, "Take from it"), ...boxes)), others);
}

function toggle(mode, on) {
  const modes = session.options.modes.filter((one) => (one === mode ? on : session.settings.modes.includes(one)));
  session.change({ modes, controls: without(on ? [mode] : []) }, LABEL);
}

/* The controls without those that would hide what these modes take: by hand comes after the photo. */
function without(modes) {
  const hidden = modes.flatMap((mode) => HIDES[mode] ?? []);
  return Object.fromEntries(Object.entries(session.settings.controls).filter(([name]) => !hidden.includes(name)));
}
