// All masks that are judged, as columns; which of them are shown, and in which order.

const TYPES = { Int8: Int8Array, Uint8: Uint8Array, Int32: Int32Array, Uint32: Uint32Array, Float32: Float32Array };
export const STATUSES = ["not made yet", "has masks", "failed", "without a tag", "without a label"];
export const VERDICTS = ["unjudged", "accepted", "rejected", "corrected"];
export const VERDICT_TEXT = { accepted: "Accepted", rejected: "Rejected", unjudged: "Verdict cleared" };
export const VERDICT_ICONS = { accepted: "accept", rejected: "reject", corrected: "edited" };
export const STAYS = "The store itself has this verdict, so it cannot be cleared: judge otherwise, or review the store that it was made of.";
const DONE = 1;
const UNJUDGED = { verdict: "unjudged", tag: null, mask: "", author: "", at: "", origin: "", event: "" };

/** How masks can be sorted: the column, what it is called, whether its low values are the least sure. */
export const SORTS = {
  agreement: { name: "agreement", lowFirst: true, help: "how far the score's and the seeds' masks agree" },
  confidence: { name: "confidence", lowFirst: true, help: "mean score inside the mask" },
  deviation: { name: "unusual area", lowFirst: false, help: "how far from its class's usual area, in doublings" },
  disagreement: { name: "disagreement with predictions", lowFirst: false, help: "1 - IoU with the prediction" },
  quality: { name: "label quality", lowFirst: true, help: "score of label errors" },
  share: { name: "area", lowFirst: true, help: "part of the image" },
};

/** Whether a verdict is the store's own: there is nothing here that could be taken back. */
export function isOfStore(state) {
  return state.event === "" && state.verdict !== "unjudged";
}

/** A packed array of the index. */
export function unpacked({ type, data }) {
  const text = atob(data), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new TYPES[type](bytes.buffer);
}

export class Items {
  constructor(index) {
    this.store = index.store;
    this.maps = index.maps;
    this.classes = new Map(index.classes.map((one) => [one.id, one]));
    this.ids = index.images;
    this.status = unpacked(index.status);
    this.height = unpacked(index.height);
    this.width = unpacked(index.width);
    this.errors = index.errors;
    this.image = Array.from(unpacked(index.image));
    this.category = Array.from(unpacked(index.category));
    this.columns = Object.fromEntries(Object.entries(index.columns).map(([name, values]) => [name, unpacked(values)]));
    this.fromWhere = unpacked(index.origin);
    this.namesOfOrigins = index.origins;
    this.worstFirst = index.worstFirst;
    this.isListed = index.isListed;
    this.states = new Map();
    this.judged = { accepted: 0, rejected: 0, corrected: 0 };
    this.places = new Map();
    this.image.forEach((image, item) => this.places.set(this.key(image, this.category[item]), item));
    this.judgeable = this.category.reduce((sum, category) => sum + (category > 0), 0);
  }

  get length() {
    return this.image.length;
  }

  key(image, category) {
    return image * 256 + category;
  }

  state(item) {
    return this.stateOf(this.image[item], this.category[item]);
  }

  stateOf(image, category) {
    return this.states.get(this.key(image, category)) ?? UNJUDGED;
  }

  value(column, item) {
    const values = this.columns[column];
    return values && item < values.length ? values[item] : NaN;
  }

  className(category) {
    return category ? (this.classes.get(category)?.name ?? `class ${category}`) : "no mask";
  }

  colour(category) {
    return this.classes.get(category)?.colour ?? [128, 128, 128];
  }

  /** Whether a mask can be judged: images that failed have none. */
  isJudgeable(item) {
    return this.category[item] > 0 && this.isDone(this.image[item]);
  }

  isDone(image) {
    return this.status[image] === DONE;
  }

  item(image, category) {
    return this.places.get(this.key(image, category));
  }

  /** Take what the source says of masks; returns their items, of which those that nobody knew are new. */
  apply(states) {
    return states.map((state) => {
      const key = this.key(state.image, state.category), before = this.states.get(key)?.verdict;
      if (before && before !== "unjudged") this.judged[before]--;
      if (state.verdict !== "unjudged") this.judged[state.verdict]++;
      this.states.set(key, state);
      if (!this.places.has(key)) {
        this.places.set(key, this.image.length);
        this.image.push(state.image);
        this.category.push(state.category);
        this.judgeable++;
      }
      return this.places.get(key);
    });
  }

  origin(item) {
    return this.state(item).origin || this.namesOfOrigins[this.fromWhere[item] ?? 0];
  }

  origins() {
    const found = new Set(this.namesOfOrigins);
    for (const state of this.states.values()) if (state.origin) found.add(state.origin);
    return [...found];
  }

  /** The items that a filter lets through, sorted: {category, verdict, origin, status, text, sort, reverse}. */
  select(filter) {
    const found = [], text = filter.text.toLowerCase();
    for (let item = 0; item < this.length; item++) if (this.isWanted(item, filter, text)) found.push(item);
    const keys = this.sortKeys(filter.sort, found);
    if (keys) found.sort((a, b) => keys[a] - keys[b] || a - b);
    if (filter.sort === "name") found.sort((a, b) => this.compareNames(a, b));
    return filter.reverse ? found.reverse() : found;
  }

  isWanted(item, filter, text) {
    const category = this.category[item], image = this.image[item];
    if (filter.category !== "" && category !== Number(filter.category)) return false;
    if (filter.status !== "" && this.status[image] !== Number(filter.status)) return false;
    if (filter.verdict !== "" && !this.hasVerdict(item, filter.verdict)) return false;
    if (filter.origin !== "" && this.origin(item) !== filter.origin) return false;
    return !text || this.ids[image].toLowerCase().includes(text);
  }

  hasVerdict(item, wanted) {
    const verdict = this.state(item).verdict;
    return wanted === "judged" ? verdict !== "unjudged" : verdict === wanted;
  }

  /** The least sure get the lowest number; what nothing is known of comes last. */
  sortKeys(sort, found) {
    const how = SORTS[sort];
    if (!how) return null;
    const keys = new Float64Array(this.length);
    for (const item of found) {
      const value = this.value(sort, item);
      keys[item] = Number.isNaN(value) ? 1e30 : how.lowFirst ? value : -value;
    }
    return keys;
  }

  compareNames(a, b) {
    const first = this.ids[this.image[a]], second = this.ids[this.image[b]];
    return first < second ? -1 : first > second ? 1 : a - b;
  }
}
