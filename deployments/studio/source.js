/* Photos on the server: sent once, known by a token, sent again when the server has forgotten them. */
import { call, patiently, Refusal } from "./api.js";
import { choosePhoto, onDrop, onPaste } from "./files.js";
import { $, el, icon } from "./dom.js";
import { problemsOf, showProblems } from "./problems.js";
import { session } from "./session.js";

const MIB = 1024 * 1024;

/* A photo and what the server found in it. */
export class Photo {
  url; // of the file
  portrait; // URL of the aligned crop
  found; // the answer of POST /v1/sources
  #sending = null;

  constructor(file) {
    this.file = file;
    this.url = URL.createObjectURL(file);
  }

  get token() {
    return this.found.token;
  }

  async send({ aligned = false, onWait } = {}) {
    checkSize(this.file);
    const form = new FormData();
    form.append("photo", this.file, this.file.name);
    form.append("aligned", String(aligned));
    this.aligned = aligned;
    this.found = await patiently(async () => (await call("v1/sources", { method: "POST", form })).json(), { onWait });
    this.portrait ??= URL.createObjectURL(await this.picture("portrait"));
    return this;
  }

  picture(name) {
    return patiently(async () => (await call(`v1/sources/${this.token}/pictures/${name}`)).blob());
  }

  /* Sends it again if the server does not know it any more; whether it had to. */
  async renew() {
    try {
      await call(`v1/sources/${this.token}`);
      return false;
    } catch (error) {
      if (error.status !== 404) throw error;
    }
    this.#sending ??= this.send({ aligned: this.aligned }).finally(() => (this.#sending = null));
    await this.#sending;
    return true;
  }

  forget() {
    for (const url of [this.url, this.portrait]) if (url) URL.revokeObjectURL(url);
    call(`v1/sources/${this.token}`, { method: "DELETE" }).catch(() => {}); // it expires by itself
  }
}

/* `work` with tokens of these photos: where it fails because one has expired, the photo is sent again. */
export async function withTokens(photos, work) {
  try {
    return await work();
  } catch (error) {
    if (error.status !== 404) throw error;
    const renewed = await Promise.all(photos.filter(Boolean).map((photo) => photo.renew()));
    if (!renewed.includes(true)) throw error;
    return work();
  }
}

function checkSize(file) {
  const most = session.options?.limits.upload_mib;
  if (!most || file.size <= most * MIB) return;
  const what = `${file.name} has ${(file.size / MIB).toFixed(1)} MiB.`;
  throw new Refusal(413, [{ what, allowed: `${most} MiB`, do: "Save it as JPEG, or with fewer pixels." }]);
}

/* Opens a photo to edit. */
export async function openPhoto(file, { aligned = false } = {}) {
  const opened = session.source;
  tellStatus("Looking for the face…");
  showProblems($("source-problems"), []);
  showProblems($("guide-problems"), []);
  try {
    const photo = await new Photo(file).send({ aligned, onWait: (text) => tellStatus(text || "Looking for the face…") });
    $("welcome").hidden = true;
    $("desk").hidden = $("edit-actions").hidden = false;
    session.open(photo);
    opened?.forget();
  } catch (error) {
    showProblems($(opened ? "guide-problems" : "source-problems"), problemsOf(error));
  } finally {
    tellStatus("");
  }
}

function tellStatus(text) {
  $("source-status").textContent = text;
  $("drop").classList.toggle("busy", Boolean(text));
  $("choose").disabled = Boolean(text);
  if (session.source) showOpening(text);
}

function showOpening(text) {
  $("guide-note").hidden = !text;
  $("guide-note").textContent = text;
}

export function startSource() {
  $("choose").addEventListener("click", () => choosePhoto(openPhoto));
  $("photo-new").addEventListener("click", () => choosePhoto(openPhoto));
  onDrop(document.body, ([file]) => openPhoto(file));
  onDrop($("drop"), ([file]) => openPhoto(file));
  onPaste(openPhoto);
}

/* A small place to drop or choose a photo. */
export function dropPlace(text, take) {
  const choose = el("button", { type: "button", class: "plain", onclick: () => choosePhoto(take) }, icon("photo"), "Choose a photo");
  const place = el("div", { class: "drop drop-small" }, el("p", { class: "fine" }, text), choose);
  onDrop(place, ([file]) => take(file));
  return place;
}
