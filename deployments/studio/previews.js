/* The guide follows the hand: the newest settings win, and never more than one request is on its way. */
import { call, patiently } from "./api.js";
import { show } from "./files.js";
import { $ } from "./dom.js";
import { problemsOf, showProblems } from "./problems.js";
import { requestOf, session } from "./session.js";
import { withTokens } from "./source.js";

let running = false;
let wanted = false;
const pose = new EventTarget();

/* Tells ("pose" events) how the head stands in the guide. */
export { pose };

export function startPreviews() {
  session.on("change layer", ask);
}

function ask() {
  if (session.layer === "photo" || session.layer === "points") return;
  wanted = true;
  if (!running) follow();
}

async function follow() {
  running = true;
  while (wanted) {
    const photo = session.source;
    try {
      const response = await patiently(() => request(photo), { onWait: note });
      const [yaw, pitch, roll] = (response.headers.get("X-Drig-Pose") ?? "").split(",").map(Number);
      const blob = await response.blob();
      if (photo !== session.source || session.layer === "photo" || session.layer === "points") continue;
      await show($("guide-picture"), blob);
      showProblems($("guide-problems"), []);
      pose.dispatchEvent(new CustomEvent("pose", { detail: { yaw, pitch, roll } }));
    } catch (error) {
      if (photo === session.source) showProblems($("guide-problems"), problemsOf(error));
    }
  }
  running = false;
}

/* What is wanted now, also where it waited for a busy server meanwhile. */
function request(photo) {
  wanted = false;
  return withTokens([photo, session.settings.target], () => {
    const json = { ...requestOf(session.settings, photo), layer: session.layer };
    return call("v1/previews", { method: "POST", json });
  });
}

function note(text) {
  $("guide-note").hidden = !text;
  $("guide-note").textContent = text;
}
