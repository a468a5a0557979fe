/* The states of a session, oldest first, and which of them is now. A change forgets what was undone. */
const LONGEST = 80;

/* One state: its settings, and once the edit is there its answer and its picture, which costs no request to see again. */
class Entry {
  answer = null;
  picture = null; // {blob, url}
  whole = null; // the same, pasted back into the whole photo

  constructor(settings, label) {
    this.settings = settings;
    this.label = label;
  }

  forget() {
    for (const kept of [this.picture, this.whole]) if (kept) URL.revokeObjectURL(kept.url);
  }
}

export class History {
  entries = [];
  at = -1;

  get current() {
    return this.entries[this.at];
  }

  get canUndo() {
    return this.at > 0;
  }

  get canRedo() {
    return this.at < this.entries.length - 1;
  }

  /* A change of the same kind whose edit nobody has seen is replaced: a drag with rests in it is one step. */
  push(settings, label) {
    const unseen = this.at > 0 && !this.canRedo && !this.current.answer && this.current.label === label;
    for (const undone of this.entries.splice(unseen ? this.at : this.at + 1)) undone.forget();
    this.entries.push(new Entry(settings, label));
    if (this.entries.length > LONGEST) this.entries.splice(1, 1)[0].forget(); // the first is the photo as it was
    this.at = this.entries.length - 1;
    return this.current;
  }

  go(index) {
    this.at = Math.max(0, Math.min(index, this.entries.length - 1));
    return this.current;
  }

  clear() {
    for (const entry of this.entries) entry.forget();
    this.entries = [];
    this.at = -1;
  }
}

export const kept = (blob) => ({ blob, url: URL.createObjectURL(blob) });
