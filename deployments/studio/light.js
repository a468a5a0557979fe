/* The light: drag a lamp around a ball; how strong, which colour, how much comes from everywhere. */
import { $, el } from "./dom.js";
import { panelHead } from "./panels.js";
import { session, takes } from "./session.js";
import { lampLight, mainDirection, normalised, turned } from "./shading.js";
import { degrees, percent, slider } from "./sliders.js";
import { directionAt, drawBall, pointOf } from "./sphere.js";

const SETUPS = [
  ["Front", [0, 0.15, 1]],
  ["Loop", [0.55, 0.5, 0.85]],
  ["Rembrandt", [0.85, 0.75, 0.75]],
  ["Split", [1, 0.05, 0.12]],
  ["Butterfly", [0, 0.85, 0.8]],
  ["Below", [0, -0.8, 0.8]],
  ["Rim", [0.8, 0.35, -0.6]],
];
const COLOURS = [
  ["Candle", [1, 0.68, 0.36]],
  ["Tungsten", [1, 0.84, 0.64]],
  ["White", [1, 1, 1]],
  ["Shade", [0.8, 0.89, 1]],
  ["Dusk", [0.58, 0.7, 1]],
];
const DEFAULTS = { light_intensity: 0.8, light_colour: [1, 1, 1], light_ambient: 0.35 }; // as drig.faces.controls has them
const LAMP = ["light_direction", ...Object.keys(DEFAULTS)];
const STEP_DEGREES = 5;
const LONG_STEP_DEGREES = 15;
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

const lamp = el("span", { class: "ball-lamp" });
const canvas = el("canvas", { width: 400, height: 400 });
const ball = el("div", { class: "ball", role: "slider", tabindex: 0, "aria-label": "Direction of the light", "aria-valuemin": -180, "aria-valuemax": 180, "aria-describedby": "light-hint" }, canvas, lamp);
const hint = el("p", { class: "fine", id: "light-hint" });
let parts;

export function startLight() {
  const setups = SETUPS.map(([name, direction]) => el("button", { type: "button", class: "chip", onclick: () => shine({ light_direction: direction }, name) }, name));
  parts = { setups, strength: lampSlider("Intensity", "light_intensity", 2), ambient: lampSlider("Ambience", "light_ambient", 1), turn: turnSlider(), ...colours() };
  const isChanged = ({ controls }) => "light_turn" in controls || "light_direction" in controls;
  $("panel-light").append(
    panelHead("light", "Light", isChanged, reset),
    el("div", { class: "stack" }, ball, hint),
    el("div", { class: "chips", role: "group", "aria-label": "Set-ups" }, ...setups),
    el("div", { class: "sliders" }, parts.strength.element, parts.ambient.element),
    parts.row,
    parts.turn.element,
  );
  startBall();
  session.on("change", draw);
}

function lampSlider(label, name, max) {
  return slider({ label, min: 0, max, step: 0.01, text: percent, onInput: (value) => shine({ [name]: value }, label) });
}

function turnSlider() {
  const onInput = (value) => session.control({ ...without(), light_turn: value || undefined }, "Turned light");
  return slider({ label: "Or turn the photo’s own light", min: -180, max: 180, step: 1, from: 0, text: degrees, onInput, onReset: reset });
}

function colours() {
  const own = el("input", { type: "color", class: "swatch-own", "aria-label": "Another colour of the light", title: "Another colour" });
  own.addEventListener("input", () => shine({ light_colour: fromHex(own.value) }, "Colour"));
  const swatches = COLOURS.map(([name, colour]) => {
    const input = el("input", { type: "radio", name: "light-colour", "aria-label": name, title: name });
    input.addEventListener("change", () => shine({ light_colour: colour }, name));
    const spot = el("span");
    spot.style.setProperty("--swatch", toHex(colour));
    return { colour, input, element: el("label", { class: "swatch" }, input, spot) };
  });
  const group = el("div", { class: "swatches", role: "radiogroup", "aria-label": "Colour of the light" }, ...swatches.map((one) => one.element), own);
  return { own, swatches, row: group };
}

/* A lamp as it is now, with changes; the first one shines from where the photo's own light mostly comes. */
function shine(changes, label) {
  const controls = { light_turn: undefined, ...lampNow(), ...changes };
  session.control({ ...controls, light_direction: exact(controls.light_direction) }, label);
}

const exact = (direction) => normalised(direction).map((value) => Math.round(1000 * value) / 1000);

function lampNow() {
  const { controls } = session.settings;
  if (!controls.light_direction) return { ...DEFAULTS, light_direction: turned(mainDirection(photoLight()), controls.light_turn ?? 0) };
  return Object.fromEntries(LAMP.map((name) => [name, controls[name] ?? DEFAULTS[name]]));
}

/* The light that the controls change: the photo's own, or the one taken from the target photo. */
function photoLight() {
  const { settings, source } = session;
  return (takes(settings, "light") ? settings.target : source).found.light;
}

const without = () => Object.fromEntries(LAMP.map((name) => [name, undefined]));
const reset = () => session.control({ ...without(), light_turn: undefined }, "Own light");

function draw() {
  const { controls } = session.settings;
  const now = lampNow();
  const isLamp = Boolean(controls.light_direction);
  const light = isLamp ? lampLight(now.light_direction, now.light_colour, now.light_intensity, now.light_ambient) : photoLight();
  requestAnimationFrame(() => drawBall(canvas, light, isLamp ? 0 : controls.light_turn ?? 0));
  placeLamp(now, isLamp);
  parts.strength.set(now.light_intensity, isLamp && now.light_intensity !== DEFAULTS.light_intensity);
  parts.ambient.set(now.light_ambient, isLamp && now.light_ambient !== DEFAULTS.light_ambient);
  parts.turn.set(controls.light_turn ?? 0, "light_turn" in controls);
  parts.own.value = toHex(now.light_colour);
  parts.setups.forEach((button, index) => {
    const isNow = isLamp && String(exact(SETUPS[index][1])) === String(now.light_direction);
    button.setAttribute("aria-pressed", String(isNow));
  });
  for (const { colour, input } of parts.swatches) input.checked = isLamp && String(colour) === String(now.light_colour);
}

function placeLamp({ light_direction: direction, light_colour: colour }, isLamp) {
  const unit = normalised(direction);
  const [x, y] = pointOf(unit);
  lamp.hidden = !isLamp;
  lamp.style.left = `${50 + 50 * x}%`;
  lamp.style.top = `${50 - 50 * y}%`;
  lamp.style.setProperty("--lamp", toHex(colour));
  lamp.classList.toggle("behind", unit[2] < 0);
  const place = placeText(unit);
  ball.setAttribute("aria-valuenow", Math.round(anglesOf(unit).azimuth));
  ball.setAttribute("aria-valuetext", isLamp ? place : `The photo’s own light, ${place}`);
  hint.textContent = isLamp ? `Light ${place}.` : "The photo’s own light. Drag on the ball to place a lamp; past its edge, behind the head.";
}

const anglesOf = ([x, y, z]) => ({ azimuth: (Math.atan2(x, z) * 180) / Math.PI, height: (Math.asin(Math.max(-1, Math.min(1, y))) * 180) / Math.PI });

function placeText(unit) {
  const { azimuth, height } = anglesOf(unit);
  const [side, up] = [Math.round(Math.abs(azimuth)), Math.round(Math.abs(height))];
  const from = side > 90 ? "from behind" : "from the front";
  const aside = side % 180 === 0 ? "" : `, ${side}° to the ${azimuth > 0 ? "right" : "left"}`;
  return `${from}${aside}${up ? `, ${up}° ${height > 0 ? "above" : "below"}` : ""}`;
}

function startBall() {
  let held = false;
  const point = (event) => {
    const box = ball.getBoundingClientRect();
    const [x, y] = [(2 * (event.clientX - box.left)) / box.width - 1, 1 - (2 * (event.clientY - box.top)) / box.height];
    shine({ light_direction: directionAt(x, y) }, "Light");
  };
  ball.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    held = true;
    ball.setPointerCapture(event.pointerId);
    point(event);
  });
  ball.addEventListener("pointermove", (event) => held && point(event));
  for (const end of ["pointerup", "pointercancel"]) ball.addEventListener(end, () => (held = false));
  ball.addEventListener("keydown", (event) => {
    if (!(event.key in MOVES) || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    shine({ light_direction: moved(lampNow().light_direction, MOVES[event.key], event.shiftKey) }, "Light");
  });
}

function moved(direction, [right, up], far) {
  const step = far ? LONG_STEP_DEGREES : STEP_DEGREES;
  const { azimuth, height } = anglesOf(normalised(direction));
  const [a, h] = [azimuth + right * step, Math.max(-85, Math.min(85, height + up * step))].map((angle) => (angle * Math.PI) / 180);
  return [Math.cos(h) * Math.sin(a), Math.sin(h), Math.cos(h) * Math.cos(a)];
}

const toHex = (colour) => `#${colour.map((value) => Math.round(255 * value).toString(16).padStart(2, "0")).join("")}`;
const fromHex = (hex) => [1, 3, 5].map((at) => Math.round((1000 * parseInt(hex.slice(at, at + 2), 16)) / 255) / 1000);
