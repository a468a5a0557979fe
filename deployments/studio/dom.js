/* Making and finding elements. Texts become text nodes, never markup. */
const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

/* el("p", {class: "note", onclick: f}, "text", child): properties that are null or false are left out. */
export function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function svg(tag, properties = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(properties)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export const icon = (name) => svg("svg", { "aria-hidden": "true" }, svg("use", { href: `#i-${name}` }));

export function button(text, properties = {}, iconName = null) {
  return el("button", { type: "button", class: "plain", ...properties }, iconName && icon(iconName), text);
}

let ids = 0;
export const newId = (stem) => `${stem}-${++ids}`;

/* A control under its label, with a word of help. */
export function field(label, control, help = null) {
  control.id ||= newId("field");
  const about = help && el("small", { id: newId("help") }, help);
  if (about) control.setAttribute("aria-describedby", about.id);
  return el("div", { class: "field" }, el("label", { for: control.id }, label), control, about);
}

/* Radio buttons that look like `look` ("segment" or "chip"); gives {element, set(value)}. */
export function radios(element, look, choices, onChoice) {
  const name = newId("choice");
  const inputs = new Map();
  for (const [value, text] of choices) {
    const input = el("input", { type: "radio", name, value, onchange: () => onChoice(value) });
    inputs.set(value, input);
    element.append(el("label", { class: look }, input, el("span", {}, text)));
  }
  return {
    element,
    inputs,
    set(value) {
      for (const [own, input] of inputs) input.checked = own === value;
    },
  };
}
