// The page: what is asked for once, who tells whom, and the keys.

import { Gallery } from "./gallery.js";
import { History } from "./history.js";
import { isOfStore, Items, SORTS, STATUSES, STAYS, VERDICT_TEXT, VERDICTS } from "./items.js";
import { Keys } from "./keys.js";
import { alarm, announce, byId, fillSelect, putIcons, thousands } from "./parts.js";
import { Source } from "./server.js";
import { TOOLS, Viewer } from "./viewer.js";

const POLL = 2000;

class Page {
  constructor(source, items) {
    Object.assign(this, { source, items });
    this.number = 0;
    this.isReversed = false;
    this.isStale = false;
    this.history = new History(source, (states, needsReload) => this.stated(states, needsReload));
    this.gallery = new Gallery(source, items, { onOpen: (position) => this.openImage(position), onSelection: () => this.showSelection() });
    this.viewer = new Viewer(source, items, this.history, { onClose: () => this.closeImage(), onMove: (position) => this.gallery.setActive(position) });
    this.keys = new Keys(() => (this.viewer.isOpen ? "image" : "gallery"));
  }

  async start() {
    byId("store-name").textContent = this.items.store.name;
    byId("store-title").textContent = this.items.store.title;
    document.title = `Review of ${this.items.store.name}`;
    this.buildFilters();
    this.bindKeys();
    this.listen();
    await this.look();
    this.select();
    this.gallery.focus();
    document.documentElement.dataset.ready = "yes";
    setInterval(() => document.hidden || this.look(), POLL);
  }

  // -- the gallery ------------------------------------------------------------------------------------------

  buildFilters() {
    const { items } = this, present = new Set(items.status), used = new Set(items.category);
    const classes = [...items.classes.values()].filter((one) => used.has(one.id)).map((one) => [one.id, one.name]);
    fillSelect(byId("f-class"), [["", "all"], ...classes], "");
    fillSelect(byId("f-verdict"), [["", "all"], ...VERDICTS.map((one) => [one, one]), ["judged", "judged"]], "");
    fillSelect(byId("f-status"), [["", "all"], ...STATUSES.map((text, i) => [i, text]).filter(([i]) => present.has(i))], "");
    this.fillOrigins();
    const sorts = Object.keys(SORTS).filter((sort) => sort in items.columns);
    const least = [...sorts].sort((a, b) => (b === items.worstFirst) - (a === items.worstFirst));
    fillSelect(byId("f-sort"), [...(items.isListed ? [["", "the list's order"]] : []), ...least.map((sort) => [sort, SORTS[sort].name]), ["name", "name"], ...(items.isListed ? [] : [["", "the store's order"]])]);
    byId("f-sort").selectedIndex = 0;
    byId("filters").open = matchMedia("(min-width: 701px)").matches;
  }

  fillOrigins() {
    fillSelect(byId("f-origin"), [["", "all"], ...this.items.origins().map((one) => [one, one])]);
  }

  filter() {
    const value = (id) => byId(id).value;
    return { category: value("f-class"), verdict: value("f-verdict"), origin: value("f-origin"), status: value("f-status"), text: value("f-text").trim(), sort: value("f-sort"), reverse: this.isReversed };
  }

  select() {
    const filter = this.filter();
    this.isStale = false;
    this.gallery.show(this.items.select(filter), filter.sort);
    this.showCount();
    const parts = [filter.category && this.items.className(Number(filter.category)), filter.verdict, filter.origin, filter.text].filter(Boolean);
    byId("filter-summary").textContent = parts.length ? `(${parts.join(", ")})` : "";
    const how = SORTS[filter.sort];
    byId("f-direction-text").textContent = how ? (this.isReversed ? "surest first" : "least sure first") : this.isReversed ? "last first" : "first first";
    if (filter.sort === "share") byId("f-direction-text").textContent = this.isReversed ? "largest first" : "smallest first";
    byId("f-direction").setAttribute("aria-pressed", this.isReversed);
  }

  showCount() {
    byId("count").textContent = this.gallery.summary();
    const { accepted, rejected, corrected } = this.items.judged, judged = accepted + rejected + corrected, of = Math.max(1, this.items.judgeable);
    const share = Math.round((100 * judged) / of);
    byId("progress-bar").style.width = `${(100 * judged) / of}%`;
    byId("progress").setAttribute("aria-valuenow", share);
    byId("progress-figures").textContent = `${thousands(judged)} of ${thousands(this.items.judgeable)} judged: ${thousands(accepted)} accepted, ${thousands(corrected)} corrected, ${thousands(rejected)} rejected`;
  }

  showSelection() {
    const count = this.gallery.selected.size;
    byId("selection").hidden = !count;
    byId("selection-count").textContent = `${thousands(count)} selected`;
  }

  /** A verdict on the selected masks, or the active one. */
  judge(verdict) {
    const { items } = this, chosen = this.gallery.chosen().filter((item) => items.isJudgeable(item));
    const stays = chosen.filter((item) => verdict === "unjudged" && isOfStore(items.state(item)));
    const wanted = chosen.filter((item) => !stays.includes(item) && (verdict === "accepted" ? !["accepted", "corrected"].includes(items.state(item).verdict) : items.state(item).verdict !== verdict));
    const changes = wanted.map((item) => ({ image: items.image[item], category: items.category[item], verdict }));
    if (changes.length) this.history.say(changes, `${VERDICT_TEXT[verdict]}: ${changes.length === 1 ? items.className(changes[0].category) : `${changes.length} masks`}`);
    else if (!stays.length) announce(chosen.length ? `Already ${verdict}` : "There is nothing to judge");
    if (stays.length) alarm(STAYS);
    if (this.gallery.selected.size) this.gallery.selectNone();
    else if (verdict !== "unjudged") this.gallery.move(1, 0, 0, false);
  }

  // -- one image --------------------------------------------------------------------------------------------

  openImage(position) {
    if (!this.gallery.list.length) return;
    history.pushState({ image: position }, "");
    this.showImage(true);
    this.viewer.open(this.gallery.list, position);
    byId("stage").focus({ preventScroll: true });
  }

  closeImage() {
    history.back();
  }

  showImage(isShown) {
    byId("image-view").hidden = !isShown;
    byId("gallery-view").hidden = isShown;
    byId("top").classList.toggle("with-image", isShown);
    if (isShown) return;
    this.viewer.stopKeyboard();
    const { verdict, origin } = this.filter();
    if (this.isStale && (verdict || origin)) this.select();
    else this.gallery.measure();
    this.gallery.bringToSight();
    this.gallery.focus();
  }

  // -- what changed -----------------------------------------------------------------------------------------

  /** Masks changed, by this page or by others. */
  stated(states, needsReload) {
    if (!states.length) return;
    this.isStale = true;
    this.gallery.refresh(this.items.apply(states));
    this.fillOrigins();
    this.showCount();
    this.viewer.changed(states, needsReload);
  }

  /** Ask what others said meanwhile. */
  async look() {
    let answer;
    try {
      answer = await this.source.changes(this.number);
    } catch (error) {
      this.isLost = true;
      return alarm(error.message);
    }
    if (this.isLost && !this.history.waiting) alarm("");
    this.isLost = false;
    this.number = answer.number;
    const others = answer.states.filter((state) => state.who !== this.source.who);
    this.stated(others, true);
    if (others.length && others.some((state) => state.image === this.viewer.image) && this.viewer.isOpen) announce("Somebody else changed this image");
    await this.lookAtComparison(answer.compared);
  }

  async lookAtComparison(compared) {
    if (!compared || this.isCompared) return;
    byId("compared").textContent = compared.problem || (compared.done ? "" : `compared with predictions: ${thousands(compared.count)} of ${thousands(compared.of)}`);
    if (compared.count === this.lastCompared && !compared.done) return;
    this.lastCompared = compared.count;
    this.isCompared = compared.done || Boolean(compared.problem);
    this.items.columns.disagreement = (await this.source.disagreement()) ?? this.items.columns.disagreement;
    if (compared.done && this.filter().sort === "disagreement") this.select();
    else this.gallery.refreshAll();
  }

  // -- listening --------------------------------------------------------------------------------------------

  listen() {
    byId("filter-form").addEventListener("change", () => this.select());
    byId("filter-form").addEventListener("submit", (event) => event.preventDefault());
    byId("f-text").addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.select(), 150);
    });
    byId("f-direction").addEventListener("click", () => {
      this.isReversed = !this.isReversed;
      this.select();
    });
    for (const button of byId("selection").querySelectorAll("[data-verdict]")) button.addEventListener("click", () => this.judge(button.dataset.verdict));
    byId("selection-none").addEventListener("click", () => this.gallery.selectNone());
    byId("undo").addEventListener("click", () => this.history.undo());
    byId("undo-image").addEventListener("click", () => this.history.undo());
    byId("redo").addEventListener("click", () => this.history.redo());
    byId("help-button").addEventListener("click", () => byId("help").showModal());
    addEventListener("popstate", (event) => this.showImage(Boolean(event.state?.image !== undefined && event.state && this.viewer.list)));
    if (this.source.isStatic) {
      byId("download").hidden = false;
      byId("download").addEventListener("click", () => this.source.download());
    }
  }

  bindKeys() {
    const { keys, gallery, viewer } = this;
    const moves = { ArrowRight: [1, 0, 0], ArrowLeft: [-1, 0, 0], ArrowDown: [0, 1, 0], ArrowUp: [0, -1, 0], PageDown: [0, 0, 1], PageUp: [0, 0, -1], Home: [-1e9, 0, 0], End: [1e9, 0, 0] };
    keys.add("gallery", "All masks", Object.keys(moves), "move", (event) => gallery.move(...moves[event.key], false), ["Arrows", "PageUp", "PageDown", "Home", "End"]);
    keys.add("gallery", "All masks", Object.keys(moves).map((key) => `Shift+${key}`), "select on the way", (event) => gallery.move(...moves[event.key], true), ["Shift+Arrows", "Shift+PageUp", "..."]);
    keys.add("gallery", "All masks", ["Enter"], "look at one image", () => this.openImage(gallery.active));
    keys.add("gallery", "All masks", [" "], "select, or not", () => gallery.list.length && gallery.toggle(gallery.active));
    keys.add("gallery", "All masks", ["Escape"], "select none", () => (document.activeElement === gallery.space ? gallery.selectNone() : gallery.focus()));
    keys.add("gallery", "All masks", ["/"], "look for an image", () => {
      byId("filters").open = true;
      byId("f-text").focus();
    });
    for (const [key, verdict, text] of [["a", "accepted", "accept"], ["r", "rejected", "reject"], ["c", "unjudged", "clear the verdict"]])
      keys.add("both", "Judge", [key], text, () => (viewer.isOpen ? viewer.judge(verdict) : this.judge(verdict)));
    keys.add("both", "Judge", ["z", "Ctrl+z", "Meta+z"], "undo", () => this.history.undo());
    keys.add("both", "Judge", ["Shift+z", "Ctrl+Shift+z", "Meta+Shift+z", "Ctrl+y"], "redo", () => this.history.redo());
    keys.add("both", "Judge", ["?", "h"], "these keys", () => byId("help").showModal());
    this.bindImageKeys();
    byId("help-keys").replaceChildren(...keys.help());
  }

  bindImageKeys() {
    const { keys, viewer } = this, { stage } = viewer, arrows = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
    const steps = { ArrowRight: 1, ArrowDown: 1, j: 1, ArrowLeft: -1, ArrowUp: -1, k: -1 };
    keys.add("image", "One image", ["ArrowRight", "ArrowDown", "j"], "next", (event) => (viewer.cursor && arrows[event.key] ? viewer.moveCursor(...arrows[event.key], false) : viewer.step(steps[event.key])));
    keys.add("image", "One image", ["ArrowLeft", "ArrowUp", "k"], "previous", (event) => (viewer.cursor && arrows[event.key] ? viewer.moveCursor(...arrows[event.key], false) : viewer.step(steps[event.key])));
    keys.add("image", "One image", Array.from({ length: 9 }, (_, i) => String(i + 1)), "choose a class", (event) => viewer.chooseAt(Number(event.key)), ["1 ... 9"]);
    keys.add("image", "One image", ["x"], "remove or add the tag", () => viewer.toggleTag());
    keys.add("image", "One image", ["n"], "add a class", () => byId("add-class").focus());
    keys.add("image", "One image", ["+", "="], "larger", () => stage.zoom(1.4));
    keys.add("image", "One image", ["-"], "smaller", () => stage.zoom(1 / 1.4));
    keys.add("image", "One image", ["0"], "fit the image", () => stage.fit());
    keys.add("image", "One image", ["Escape"], "end what was begun, or back to all masks", () => viewer.escape() || this.closeImage());
    for (const { name, key, text } of TOOLS) keys.add("image", "Tools", [key], text.toLowerCase(), () => viewer.useTool(name));
    keys.add("image", "Tools", [","], "smaller brush", () => viewer.changeSize(-4));
    keys.add("image", "Tools", ["."], "larger brush", () => viewer.changeSize(4));
    keys.add("image", "Tools", ["q"], "polygon, fill and region remove", () => viewer.toggleSubtract());
    keys.add("image", "Tools", ["Backspace"], "take the last corner back", () => {
      viewer.tools.polygon.back();
      stage.ask();
    });
    keys.add("image", "Tools", ["Enter"], "draw with the keyboard: arrows move, Enter acts", () => viewer.act(false));
    keys.add("image", "Tools", ["Shift+Enter"], "close the polygon", () => viewer.tool()?.finish?.());
    keys.add("image", "Tools", Object.keys(arrows).map((key) => `Shift+${key}`), "move the cursor far", (event) => (viewer.cursor ? viewer.moveCursor(...arrows[event.key], true) : false), ["Shift+Arrows"]);
    for (const { name, key, heading } of viewer.layers.values()) keys.add("image", "Layers", [key], heading, () => viewer.toggleLayer(name));
  }
}

async function begin() {
  putIcons();
  const source = new Source();
  try {
    const items = new Items(await source.index());
    await new Page(source, items).start();
  } catch (error) {
    alarm(`This page cannot be shown: ${error.message}`);
    throw error;
  }
}

begin();
