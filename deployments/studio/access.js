/* The API key: asked for when the server wants one, kept for this tab only. */
import { $ } from "./dom.js";
import { open } from "./dialogs.js";
import { showProblems } from "./problems.js";

const STORED = "drig-key";
let asked = null;

export const key = () => sessionStorage.getItem(STORED);

/* Resolves once a key was entered; `problems` says what was wrong with the last one. */
export function askForKey(problems = []) {
  asked ??= Promise.withResolvers();
  showProblems($("key-problems"), key() ? problems : []);
  if (!$("key-dialog").open) open("key-dialog");
  return asked.promise;
}

export function startAccess(needed) {
  $("key-open").hidden = !needed;
  $("key-open").addEventListener("click", () => open("key-dialog"));
  $("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(STORED, $("key-input").value.trim());
    $("key-input").value = "";
    $("key-dialog").close();
    asked?.resolve();
    asked = null;
  });
}
