// Where the data of a page of files come from: scripts beside it. What is said is kept in the browser, to be sent back.

import { isOfStore } from "./items.js";
import { alarm, byId } from "./parts.js";

const PART = 20; // images a script of masks holds; as in static.py

export class Source {
  constructor() {
    this.who = "here";
    this.isStatic = true;
    this.waiting = new Map();
  }

  async index() {
    if (!globalThis.REVIEW) throw new Error("its data are missing: the folder `data` belongs beside index.html.");
    const { index } = globalThis.REVIEW;
    this.index_ = index;
    this.key = `wilss-review-${index.store.digest}`;
    this.base = new Map(globalThis.REVIEW.states.map((state) => [this.pair(state.image, state.category), state]));
    this.load();
    byId("author-label").hidden = false;
    byId("author").value = this.kept.author;
    byId("author").addEventListener("input", (event) => {
      this.kept.author = event.target.value;
      this.save();
    });
    return index;
  }

  load() {
    const empty = { author: "", entries: [] };
    try {
      this.kept = { ...empty, ...JSON.parse(localStorage.getItem(this.key) ?? "{}") };
    } catch {
      this.kept = empty;
    }
    this.number = 1 + this.kept.entries.reduce((most, entry) => Math.max(most, Number(entry.event.slice(1))), 0);
  }

  save() {
    try {
      localStorage.setItem(this.key, JSON.stringify(this.kept));
    } catch {
      alarm("This browser keeps no more: download the verdicts now, before you close the page.");
    }
  }

  pair(image, category) {
    return image * 256 + category;
  }

  /** The last that was said here of a mask. */
  entryOf(image, category) {
    const id = this.index_.images[image];
    return this.kept.entries.findLast((entry) => entry.image === id && entry.category === category);
  }

  stateOf(image, category) {
    const entry = this.entryOf(image, category), before = this.base.get(this.pair(image, category));
    const isOver = entry && !(entry.verdict === "unjudged" && before && isOfStore(before)); // the store's own stands again
    if (isOver) return { image, category, who: this.who, verdict: entry.verdict, tag: entry.tag, mask: entry.runs ? entry.event : "", author: this.kept.author, at: entry.at, origin: "static page", event: entry.event };
    return before ?? { image, category, who: this.who, verdict: "unjudged", tag: null, mask: "", author: "", at: "", origin: "", event: "" };
  }

  async changes(since) {
    if (since) return { number: 1, states: [], compared: null };
    const places = new Map(this.index_.images.map((id, image) => [id, image]));
    const own = this.kept.entries.filter((entry) => places.has(entry.image)).map((entry) => this.stateOf(places.get(entry.image), entry.category));
    return { number: 1, states: [...this.base.values(), ...own].map((state) => ({ ...state, who: "" })), compared: null };
  }

  async disagreement() {
    return null;
  }

  async image(image) {
    const part = Math.floor(image / PART);
    await this.script(part);
    const data = structuredClone(globalThis.REVIEW.parts[part][image % PART]), size = data.height * data.width;
    const known = new Set(data.classes.map((one) => one.category));
    for (const entry of this.kept.entries) {
      if (entry.image !== this.index_.images[image] || known.has(entry.category)) continue;
      known.add(entry.category);
      data.classes.push({ category: entry.category, runs: [size], stored: null, prediction: null, truth: null, maps: [], problem: "" });
    }
    for (const one of data.classes) this.putEntry(one, this.entryOf(image, one.category), size);
    return data;
  }

  putEntry(one, entry, size) {
    if (!entry || entry.verdict !== "corrected") return;
    one.stored ??= one.runs;
    one.runs = entry.runs ?? (entry.tag === false ? [size] : one.stored);
  }

  script(part) {
    if (!this.waiting.has(part)) {
      this.waiting.set(part, new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = `data/masks-${part}.js`;
        script.onload = resolve;
        script.onerror = () => reject(new Error(`data/masks-${part}.js is missing; ask for the whole folder.`));
        document.head.append(script);
      }));
    }
    return this.waiting.get(part);
  }

  async regions() {
    throw new Error("a page of files has none; use brush or polygon.");
  }

  imageAddress(image) {
    return `images/${image}.jpg`;
  }

  thumbAddress(image, category) {
    return `thumbs/${image}-${category}.jpg`;
  }

  mapAddress(kind, image, category) {
    return `maps/${kind}-${image}-${category}.png`;
  }

  async correct(changes) {
    const at = new Date().toISOString(), events = [];
    for (const { image, category, verdict, runs = null, tag = null } of changes) {
      const event = `e${this.number++}`;
      this.kept.entries.push({ event, image: this.index_.images[image], category, verdict, runs, tag, at });
      events.push(event);
    }
    this.save();
    return { events, states: changes.map(({ image, category }) => this.stateOf(image, category)) };
  }

  async undo(events) {
    const places = new Map(this.index_.images.map((id, image) => [id, image]));
    const undone = this.kept.entries.filter((entry) => events.includes(entry.event));
    this.kept.entries = this.kept.entries.filter((entry) => !events.includes(entry.event));
    this.save();
    return { states: undone.map((entry) => this.stateOf(places.get(entry.image), entry.category)) };
  }

  /** What was said of each mask last, as a file that `wilss-masks review --import` reads. */
  download() {
    const last = new Map(this.kept.entries.map((entry) => [`${entry.category} ${entry.image}`, entry]));
    const corrections = [...last.values()].map(({ image, category, verdict, runs, tag, at }) => ({ image, category, verdict, runs, tag, at }));
    const { name, digest } = this.index_.store;
    const text = JSON.stringify({ format: "wilss-verdicts", format_version: 1, store: name, digest, author: this.kept.author, corrections });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = "verdicts.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }
}
