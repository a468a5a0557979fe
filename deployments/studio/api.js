/* Requests to the API of this server, and what to do where it is busy, gone, or asks who you are. */
import { askForKey, key } from "./access.js";
import { untilBack } from "./connection.js";
import { events } from "./events.js";

const BUSY_SECONDS = 2; // where the server does not say how long

/* An answer that is an error: `problems` are [{what, allowed?, do?}]. */
export class Refusal extends Error {
  constructor(status, problems, retryAfter) {
    super(problems.map((problem) => problem.what).join("; "));
    Object.assign(this, { status, problems, retryAfter });
  }
}

/* No answer. */
export class Lost extends Error {
  problems = [{ what: "The connection to the server broke.", do: "Try again when it is back." }];
}

/* The response of one request. Paths are relative, so that the studio may live below any address. */
export async function call(path, { method = "GET", json, form, signal } = {}) {
  const headers = key() ? { Authorization: `Bearer ${key()}` } : {};
  if (json) headers["Content-Type"] = "application/json";
  const body = json ? JSON.stringify(json) : form;
  const response = await reached(fetch(path, { method, headers, body, signal }), signal);
  if (!response.ok) throw await refusal(response);
  return response;
}

/* The events of one request, as {event, data}. */
export async function* stream(path, { json, signal }) {
  const response = await call(path, { method: "POST", json, signal });
  const reader = events(response.body);
  for (;;) {
    const { done, value } = await reached(reader.next(), signal);
    if (done) return;
    yield value;
  }
}

/* `work` again and again until it is done or refused for good: after a pause where the server is busy, after the
   connection is back, after a key was given. `onWait` gets the text to show meanwhile, and "" at the end. */
export async function patiently(work, { signal, onWait = () => {} } = {}) {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (signal?.aborted) throw error;
      const [pause, text] = remedy(error);
      if (!pause) throw error;
      onWait(text);
      await unlessAborted(pause, signal);
      onWait("");
    }
  }
}

function remedy(error) {
  if (error instanceof Lost) return [untilBack(), "Waiting for the connection."];
  if (error.status === 401) return [askForKey(error.problems), "Waiting for an API key."];
  if (error.status !== 503 && error.status !== 429) return [null, ""];
  const seconds = error.retryAfter || BUSY_SECONDS;
  const pause = new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  return [pause, `The server is busy. Trying again in ${seconds} s.`];
}

function unlessAborted(promise, signal) {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason);
    signal.addEventListener("abort", stop, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
  });
}

async function reached(promise, signal) {
  try {
    return await promise;
  } catch (error) {
    throw signal?.aborted || !(error instanceof TypeError) ? error : new Lost();
  }
}

async function refusal(response) {
  const retryAfter = Number(response.headers.get("Retry-After"));
  try {
    return new Refusal(response.status, (await response.json()).problems, retryAfter);
  } catch {
    const problem = { what: `The server answered ${response.status} without saying why.`, do: "Try again in a while." };
    return new Refusal(response.status, [problem], retryAfter);
  }
}
