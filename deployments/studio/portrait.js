/* The right picture: the photo as it was, the edit over it, a slider between them; and saving it. */
import { call, patiently } from "./api.js";
import { $, radios } from "./dom.js";
import { download, pngFrom, show, stem } from "./files.js";
import { kept } from "./history.js";
import { problemsOf, showProblems } from "./problems.js";
import { editRequestOf, session } from "./session.js";
import { withTokens } from "./source.js";

const VIEWS = [["portrait", "Portrait"], ["whole", "Whole photo"]];

let view = "portrait";
let views;

export function startPortrait() {
  views = radios($("views"), "segment", VIEWS, (chosen) => {
    view = chosen;
    draw();
  });
  session.on("source", () => (view = "portrait"));
  session.on("entry", draw);
  $("compare").addEventListener("click", toggleCompare);
  $("split-at").addEventListener("input", drawSplit);
  $("save").addEventListener("click", save);
}

function draw() {
  const entry = session.history.current;
  const { source } = session;
  views.set(view);
  views.inputs.get("whole").disabled = !entry.answer;
  if (view === "whole" && entry.answer) return drawWhole(entry);
  view = "portrait";
  views.set(view);
  show($("before"), source.portrait);
  place(entry.picture);
}

/* An edit over the photo; a state whose edit is not there yet shows the last one before it meanwhile. */
function place(picture) {
  const { entries, at } = session.history;
  const shown = picture ?? entries.slice(0, at).findLast((entry) => entry.picture)?.picture;
  if (shown) show($("after"), shown.url);
  $("after").hidden = !shown;
  $("compare").disabled = $("save").disabled = !picture;
  if (!shown) $("compare").setAttribute("aria-pressed", "false");
  drawSplit();
}

async function drawWhole(entry) {
  show($("before"), session.source.url);
  if (entry.whole) return place(entry.whole);
  $("after").hidden = $("compare").disabled = $("save").disabled = true;
  drawSplit();
  try {
    entry.whole = kept(await pasted(entry));
  } catch (error) {
    showProblems($("edit-problems"), problemsOf(error));
  }
  if (entry === session.history.current && view === "whole" && entry.whole) place(entry.whole);
}

/* The edit at its place in the photo. The same settings and seed: the same face. */
async function pasted({ settings }) {
  const photo = session.source;
  const ask = () => {
    const json = { ...editRequestOf({ ...settings, size: null }, photo), paste_back: true, answer: "json" };
    return withTokens([photo, settings.target], () => call("v1/edits", { method: "POST", json }));
  };
  const answer = await (await patiently(ask, { onWait: (text) => text && ($("edit-status").textContent = text) })).json();
  return pngFrom(answer.image);
}

export function toggleCompare() {
  if ($("compare").disabled) return;
  const on = $("compare").getAttribute("aria-pressed") !== "true";
  $("compare").setAttribute("aria-pressed", String(on));
  drawSplit();
}

function drawSplit() {
  const on = $("compare").getAttribute("aria-pressed") === "true" && !$("after").hidden;
  const at = $("split-at").value;
  $("split").hidden = !on;
  $("split").style.setProperty("--at", `${at}%`);
  $("after").style.clipPath = on ? `inset(0 0 0 ${at}%)` : "";
}

function save() {
  const { current } = session.history;
  const { blob } = view === "whole" ? current.whole : current.picture;
  const { answer } = current;
  download(blob, `${stem(session.source.file.name)}-${answer.identity}-${answer.seed}${view === "whole" ? "-whole" : ""}.png`);
}
