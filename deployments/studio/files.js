/* Files in and out: dropped, chosen, pasted; pictures from base64; downloads. */
import { $ } from "./dom.js";

/* Files dropped on `element` go to `take`; it shows that it would take them. */
export function onDrop(element, take) {
  let inside = 0; // dragenter and dragleave come for every child, too
  const over = (change) => element.classList.toggle("over", (inside = Math.max(0, inside + change)) > 0);
  element.addEventListener("dragenter", () => over(1));
  element.addEventListener("dragleave", () => over(-1));
  element.addEventListener("dragover", (event) => event.preventDefault());
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    over(-inside);
    if (event.dataTransfer.files.length) take([...event.dataTransfer.files]);
  });
}

/* A photo from the clipboard, wherever on the page it is pasted. */
export function onPaste(take) {
  addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
    if (file) take(file);
  });
}

/* Opens the file chooser for one photo. */
export function choosePhoto(take) {
  const input = $("photo-file");
  input.onchange = () => {
    const [file] = input.files;
    input.value = ""; // the same file may be chosen again
    if (file) take(file);
  };
  input.click();
}

/* A PNG as the server wrote it: its bytes stay what they are, with the mark of provenance in them. */
export function pngFrom(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return new Blob([bytes], { type: "image/png" });
}

const showing = new WeakMap(); // <img> -> the URL of its picture, and whether it is the only one to use it

/* Shows a blob, or a URL that somebody else keeps, in an <img> once it is decoded: nothing flickers, the newest wins. */
export async function show(image, picture) {
  const mine = picture instanceof Blob;
  const url = mine ? URL.createObjectURL(picture) : picture;
  const before = showing.get(image);
  showing.set(image, { url, mine });
  const ready = new Image();
  ready.src = url;
  await ready.decode().catch(() => {});
  if (showing.get(image)?.url === url) image.src = url;
  if (before?.mine) URL.revokeObjectURL(before.url);
}

export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export const stem = (name) => name.replace(/\.[^.]*$/, "") || "portrait";
