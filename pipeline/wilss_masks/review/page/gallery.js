// The gallery: of any number of masks only those in sight are elements, so that 100,000 scroll as ten do.

import { SORTS, VERDICT_ICONS } from "./items.js";
import { byId, css, icon, make, number, thousands } from "./parts.js";

const GAP = 12, CAPTION = 58, LEAST_WIDTH = 176, LEAST_WIDTH_NARROW = 150;
const MOST_HEIGHT = 8e6; // browsers know no elements higher than some ten million pixels
const SETTLE = 90; // milliseconds without scrolling before pictures are asked for, where it goes fast

export class Gallery {
  /** onOpen(position) opens one; onSelection() is told when other masks are selected. */
  constructor(source, items, { onOpen, onSelection }) {
    Object.assign(this, { source, items, onOpen, onSelection });
    this.list = [];
    this.sort = items.worstFirst;
    this.active = 0;
    this.anchor = 0;
    this.selected = new Set();
    this.cards = new Map();
    this.scroller = byId("scroller");
    this.space = byId("space");
    this.lastTop = 0;
    this.scroller.addEventListener("scroll", () => this.ask(), { passive: true });
    this.space.addEventListener("click", (event) => this.clicked(event));
    new ResizeObserver(() => this.measure()).observe(this.scroller);
  }

  /** Show other masks; the active one stays so if it is still among them. */
  show(list, sort) {
    const before = this.list[this.active];
    this.list = list;
    this.sort = sort;
    this.active = Math.max(0, list.indexOf(before));
    this.anchor = this.active;
    this.selected.clear();
    for (const card of this.cards.values()) card.remove();
    this.cards.clear();
    this.measure();
    this.scroller.scrollTop = 0;
    this.bringToSight();
    this.onSelection();
  }

  measure() {
    const width = this.scroller.clientWidth - 2 * GAP, least = width < 520 ? LEAST_WIDTH_NARROW : LEAST_WIDTH;
    if (width <= 0) return;
    this.columns = Math.max(1, Math.floor((width + GAP) / (least + GAP)));
    this.cardWidth = Math.floor((width - (this.columns - 1) * GAP) / this.columns);
    this.rowHeight = Math.round(this.cardWidth * 0.75) + CAPTION + GAP;
    this.total = Math.ceil(this.list.length / this.columns) * this.rowHeight + GAP;
    this.height = Math.min(this.total, MOST_HEIGHT);
    this.space.style.height = `${this.height}px`;
    this.draw();
  }

  /** How far the whole list is scrolled: more than the scroller where that cannot be as high. */
  get top() {
    const view = this.scroller.clientHeight;
    return this.total <= this.height || this.height <= view ? this.scroller.scrollTop : (this.scroller.scrollTop * (this.total - view)) / (this.height - view);
  }

  scrollTo(top) {
    const view = this.scroller.clientHeight, most = Math.max(1, this.total - view);
    this.scroller.scrollTop = this.total <= this.height ? top : (top * (this.height - view)) / most;
  }

  ask() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.draw();
    });
  }

  draw() {
    if (!this.columns || !this.scroller.clientHeight) return;
    const view = this.scroller.clientHeight, top = this.top;
    const isFast = Math.abs(top - this.lastTop) > view;
    this.lastTop = top;
    const first = Math.max(0, Math.floor((top - view / 2) / this.rowHeight)) * this.columns;
    const last = Math.min(this.list.length, Math.ceil((top + 1.5 * view) / this.rowHeight) * this.columns);
    for (const [position, card] of this.cards) if (position < first || position >= last) this.drop(position, card);
    for (let position = first; position < last; position++) this.place(position, top);
    clearTimeout(this.timer);
    if (isFast) this.timer = setTimeout(() => this.loadPictures(), SETTLE);
    else this.loadPictures();
  }

  drop(position, card) {
    card.querySelector("img").removeAttribute("src"); // what nobody sees any more need not come
    card.remove();
    this.cards.delete(position);
  }

  place(position, top) {
    let card = this.cards.get(position);
    if (!card) {
      card = this.card(position);
      this.cards.set(position, card);
      this.space.append(card);
    }
    const row = Math.floor(position / this.columns), column = position % this.columns;
    const y = GAP + row * this.rowHeight - top + this.scroller.scrollTop;
    card.style.transform = `translate(${GAP + column * (this.cardWidth + GAP)}px, ${y}px)`;
    card.style.width = `${this.cardWidth}px`;
    card.style.height = `${this.rowHeight - GAP}px`;
  }

  loadPictures() {
    for (const card of this.cards.values()) {
      const image = card.querySelector("img");
      if (image.dataset.src && image.getAttribute("src") !== image.dataset.src) image.src = image.dataset.src;
    }
  }

  card(position) {
    const item = this.list[position], { items } = this;
    const image = make("img", { alt: "", decoding: "async", draggable: "false" });
    image.addEventListener("error", () => card.classList.add("broken"));
    image.addEventListener("load", () => card.classList.remove("broken"));
    const category = items.category[item];
    const swatch = make("span", { class: "swatch" });
    swatch.style.background = css(items.colour(category));
    const card = make(
      "div",
      { class: "card", role: "option", id: `card-${position}`, "aria-setsize": this.list.length, "aria-posinset": position + 1 },
      make("div", { class: "picture" }, image, make("span", { class: "pick", "aria-hidden": "true" }, icon("accept")), make("span", { class: "badge" })),
      make("div", { class: "caption" },
        make("span", { class: "class" }, swatch, make("span", { class: "name" }, items.className(category)), make("span", { class: "figure" })),
        make("span", { class: "id", title: items.ids[items.image[item]] }, items.ids[items.image[item]])),
    );
    this.fill(card, position);
    return card;
  }

  /** What may change on a card: its verdict, its picture, whether it is selected. */
  fill(card, position) {
    const item = this.list[position], { items } = this, state = items.state(item);
    const image = items.image[item], category = items.category[item];
    card.querySelector("img").dataset.src = this.source.thumbAddress(image, category, state.event || "0");
    card.dataset.verdict = state.verdict;
    const badge = card.querySelector(".badge"), name = VERDICT_ICONS[state.verdict];
    badge.replaceChildren(...(name ? [icon(name)] : []));
    card.querySelector(".figure").textContent = this.figure(item);
    card.setAttribute("aria-selected", this.selected.has(item));
    card.classList.toggle("active", position === this.active);
    const figures = Object.keys(SORTS).filter((sort) => Number.isFinite(items.value(sort, item))).map((sort) => `${SORTS[sort].name} ${number(items.value(sort, item))}`);
    card.setAttribute("aria-label", [items.className(category), items.ids[image], state.verdict, items.errors[image] ?? "", ...figures].filter(Boolean).join(", "));
  }

  /** The figure that masks are sorted by, or the one by which the least sure come first. */
  figure(item) {
    const sort = SORTS[this.sort] ? this.sort : this.items.worstFirst, value = this.items.value(sort, item);
    if (!Number.isFinite(value)) return "";
    return sort === "share" ? `${(100 * value).toFixed(1)} %` : number(value);
  }

  /** Masks of these items changed. */
  refresh(changed) {
    const wanted = new Set(changed);
    for (const [position, card] of this.cards) if (wanted.has(this.list[position])) this.fill(card, position);
    this.loadPictures();
  }

  refreshAll() {
    for (const [position, card] of this.cards) this.fill(card, position);
    this.loadPictures();
  }

  clicked(event) {
    const card = event.target.closest(".card");
    if (!card) return;
    const position = Number(card.id.slice(5));
    if (event.shiftKey) this.selectTo(position);
    else if (event.ctrlKey || event.metaKey || event.target.closest(".pick")) this.toggle(position);
    else {
      this.setActive(position);
      this.onOpen(position);
    }
  }

  setActive(position) {
    this.active = Math.max(0, Math.min(this.list.length - 1, position));
    this.bringToSight();
  }

  bringToSight() {
    if (!this.list.length || !this.columns) return;
    const row = Math.floor(this.active / this.columns), top = row * this.rowHeight, view = this.scroller.clientHeight;
    if (top < this.top) this.scrollTo(top);
    else if (top + this.rowHeight + GAP > this.top + view) this.scrollTo(top + this.rowHeight + GAP - view);
    this.draw();
    for (const [position, card] of this.cards) card.classList.toggle("active", position === this.active);
    this.space.setAttribute("aria-activedescendant", `card-${this.active}`);
  }

  /** Move by cards, rows or screens; `extends` selects all on the way. */
  move(cards, rows, screens, extend) {
    const perScreen = Math.max(1, Math.floor(this.scroller.clientHeight / this.rowHeight)) * this.columns;
    const before = this.active, to = before + cards + rows * this.columns + screens * perScreen;
    if (rows && (to < 0 || to >= this.list.length) && !screens) return;
    this.setActive(to);
    if (extend) this.selectTo(this.active);
    else this.anchor = this.active;
  }

  toggle(position) {
    const item = this.list[position];
    if (!this.selected.delete(item)) this.selected.add(item);
    this.anchor = position;
    this.setActive(position);
    this.refresh([item]);
    this.onSelection();
  }

  selectTo(position) {
    const [from, to] = [Math.min(this.anchor, position), Math.max(this.anchor, position)];
    this.selected = new Set(this.list.slice(from, to + 1));
    this.setActive(position);
    this.refreshAll();
    this.onSelection();
  }

  selectNone() {
    this.selected.clear();
    this.refreshAll();
    this.onSelection();
  }

  /** What a verdict is about: the selected masks, else the active one. */
  chosen() {
    if (this.selected.size) return [...this.selected];
    return this.list.length ? [this.list[this.active]] : [];
  }

  focus() {
    this.space.focus({ preventScroll: true });
  }

  /** How many are shown. */
  summary() {
    return `${thousands(this.list.length)} of ${thousands(this.items.length)} masks`;
  }
}
