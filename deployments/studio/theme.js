/* Dark or light: as the system has it until the switch is used. */
import { $ } from "./dom.js";

const STORED = "drig-theme";
const dark = matchMedia("(prefers-color-scheme: dark)");
const root = document.documentElement;

const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);

export function startTheme() {
  const stored = localStorage.getItem(STORED);
  if (stored) root.dataset.theme = stored;
  $("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    localStorage.setItem(STORED, root.dataset.theme);
  });
}
