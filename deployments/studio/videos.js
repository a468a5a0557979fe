/* A video: the photo moves as a driving clip does. */
import { call, patiently } from "./api.js";
import { open } from "./dialogs.js";
import { $, button, el, field } from "./dom.js";
import { onDrop, stem } from "./files.js";
import { follow } from "./jobs.js";
import { problemsOf, showProblems } from "./problems.js";
import { session } from "./session.js";
import { withTokens } from "./source.js";

const TAKES = [
  ["exp", "Expression", true],
  ["pose", "Head pose", true],
  ["light", "Light", false],
];
const FRAME_RATES = [8, 12, 24];

export function startVideos() {
  $("video-open").addEventListener("click", openVideo);
}

function openVideo() {
  const parts = {
    file: null,
    name: el("p", { class: "fine", role: "status" }),
    boxes: TAKES.map(([mode, , on]) => el("input", { type: "checkbox", value: mode, checked: on })),
    fps: el("select", {}, ...FRAME_RATES.map((rate) => el("option", { value: rate, selected: rate === 12 }, `${rate} frames a second`))),
    keep: el("input", { type: "checkbox", checked: true }),
    problems: el("div"),
    status: el("p", { class: "fine", role: "status" }),
    submit: el("button", { type: "submit", class: "primary" }, "Make the video"),
  };
  const form = el(
    "form",
    { class: "stack" },
    clip(parts),
    el("div", { class: "two" }, takes(parts), field("Speed", parts.fps)),
    el("label", { class: "check" }, parts.keep, el("span", {}, "Keep what is set by hand", el("small", {}, "the light, head and expression of the picture now, in every frame"))),
    parts.problems,
    el("div", { class: "sheet-foot" }, parts.status, button("Cancel", { onclick: () => $("video-dialog").close() }), parts.submit),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    make(parts);
  });
  $("video-body").replaceChildren(form);
  open("video-dialog");
}

function clip(parts) {
  const input = el("input", { type: "file", accept: "video/mp4", hidden: true, "aria-label": "Driving clip" });
  const take = (file) => {
    parts.file = file;
    parts.name.textContent = file.name;
  };
  input.addEventListener("change", () => input.files[0] && take(input.files[0]));
  const most = session.options.limits.frames;
  const about = `A clip of one face, of anyone, as MP4; up to ${most} frames are used.`;
  const place = el("div", { class: "drop drop-small" }, el("p", { class: "fine" }, about), button("Choose a clip", { onclick: () => input.click() }, "film"), input, parts.name);
  onDrop(place, ([file]) => take(file));
  return el("div", { class: "field", role: "group", "aria-label": "Driving clip" }, el("span", {}, "Driving clip"), place);
}

function takes({ boxes }) {
  const labels = boxes.map((box, index) => el("label", { class: "check" }, box, el("span", {}, TAKES[index][1])));
  return el("fieldset", {}, el("legend", { class: "small-title" }, "Take from the clip"), ...labels);
}

async function make(parts) {
  const { source, settings } = session;
  const modes = parts.boxes.filter((box) => box.checked).map((box) => box.value);
  if (!parts.file) return showProblems(parts.problems, [{ what: "There is no clip yet.", do: "Choose an MP4 file." }]);
  if (!modes.length) return showProblems(parts.problems, [{ what: "Nothing is taken from the clip.", do: "Tick expression, head pose or light." }]);
  showProblems(parts.problems, []);
  parts.submit.disabled = true;
  const wait = (text) => (parts.status.textContent = text || "Sending the clip…");
  wait();
  try {
    const send = () => withTokens([source], () => call("v1/videos", { method: "POST", form: videoForm(parts, modes) }));
    const job = await (await patiently(send, { onWait: wait })).json();
    $("video-dialog").close();
    open("jobs-dialog");
    follow(job, `${stem(source.file.name)} as ${settings.identity}, driven by ${parts.file.name}`);
  } catch (error) {
    showProblems(parts.problems, problemsOf(error));
  }
  parts.submit.disabled = false;
  parts.status.textContent = "";
}

function videoForm({ file, fps, keep }, modes) {
  const { source, settings } = session;
  const form = new FormData();
  form.append("source_token", source.token);
  form.append("driving", file, file.name);
  for (const mode of modes) form.append("modes", mode);
  for (const name of ["identity", "sampler", "seed"]) form.append(name, settings[name]);
  for (const name of ["steps", "size"]) if (settings[name]) form.append(name, settings[name]);
  form.append("fps", fps.value);
  for (const [name, value] of Object.entries(keep.checked ? settings.controls : {})) {
    form.append(name, Array.isArray(value) ? value.join(",") : typeof value === "object" ? JSON.stringify(value) : value);
  }
  return form;
}
