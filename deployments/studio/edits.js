/* The edit: it starts when the hand rests, refines while it is looked at, and stops at the next move. */
import { Lost, patiently, Refusal, stream } from "./api.js";
import { pngFrom, show } from "./files.js";
import { $ } from "./dom.js";
import { kept } from "./history.js";
import { problemsOf, showProblems } from "./problems.js";
import { editRequestOf, session } from "./session.js";
import { withTokens } from "./source.js";

const REST_MS = 450;

let resting = null; // the timer
let running = null; // the AbortController

export function startEdits() {
  session.on("change", (event) => {
    stop();
    if (event.detail?.byHand) resting = setTimeout(settle, REST_MS);
  });
  session.on("entry", tellEntry);
  $("edit-now").addEventListener("click", () => (resting ? settle() : edit(session.history.current)));
}

/* What the hand has changed becomes a state of the history, and is edited. */
function settle() {
  const entry = remember();
  if (entry) edit(entry);
}

function remember() {
  clearTimeout(resting);
  if (!resting) return null;
  resting = null;
  const entry = session.history.push(session.settings, session.label);
  session.tell("entry");
  return entry;
}

export function undo() {
  remember(); // so that it can be done again
  travel(session.history.at - 1);
}

export const redo = () => travel(session.history.at + 1);

/* To another state; what was edited once is not edited again. */
export function travel(index) {
  const { history } = session;
  if (index < 0 || index >= history.entries.length) return;
  session.go(index);
  if (index > 0 && !history.current.answer) edit(history.current);
}

function stop() {
  clearTimeout(resting);
  resting = null;
  running?.abort();
  running = null;
  $("refining").hidden = true;
}

async function edit(entry) {
  stop();
  const { signal } = (running = new AbortController());
  const photo = session.source;
  showProblems($("edit-problems"), []);
  tell("Editing…");
  $("refining").value = 0;
  $("refining").hidden = false;
  try {
    const again = () => withTokens([photo, entry.settings.target], () => refine(entry, photo, signal));
    await patiently(again, { signal, onWait: (text) => tell(text || "Editing…") });
  } catch (error) {
    if (signal.aborted) return;
    tell("Not edited.");
    showProblems($("edit-problems"), problemsOf(error));
  }
  if (running?.signal === signal) stop();
}

async function refine(entry, photo, signal) {
  for await (const { event, data } of stream("v1/edits:stream", { json: editRequestOf(entry.settings, photo), signal })) {
    if (signal.aborted) return;
    if (event === "progress") await progress(data);
    if (event === "problem") throw new Refusal(data.status, data.problems);
    if (event === "result") {
      entry.forget();
      entry.whole = null;
      entry.answer = data;
      entry.picture = kept(pngFrom(data.image));
      session.tell("entry");
      return;
    }
  }
  throw new Lost(); // it ended without a result
}

async function progress({ step, steps, image }) {
  $("refining").max = steps;
  $("refining").value = step;
  $("after").hidden = false;
  if (image) await show($("after"), pngFrom(image));
}

function tellEntry() {
  const { answer, settings } = session.history.current;
  showProblems($("edit-problems"), []);
  if (!answer) return tell(session.history.at === 0 ? "The photo as it is. Change something to edit it." : "");
  const model = answer.identity === "base" ? "base model" : `${answer.identity}, version ${answer.version}`;
  const seconds = answer.timings?.total ? ` in ${answer.timings.total.toFixed(1)} s` : "";
  const warnings = answer.warnings.length ? ` Note: ${answer.warnings.join("; ")}.` : "";
  tell(`Edited with the ${model}${seconds}, seed ${answer.seed}${settings.steps ? `, ${settings.steps} steps` : ""}.${warnings}`);
}

function tell(text) {
  $("edit-status").textContent = text;
}
