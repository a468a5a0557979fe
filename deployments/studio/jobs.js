/* Long work on the server: how far it is, cancel, what came of it. It goes on while the studio is used or closed. */
import { call, patiently } from "./api.js";
import { open } from "./dialogs.js";
import { $, button, el } from "./dom.js";
import { download } from "./files.js";
import { problemsOf, showProblems } from "./problems.js";
import { session } from "./session.js";

const ASK_AGAIN_MS = 1000;
const STATES = { waiting: "waiting for its turn", running: "running", done: "done", failed: "failed", cancelled: "cancelled" };
const KINDS = { video: "Video", identity: "Person" };

const jobs = new Map(); // id -> {job, title, card, drawn}

export const isOver = ({ state }) => state === "done" || state === "failed" || state === "cancelled";

/* Shows a job that was started, and follows it to its end. `title` is what it is called here. */
export async function follow(job, title = null) {
  const shown = { job, title: title ?? `${KINDS[job.kind]} ${job.identity}`, card: el("article", { class: "job" }), drawn: null };
  jobs.set(job.id, shown);
  draw();
  while (!isOver(shown.job) && jobs.has(job.id)) {
    await new Promise((resolve) => setTimeout(resolve, ASK_AGAIN_MS));
    try {
      shown.job = await patiently(async () => (await call(`v1/jobs/${job.id}`)).json());
    } catch (error) {
      shown.job = { ...shown.job, state: "failed", problems: problemsOf(error) };
    }
    draw();
  }
  if (shown.job.kind === "identity" && shown.job.state === "done") session.tell("people");
}

export async function startJobs() {
  $("jobs-open").addEventListener("click", () => open("jobs-dialog"));
  draw();
  await findJobs();
}

/* Those that were begun elsewhere, or before the page was loaded, or whose answer was lost. */
export async function findJobs() {
  const listed = await patiently(async () => (await call("v1/jobs")).json());
  for (const job of listed.jobs.reverse()) if (!jobs.has(job.id)) follow(job);
}

function draw() {
  const all = [...jobs.values()].reverse();
  drawPill(all.map(({ job }) => job));
  for (const shown of all) drawCard(shown);
  const cards = all.map(({ card }) => card);
  const body = $("jobs-body");
  if (!cards.length) return body.replaceChildren(el("p", { class: "empty" }, "Nothing runs. Videos and new people appear here."));
  if (cards.length !== body.children.length || cards.some((card, index) => body.children[index] !== card)) body.replaceChildren(...cards);
}

function drawPill(all) {
  const running = all.filter((job) => !isOver(job));
  const [shown] = running.length ? running : all;
  $("jobs-open").hidden = !shown;
  if (!shown) return;
  $("jobs-open").className = `pill ${isOver(shown) ? shown.state : ""}`;
  const text = isOver(shown) ? STATES[shown.state] : `${share(shown)} %`;
  $("jobs-text").textContent = running.length > 1 ? `${running.length} jobs` : `${KINDS[shown.kind]} ${text}`;
}

const share = ({ done, total }) => Math.floor((100 * done) / Math.max(1, total ?? 1));

function drawCard(shown) {
  const { job, title, card } = shown;
  if (shown.drawn !== job.state) {
    shown.drawn = job.state;
    card.replaceChildren(el("div", { class: "job-head" }, el("h3", {}, title), el("span", { class: "job-state" })), ...content(shown));
  }
  card.querySelector(".job-state").textContent = stateText(job);
  const bar = card.querySelector("progress");
  if (bar && job.total) Object.assign(bar, { max: job.total, value: job.done });
}

function stateText(job) {
  if (job.state !== "running") return STATES[job.state] ?? job.state;
  const left = job.seconds_left === null ? "" : `, about ${duration(job.seconds_left)} left`;
  const count = job.total ? `${job.done.toLocaleString("en")} of ${job.total.toLocaleString("en")} ${job.unit}s` : STATES.running;
  return `${job.message ? `${job.message}: ` : ""}${count}${left}`;
}

const duration = (seconds) => (seconds < 90 ? `${Math.max(1, Math.round(seconds))} s` : `${Math.round(seconds / 60)} min`);

function content(shown) {
  const { job } = shown;
  if (!isOver(job)) {
    const cancel = button("Cancel", { class: "plain small", onclick: () => remove(shown) });
    return [el("progress", { "aria-label": "Progress" }), el("div", { class: "job-foot" }, cancel)];
  }
  const parts = [];
  if (job.problems.length) {
    const place = el("div");
    showProblems(place, job.problems);
    parts.push(place);
  }
  if (job.report) parts.push(report(job.report));
  if (job.state === "done" && job.kind === "video") parts.push(player(job));
  parts.push(el("div", { class: "job-foot" }, ...(job.kind === "video" && job.state === "done" ? [saveButton(job)] : []), button("Remove", { class: "plain small", onclick: () => remove(shown) })));
  return parts;
}

/* The key travels in a header, so that the player cannot ask for the file itself. */
const resultOf = (job) => patiently(async () => (await call(`v1/jobs/${job.id}/result`)).blob());

function player(job) {
  const video = el("video", { controls: true, loop: true, playsinline: true, "aria-label": "The edited video" });
  resultOf(job).then((blob) => (video.src = URL.createObjectURL(blob)), (error) => video.replaceWith(problemPlace(error)));
  return video;
}

const saveButton = (job) => button("Save MP4", { class: "plain small", onclick: async () => download(await resultOf(job), `drig-${job.id}.mp4`) }, "save");

function problemPlace(error) {
  const place = el("div");
  showProblems(place, problemsOf(error));
  return place;
}

async function remove(shown) {
  try {
    await patiently(() => call(`v1/jobs/${shown.job.id}`, { method: "DELETE" }));
  } catch (error) {
    if (error.status !== 404) return shown.card.append(problemPlace(error));
  }
  jobs.delete(shown.job.id);
  draw();
}

/* What the doctor says of an album, in words. */
function report({ advice, photos, rejects, before_psnr: before, after_psnr: after }) {
  const items = advice.map((text) => el("li", { class: "warning" }, text));
  for (const { photo, reason } of rejects) items.push(el("li", { class: "error" }, `${photo} could not be used: ${reason}.`));
  if (before && after) {
    const gain = after - before;
    const verdict = gain > 0 ? `The model now knows this face: ${gain.toFixed(1)} dB closer to held-out photos.` : "The model did not come closer to held-out photos; more and different photos help.";
    items.unshift(el("li", { class: gain > 0 ? "good" : "warning" }, `${verdict} (${before.toFixed(1)} → ${after.toFixed(1)} dB PSNR)`));
  }
  return el("div", { class: "stack" }, el("p", {}, `${photos} photos were used.`), el("ul", { class: "advice" }, ...items));
}
