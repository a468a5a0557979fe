/* The people whose models can edit: choosing one, adding one, deleting one. */
import { call, patiently } from "./api.js";
import { open } from "./dialogs.js";
import { $, button, el, field, icon } from "./dom.js";
import { openCreate } from "./identity_form.js";
import { problemsOf, showProblems } from "./problems.js";
import { session } from "./session.js";

const BASE = "base";
const SEARCH_FROM = 8; // people

const search = el("input", { type: "search", placeholder: "Search by name", "aria-label": "Search people" });
const searchRow = el("div", { class: "search" }, icon("search"), search);
const list = el("div", { class: "people" });
const problems = el("div");

export function startIdentities() {
  const add = button("Add a person", { onclick: openCreate }, "plus");
  const about = el("p", { class: "fine" }, "The base model knows nobody. A model of one person, made from an album, keeps who they are through an edit.");
  $("identity-body").append(about, searchRow, problems, list, el("div", { class: "sheet-foot" }, add));
  $("identity-open").addEventListener("click", () => {
    open("identity-dialog");
    refresh();
  });
  search.addEventListener("input", draw);
  session.on("change", drawName);
  session.on("people", refresh);
  refresh();
}

async function refresh() {
  try {
    const answer = await patiently(async () => (await call("v1/identities")).json());
    session.identities = answer.identities;
    showProblems(problems, []);
  } catch (error) {
    showProblems(problems, problemsOf(error));
  }
  draw();
  drawName();
}

function drawName() {
  $("identity-name").textContent = session.settings.identity;
}

function draw() {
  const wanted = search.value.trim().toLowerCase();
  const found = session.identities.filter(({ name }) => name.toLowerCase().includes(wanted));
  searchRow.hidden = session.identities.length < SEARCH_FROM;
  const none = el("p", { class: "empty" }, session.identities.length ? "Nobody has this name." : "No models yet.");
  list.replaceChildren(...(found.length ? found.map(card) : [none]));
}

function card(identity) {
  const { name } = identity;
  const isChosen = name === session.settings.identity;
  const text = el("span", {}, el("span", { class: "person-name" }, name), el("span", { class: "person-about" }, about(identity)), identity.consent && el("span", { class: "person-about" }, consentText(identity.consent)));
  const mark = el("span", { class: "person-mark", "aria-hidden": "true" }, name.charAt(0));
  const choose = el("button", { type: "button", class: "person-pick", "aria-pressed": String(isChosen), onclick: () => pick(name) }, mark, text);
  const remove = name === BASE ? null : el("button", { type: "button", class: "icon", title: `Delete ${name}`, onclick: () => openDelete(name) }, icon("bin"), el("span", { class: "hidden" }, `Delete ${name}`));
  return el("div", { class: `person ${isChosen ? "chosen" : ""}` }, choose, remove);
}

function about({ name, version, photos, size, created }) {
  const facts = [`${size} px`, `version ${version}`];
  if (photos) facts.unshift(`${photos} photos`);
  if (name === BASE) facts.unshift("knows nobody");
  else facts.push(date(created));
  return facts.join(" · ");
}

const consentText = ({ by, at }) => `Consent: ${by}, ${date(at)}`;

const date = (iso) => new Date(iso).toLocaleDateString(undefined, { day: "numeric", month: "short", year: "numeric" });

function pick(name) {
  $("identity-dialog").close();
  if (name === session.settings.identity) return;
  if (session.source) session.change({ identity: name }, name);
  else session.settings = Object.freeze({ ...session.settings, identity: name });
  drawName();
  draw();
}

function openDelete(name) {
  const typed = el("input", { type: "text", autocomplete: "off", autocapitalize: "none", spellcheck: "false" });
  const confirm = el("button", { type: "submit", class: "danger", disabled: true }, icon("bin"), "Delete for good");
  const place = el("div");
  typed.addEventListener("input", () => (confirm.disabled = typed.value !== name));
  const form = el(
    "form",
    { class: "stack" },
    el("p", {}, "Deletes the model of ", el("strong", {}, name), ", its album and everything made from it, everywhere. This cannot be undone."),
    field(`Type ${name} to confirm`, typed),
    place,
    el("div", { class: "sheet-foot" }, button("Keep", { onclick: () => $("delete-dialog").close() }), confirm),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    confirm.disabled = true;
    remove(name, place).finally(() => (confirm.disabled = typed.value !== name));
  });
  $("delete-body").replaceChildren(form);
  open("delete-dialog");
  typed.focus();
}

async function remove(name, place) {
  try {
    const answer = await patiently(async () => (await call(`v1/identities/${encodeURIComponent(name)}`, { method: "DELETE" })).json());
    $("delete-body").replaceChildren(...removed(answer));
    $("delete-body").querySelector("button").focus();
  } catch (error) {
    return showProblems(place, problemsOf(error));
  }
  if (session.settings.identity === name) pick(BASE);
  refresh();
}

function removed({ name, removed: gone, remains }) {
  const close = button("Done", { class: "primary", onclick: () => $("delete-dialog").close() });
  const rest = el("div");
  if (remains.length) showProblems(rest, [{ what: `Something of ${name} is still there: ${remains.join(", ")}`, do: "Tell whoever runs this server." }]);
  else rest.append(el("p", { role: "status" }, `A search found nothing of ${name} any more.`));
  return [el("h3", {}, `${name} was deleted`), el("ul", { class: "removed" }, ...gone.map((one) => el("li", {}, one))), rest, el("div", { class: "sheet-foot" }, close)];
}
