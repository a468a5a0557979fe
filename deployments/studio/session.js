/* What the studio knows now: the photo, the settings of the edit, the history. Everything else listens to it.

   Events: "source" (another photo), "change" (settings, by hand or by undo), "entry" (another state of the history, or
   its picture arrived), "layer", "identities". */
import { History } from "./history.js";

const FRESH = Object.freeze({ controls: Object.freeze({}), target: null, modes: Object.freeze([]) });

class Session extends EventTarget {
  options = null;
  source = null; // a Photo
  history = new History();
  settings = Object.freeze({ ...FRESH, identity: "base", sampler: "ddim", steps: null, seed: 0, size: null });
  label = ""; // of the last change by hand
  layer = "photo";
  identities = [];

  tell(event) {
    this.dispatchEvent(new Event(event));
  }

  on(names, listener) {
    for (const name of names.split(" ")) this.addEventListener(name, listener);
  }

  /* Another photo: the model and the way of sampling stay, the rest starts afresh. */
  open(photo) {
    this.source = photo;
    this.settings = Object.freeze({ ...this.settings, ...FRESH });
    this.history.clear();
    this.history.push(this.settings, "Original");
    this.showLayer("photo");
    this.tell("source");
    this.tell("change");
    this.tell("entry");
  }

  /* By hand. `label` is what the history calls it. */
  change(settings, label) {
    this.settings = Object.freeze({ ...this.settings, ...settings });
    this.label = label;
    if (this.layer === "photo" || this.layer === "points") this.showLayer("rendered");
    this.dispatchEvent(new CustomEvent("change", { detail: { byHand: true } }));
  }

  /* Some controls; those that are undefined stay as in the photo. */
  control(controls, label) {
    const all = Object.entries({ ...this.settings.controls, ...controls });
    const set = Object.fromEntries(all.filter(([, value]) => value !== undefined));
    this.change({ controls: Object.freeze(set) }, label);
  }

  /* To a state of the history. */
  go(index) {
    this.settings = this.history.go(index).settings;
    this.tell("change");
    this.tell("entry");
  }

  showLayer(layer) {
    this.layer = layer;
    this.tell("layer");
  }
}

export const session = new Session();

/* What the settings take from the target photo; without a photo, nothing. */
export const takes = (settings, mode) => settings.target !== null && settings.modes.includes(mode);

/* The settings as the API names them. */
export function requestOf(settings, source) {
  const { identity, controls, target, modes } = settings;
  const body = { source_token: source.token, identity, controls };
  return target && modes.length ? { ...body, target_token: target.token, modes } : body;
}

export function editRequestOf(settings, source) {
  const { sampler, steps, seed, size } = settings;
  return { ...requestOf(settings, source), sampler, ...(steps && { steps }), seed, ...(size && { size }) };
}
