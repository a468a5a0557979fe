/* How the head stands: yaw, pitch, roll in degrees. */
import { $, button, el } from "./dom.js";
import { panelHead } from "./panels.js";
import { session, takes } from "./session.js";
import { degrees, slider } from "./sliders.js";

const MOST = 60; // of the sliders and of a drag: beyond, little of a face is left
const ANGLES = [
  ["yaw", "Turn left or right"],
  ["pitch", "Look down or up"],
  ["roll", "Tilt"],
];
const LABEL = "Head";

/* The angles that are set, or else those of the photo that the pose is from. */
export function effectivePose() {
  const { settings, source } = session;
  const { pose } = (takes(settings, "pose") ? settings.target : source).found;
  return Object.fromEntries(ANGLES.map(([name]) => [name, settings.controls[name] ?? pose[name]]));
}

export function turnHead(angles) {
  const limited = Object.entries(angles).map(([name, angle]) => [name, Math.max(-MOST, Math.min(MOST, Math.round(10 * angle) / 10))]);
  session.control(Object.fromEntries(limited), LABEL);
}

export function startHead() {
  const sliders = ANGLES.map(([name, label]) => {
    const onReset = () => session.control({ [name]: undefined }, LABEL);
    return [name, slider({ label, min: -MOST, max: MOST, step: 1, from: 0, text: degrees, onReset, onInput: (value) => turnHead({ [name]: value }) })];
  });
  const reset = () => session.control({ yaw: undefined, pitch: undefined, roll: undefined }, LABEL);
  const isChanged = ({ controls }) => ANGLES.some(([name]) => name in controls);
  $("panel-head").append(
    panelHead("head", "Head", isChanged, reset),
    el("p", { class: "fine" }, "Drag the head in the picture, or move the sliders."),
    el("div", { class: "sliders" }, ...sliders.map(([, one]) => one.element)),
    el("div", { class: "row" }, button("Face the camera", { onclick: () => turnHead({ yaw: 0, pitch: 0, roll: 0 }) })),
  );
  session.on("change", () => {
    const pose = effectivePose();
    for (const [name, one] of sliders) one.set(pose[name], name in session.settings.controls);
  });
}
