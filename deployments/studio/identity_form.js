/* Adding a person: a name, an album, and who says that this person agrees. */
import { call, patiently } from "./api.js";
import { open } from "./dialogs.js";
import { $, button, el, field } from "./dom.js";
import { onDrop } from "./files.js";
import { findJobs, follow } from "./jobs.js";
import { problemsOf, showProblems } from "./problems.js";

const GOOD_ALBUM = "Ten to twenty photos of one person work best: different light, both sides, several expressions, the face large and sharp. Or one short video.";
const MOST_THUMBS = 24;

export function openCreate() {
  const parts = fields();
  const form = el(
    "form",
    { class: "stack" },
    field("Name", parts.name, "as it is asked for later, such as ada"),
    album(parts),
    consent(parts),
    el("label", { class: "check" }, parts.replace, el("span", {}, "If the name is taken, make a new version of that person")),
    el("label", { class: "check" }, parts.force, el("span", {}, "Train even if the check of the album finds faults")),
    parts.problems,
    el("div", { class: "sheet-foot" }, parts.status, button("Cancel", { onclick: () => $("create-dialog").close() }), parts.submit),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    create(parts);
  });
  $("create-body").replaceChildren(form);
  $("identity-dialog").close();
  open("create-dialog");
  parts.name.focus();
}

function fields() {
  const text = (properties) => el("input", { type: "text", autocomplete: "off", ...properties });
  return {
    name: text({ autocapitalize: "none", spellcheck: "false", required: true }),
    by: text({ autocomplete: "name", required: true }),
    agreed: el("input", { type: "checkbox", required: true }),
    replace: el("input", { type: "checkbox" }),
    force: el("input", { type: "checkbox" }),
    files: [],
    thumbs: el("div", { class: "thumbs" }),
    count: el("p", { class: "fine", role: "status" }),
    problems: el("div"),
    status: el("p", { class: "fine", role: "status" }),
    submit: el("button", { type: "submit", class: "primary" }, "Make the model"),
  };
}

function album(parts) {
  const input = el("input", { type: "file", multiple: true, accept: "image/png,image/jpeg,image/webp,video/mp4", hidden: true, "aria-label": "Photos of the album" });
  const add = (files) => {
    parts.files.push(...files);
    drawAlbum(parts);
  };
  input.addEventListener("change", () => {
    add([...input.files]);
    input.value = "";
  });
  const choose = button("Choose photos", { onclick: () => input.click() }, "photo");
  const place = el("div", { class: "drop drop-small" }, el("p", { class: "fine" }, GOOD_ALBUM), choose, input, parts.count, parts.thumbs);
  onDrop(place, add);
  return el("div", { class: "field", role: "group", "aria-label": "Album" }, el("span", {}, "Album"), place);
}

function drawAlbum({ files, thumbs, count }) {
  count.textContent = files.length ? `${files.length} ${files.length === 1 ? "file" : "files"}` : "";
  const pictures = files.filter((file) => file.type.startsWith("image/")).slice(0, MOST_THUMBS);
  for (const old of thumbs.querySelectorAll("img")) URL.revokeObjectURL(old.src);
  thumbs.replaceChildren(...pictures.map((file) => el("img", { src: URL.createObjectURL(file), alt: file.name })));
}

function consent({ by, agreed }) {
  const statement = el("span", {}, "The person in these photos knows that a model of their face will be made from them, and agrees to it.");
  return el(
    "fieldset",
    { class: "consent" },
    el("legend", {}, "Consent"),
    el("label", { class: "check" }, agreed, statement),
    field("Your name", by, "kept with the model: who said so, and when"),
  );
}

async function create(parts) {
  if (!parts.files.length) return showProblems(parts.problems, [{ what: "There are no photos yet.", do: "Choose the photos of the album, or one video." }]);
  const form = new FormData();
  form.append("name", parts.name.value.trim());
  form.append("consent_by", parts.by.value.trim());
  form.append("consent", String(parts.agreed.checked));
  for (const choice of ["replace", "force"]) if (parts[choice].checked) form.append(choice, "true");
  for (const file of parts.files) form.append("photos", file, file.name);
  showProblems(parts.problems, []);
  parts.submit.disabled = true;
  parts.status.textContent = "Sending the album…";
  try {
    const job = await (await patiently(() => call("v1/identities", { method: "POST", form }), { onWait: (text) => (parts.status.textContent = text || "Sending the album…") })).json();
    $("create-dialog").close();
    open("jobs-dialog");
    follow(job, form.get("name"));
  } catch (error) {
    showProblems(parts.problems, problemsOf(error));
    findJobs(); // where it is being made already, there its progress is
  }
  parts.submit.disabled = false;
  parts.status.textContent = "";
}
