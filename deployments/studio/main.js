/* The studio: asks what the server can do, then starts its parts. */
import { startAccess } from "./access.js";
import { call, patiently } from "./api.js";
import { startDialogs } from "./dialogs.js";
import { $ } from "./dom.js";
import { startEdits } from "./edits.js";
import { startExpression } from "./expression.js";
import { startFinish } from "./finish.js";
import { startFrames } from "./frames.js";
import { startGuide } from "./guide.js";
import { startHead } from "./head.js";
import { startIdentities } from "./identities.js";
import { startJobs } from "./jobs.js";
import { startLight } from "./light.js";
import { startMatch } from "./match.js";
import { startPanels } from "./panels.js";
import { startPortrait, toggleCompare } from "./portrait.js";
import { startPreviews } from "./previews.js";
import { problemsOf, showProblems } from "./problems.js";
import { session } from "./session.js";
import { startSource } from "./source.js";
import { startStrip } from "./strip.js";
import { startTheme } from "./theme.js";
import { startVideos } from "./videos.js";
import { startWelcome } from "./welcome.js";

startTheme();
startDialogs();
startWelcome();
try {
  session.options = await patiently(async () => (await call("v1/options")).json());
  start();
} catch (error) {
  showProblems($("source-problems"), problemsOf(error));
}

function start() {
  const { limits, auth } = session.options;
  $("upload-limit").textContent = `, up to ${limits.upload_mib} MiB`;
  startAccess(auth);
  startSource();
  startPanels();
  for (const startPanel of [startLight, startHead, startExpression, startMatch, startFinish]) startPanel();
  startFrames();
  startGuide();
  startPortrait();
  startPreviews();
  startEdits();
  startStrip();
  startVideos();
  startIdentities();
  startJobs();
  addEventListener("keydown", (event) => {
    const typing = event.target.matches?.("input:not([type=range], [type=radio], [type=checkbox]), textarea, select");
    if (event.key.toLowerCase() === "b" && !event.ctrlKey && !event.metaKey && !typing && !document.querySelector("dialog[open]")) toggleCompare();
  });
  $("choose").disabled = false; // before, a click would be lost
  document.documentElement.dataset.ready = "true"; // tests wait for it
}
