/* The left picture: what was found in the photo, and what the edit follows. The head in it can be dragged. */
import { show } from "./files.js";
import { $, radios, svg } from "./dom.js";
import { effectivePose, turnHead } from "./head.js";
import { pose } from "./previews.js";
import { session } from "./session.js";

const NAMES = { photo: "Photo", points: "Points", mesh: "Mesh", rendered: "Render", normal: "Normals", albedo: "Albedo" };
const HINTS = {
  photo: "The square that is edited, as it was found in the photo.",
  points: "The 68 landmarks that the head was fitted to.",
};
const DEGREES_ACROSS = 110; // a drag over the whole width
const STEP_DEGREES = 2;
const LONG_STEP_DEGREES = 10;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

let layers;
let angles = null; // how the head stands in the guide

export function startGuide() {
  layers = radios($("layers"), "segment", layerNames(), (layer) => session.showLayer(layer));
  session.on("layer source", draw);
  pose.addEventListener("pose", ({ detail }) => {
    angles = detail;
    tellPose();
  });
  startDrag($("guide"));
}

function layerNames() {
  const order = ["mesh", "rendered", "normal", "albedo"];
  const known = order.filter((layer) => session.options.layers.includes(layer));
  return ["photo", "points", ...known].map((layer) => [layer, NAMES[layer]]);
}

function draw() {
  const { layer, source } = session;
  layers.set(layer);
  if (!source) return;
  $("guide").classList.toggle("still", layer in HINTS);
  $("guide-marks").replaceChildren();
  if (layer === "photo") {
    show($("guide-picture"), source.url);
    drawCrop(source.found);
  }
  if (layer === "points") {
    show($("guide-picture"), source.portrait);
    drawPoints(source.found);
  }
  tellPose();
}

function tellPose() {
  const { layer, source } = session;
  const found = source?.found.warnings.join("; ");
  if (layer in HINTS) $("guide-hint").textContent = HINTS[layer] + (found ? ` Note: ${found}.` : "");
  else if (angles) {
    const [yaw, pitch, roll] = [angles.yaw, angles.pitch, angles.roll].map((angle) => `${Math.round(angle)}°`.replace("-", "−"));
    $("guide-hint").textContent = `Drag the head to turn it. Yaw ${yaw}, pitch ${pitch}, roll ${roll}.`;
  } else $("guide-hint").textContent = "Drag the head to turn it.";
}

function drawCrop({ crop, photo_size: [width, height] }) {
  const marks = $("guide-marks");
  marks.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const corners = crop.map((corner) => corner.join(" ")).join(" L ");
  const around = `M 0 0 H ${width} V ${height} H 0 Z`;
  marks.append(
    svg("path", { class: "mark-shade", d: `${around} M ${corners} Z`, "fill-rule": "evenodd" }),
    svg("path", { class: "mark-crop", d: `M ${corners} Z` }),
  );
}

function drawPoints({ landmarks }) {
  const marks = $("guide-marks");
  marks.setAttribute("viewBox", "0 0 100 100");
  marks.append(...landmarks.map(([x, y]) => svg("circle", { class: "mark-point", cx: 100 * x, cy: 100 * y, r: 0.8 })));
}

function startDrag(square) {
  let from = null;
  square.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    square.setPointerCapture(event.pointerId);
    from = { x: event.clientX, y: event.clientY, pose: effectivePose() };
  });
  square.addEventListener("pointermove", (event) => {
    if (!from) return;
    const degrees = DEGREES_ACROSS / square.clientWidth;
    const [x, y] = [event.clientX - from.x, event.clientY - from.y];
    turnHead({ yaw: from.pose.yaw + x * degrees, pitch: from.pose.pitch - y * degrees });
  });
  for (const end of ["pointerup", "pointercancel"]) square.addEventListener(end, () => (from = null));
  square.addEventListener("keydown", (event) => {
    if (!(event.key in ARROWS) || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const [x, y] = ARROWS[event.key].map((way) => way * (event.shiftKey ? LONG_STEP_DEGREES : STEP_DEGREES));
    const now = effectivePose();
    turnHead({ yaw: now.yaw + x, pitch: now.pitch + y });
  });
}
