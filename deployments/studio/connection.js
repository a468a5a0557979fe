/* Whether the server can be reached. Whoever loses it waits here until it is back. */
import { $ } from "./dom.js";

const FIRST_TRY_MS = 500;
const LONGEST_PAUSE_MS = 5000;
const SAID_FOR_MS = 2500;

let returning = null;

/* Resolves when the server answers again; asks for it in growing intervals, and at once when the network comes back. */
export function untilBack() {
  returning ??= probe().finally(() => (returning = null));
  return returning;
}

async function probe() {
  say("No connection to the server. Your work is kept; trying again…");
  for (let pause = FIRST_TRY_MS; !(await answers()); pause = Math.min(1.6 * pause, LONGEST_PAUSE_MS)) await networkOr(pause);
  say("Connected again.");
  setTimeout(() => returning ?? say(""), SAID_FOR_MS);
}

async function answers() {
  try {
    return (await fetch("healthz", { cache: "no-store" })).ok;
  } catch {
    return false;
  }
}

function networkOr(milliseconds) {
  return new Promise((resolve) => {
    const done = () => {
      removeEventListener("online", done);
      clearTimeout(timer);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    addEventListener("online", done);
  });
}

function say(text) {
  $("banner").textContent = text;
  $("banner").hidden = !text;
}
