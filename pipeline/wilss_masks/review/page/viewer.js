// One image large: its layers, its classes, the tools that correct a mask, and the verdicts.

import { isOfStore, SORTS, STAYS, VERDICT_ICONS, VERDICT_TEXT } from "./items.js";
import { areaOf, maskOf, runsOf } from "./masks.js";
import { alarm, announce, byId, css, fillSelect, icon, make, number } from "./parts.js";
import { MaskLayer, Stage } from "./stage.js";
import { Brush, Fill, Polygon, Region } from "./tools.js";

const OTHER_LAYERS = { prediction: [0, 200, 255], truth: [255, 255, 255], stored: [255, 205, 0], void: [150, 150, 150] };
export const TOOLS = [
  { name: "move", key: "v", text: "Move", hint: "Drag to move, wheel or pinch to zoom" },
  { name: "brush", key: "b", text: "Brush", hint: "Paint; , and . change the size" },
  { name: "eraser", key: "e", text: "Eraser", hint: "Erase; , and . change the size" },
  { name: "polygon", key: "p", text: "Polygon", hint: "Click corners; the first one, a double click or Shift+Enter closes" },
  { name: "fill", key: "f", text: "Fill", hint: "Click a hole to fill it; with Remove a piece to take it away" },
  { name: "region", key: "t", text: "Region", hint: "Click or drag over regions to take them" },
];

export class Viewer {
  /** onClose() goes back to the gallery; onMove(position) follows in it. */
  constructor(source, items, history, { onClose, onMove }) {
    Object.assign(this, { source, items, history, onClose, onMove });
    this.section = byId("image-view");
    this.layers = this.allLayers();
    this.toolName = "move";
    this.image = -1;
    this.version = 0;
    this.isSubtracting = false;
    this.regionsOf = new Map();
    this.stage = new Stage(byId("stage"), { tool: () => this.tool(), onDraw: (context) => this.drawTool(context) });
    this.stage.layers = [...this.layers.values()];
    this.tools = this.allTools();
    this.buildTools();
    this.buildLayers();
    this.listen();
  }

  allLayers() {
    const shown = (name, heading, key, isShown, opacity, note = "") => [name, { name, heading, key, isShown, opacity, note, picture: null }];
    const maps = Object.entries(this.items.maps).map(([kind, { heading, note }]) => shown(kind, heading, kind === "score" ? "s" : "d", false, 0.65, note));
    return new Map([
      shown("image", "Image", "i", true, 1),
      ...maps,
      shown("void", "Void of the store", "u", true, 0.6),
      shown("truth", "Pixel label", "g", false, 0.8),
      shown("prediction", "Prediction", "o", false, 0.8),
      shown("stored", "Mask as the store has it", "w", false, 0.8),
      shown("others", "Other classes", "l", true, 0.45),
      shown("mask", "Mask", "m", true, 1),
    ]);
  }

  allTools() {
    const edit = {
      viewer: this,
      stage: this.stage,
      get layer() {
        return this.viewer.active;
      },
      size: () => this.brushSize(),
      isSubtracting: () => this.isSubtracting || this.isAltHeld,
      commit: (text) => this.commit(text),
      regions: () => this.regions(),
    };
    return { move: null, brush: new Brush(edit, 1), eraser: new Brush(edit, 0), polygon: new Polygon(edit), fill: new Fill(edit), region: new Region(edit) };
  }

  tool() {
    return this.active ? this.tools[this.toolName] : null;
  }

  /** Radius in pixels of the image; the slider's steps grow with the size. */
  brushSize() {
    const side = Math.max(this.stage.width, this.stage.height, 1);
    return Math.max(0.5, (side / 4) * (Number(byId("size").value) / 100) ** 2);
  }

  listen() {
    const clicks = { back: () => this.onClose(), previous: () => this.step(-1), next: () => this.step(1), accept: () => this.judge("accepted"), reject: () => this.judge("rejected"), clear: () => this.judge("unjudged"), "zoom-in": () => this.stage.zoom(1.4), "zoom-out": () => this.stage.zoom(1 / 1.4), "zoom-fit": () => this.stage.fit(), subtract: () => this.toggleSubtract(), "panel-button": () => this.togglePanel() };
    for (const [id, act] of Object.entries(clicks)) byId(id).addEventListener("click", act);
    byId("add-class").addEventListener("change", (event) => event.target.value && this.addClass(Number(event.target.value)));
    byId("size").addEventListener("input", () => this.stage.ask());
    byId("stage").addEventListener("pointerdown", () => this.section.classList.contains("with-panel") && this.togglePanel());
    addEventListener("keydown", (event) => this.held(event, true));
    addEventListener("keyup", (event) => this.held(event, false));
  }

  held(event, isDown) {
    if (event.key === "Alt") this.isAltHeld = isDown;
    if (event.key === " " && event.target === this.stage.canvas) {
      this.stage.isSpaceHeld = isDown;
      event.preventDefault();
    }
  }

  // -- which image and class --------------------------------------------------------------------------------

  get isOpen() {
    return !this.section.hidden;
  }

  get item() {
    return this.items.item(this.image, this.category);
  }

  async open(list, position) {
    this.list = list;
    this.position = position;
    const item = list[position], image = this.items.image[item], category = this.items.category[item];
    byId("image-name").textContent = this.items.ids[image];
    byId("image-place").textContent = `${position + 1} of ${list.length}`;
    this.stopKeyboard();
    this.tools.polygon.cancel();
    if (image === this.image && this.data?.width) this.choose(category);
    else await this.load(image, category);
    this.fetchAhead(position + 1);
  }

  async load(image, category) {
    this.image = image;
    this.category = category;
    this.active = null;
    this.tools.region.forget();
    this.section.classList.add("loading");
    const version = ++this.version;
    try {
      const [data, picture] = await Promise.all([this.source.image(image), pictureOf(this.source.imageAddress(image)).catch(() => null)]);
      if (version !== this.version) return;
      this.layers.get("image").picture = picture;
      this.take(data, category, picture ? "" : "The image cannot be read any more; its masks can be judged all the same.");
    } catch (error) {
      if (version === this.version) this.take({ classes: [], height: 0, width: 0, problem: error.message }, category);
    } finally {
      if (version === this.version) this.section.classList.remove("loading");
    }
  }

  /** What the source says of the image takes the place of what is shown. */
  take(data, category, more = "") {
    this.data = data;
    this.masks = new Map(data.classes.map((one) => [one.category, maskOf(one.runs, data.height * data.width)]));
    this.stage.open(data.width, data.height);
    const problem = data.problem || data.classes.map((one) => one.problem).find(Boolean) || more;
    byId("problem").textContent = problem;
    byId("problem").hidden = !problem;
    const none = data.classes.length ? data.classes[0].category : 0;
    this.choose(this.masks.has(category) ? category : none);
    this.fillAddClass();
    if (this.toolName === "region") this.regions();
  }

  /** Somebody else, or an undo, changed this image: look again, once no stroke is on its way. */
  async reload() {
    const { image } = this, version = this.version;
    const data = await this.source.image(image);
    if (image !== this.image || !this.isOpen) return;
    if (version !== this.version || this.stage.acting) {
      clearTimeout(this.later);
      this.later = setTimeout(() => this.reload(), 400);
      return;
    }
    this.take(data, this.category);
  }

  choose(category) {
    this.category = category;
    const mask = this.masks.get(category);
    this.active = mask ? new MaskLayer(this.data.width, this.data.height, mask, this.items.colour(category)) : null;
    this.layers.get("mask").picture = this.active?.canvas ?? null;
    const said = this.classData();
    for (const [name, colour] of Object.entries(OTHER_LAYERS)) this.layers.get(name).picture = this.pictureOfRuns(name === "void" ? this.data.void : said?.[name], colour);
    this.layers.get("others").picture = this.pictureOfOthers();
    for (const kind of Object.keys(this.items.maps)) this.loadMap(kind, said);
    this.showState();
    this.stage.ask();
  }

  classData() {
    return this.data.classes.find((one) => one.category === this.category);
  }

  pictureOfRuns(runs, colour) {
    if (!runs || runs.length < 2) return null;
    return new MaskLayer(this.data.width, this.data.height, maskOf(runs, this.data.width * this.data.height), colour, 0.2).canvas;
  }

  pictureOfOthers() {
    const others = [...this.masks].filter(([category]) => category !== this.category);
    if (!others.length) return null;
    const canvas = document.createElement("canvas");
    canvas.width = this.data.width;
    canvas.height = this.data.height;
    for (const [category, mask] of others) canvas.getContext("2d").drawImage(new MaskLayer(canvas.width, canvas.height, mask, this.items.colour(category)).canvas, 0, 0);
    return canvas;
  }

  async loadMap(kind, said) {
    const layer = this.layers.get(kind), { image, category } = this;
    layer.picture = null;
    layer.isThere = Boolean(said?.maps.includes(kind));
    if (!layer.isThere || !layer.isShown) return;
    const picture = await pictureOf(this.source.mapAddress(kind, image, category)).catch(() => null);
    if (image !== this.image || category !== this.category) return;
    layer.picture = picture;
    this.stage.ask();
  }

  fetchAhead(position) {
    if (position >= this.list.length) return;
    const image = this.items.image[this.list[position]];
    if (image !== this.image) pictureOf(this.source.imageAddress(image)).catch(() => null);
  }

  step(by) {
    const position = this.position + by;
    if (position < 0 || position >= this.list.length) return announce(by > 0 ? "This is the last one" : "This is the first one");
    this.onMove(position);
    return this.open(this.list, position);
  }

  // -- what is said -----------------------------------------------------------------------------------------

  get state() {
    return this.items.stateOf(this.image, this.category);
  }

  judge(verdict) {
    if (!this.active) return announce("There is no mask to judge");
    if (!this.items.isDone(this.image) && verdict !== "unjudged") return alarm("The image failed, so it has no mask to judge; draw one, or remove the tag.");
    if (verdict === "unjudged" && isOfStore(this.state)) return alarm(STAYS);
    const name = this.items.className(this.category);
    if (verdict === "accepted" && this.state.verdict === "corrected") announce("A corrected mask counts as accepted");
    else if (verdict !== "unjudged" || this.state.verdict !== "unjudged") this.history.say([{ image: this.image, category: this.category, verdict }], `${VERDICT_TEXT[verdict]}: ${name}`);
    if (verdict !== "unjudged") this.step(1);
  }

  /** A stroke is done: it is kept as it is. */
  commit(text) {
    this.version++;
    this.masks.set(this.category, this.active.mask);
    this.keepStored(this.classData());
    this.history.say([{ image: this.image, category: this.category, verdict: "corrected", runs: runsOf(this.active.mask) }], `${text}: ${this.items.className(this.category)}`);
    this.showState();
  }

  /** The mask that was there before the first stroke can be looked at beside it. */
  keepStored(said) {
    if (!said || said.stored) return;
    said.stored = said.runs;
    this.layers.get("stored").picture = this.pictureOfRuns(said.stored, OTHER_LAYERS.stored);
  }

  addClass(category) {
    byId("add-class").value = "";
    if (!this.data?.width) return;
    this.version++;
    this.masks.set(category, new Uint8Array(this.data.width * this.data.height));
    this.data.classes.push({ category, state: null, runs: [], stored: null, prediction: null, truth: null, maps: [], problem: "" });
    this.history.say([{ image: this.image, category, verdict: "corrected", tag: true }], `Tag added: ${this.items.className(category)}`);
    this.choose(category);
    this.fillAddClass();
    if (this.toolName === "move") this.useTool("brush");
  }

  /** The image does not hold the class after all, or it does. */
  toggleTag(category = this.category) {
    if (!this.masks?.has(category)) return;
    const tag = this.items.stateOf(this.image, category).tag === false;
    this.history.say([{ image: this.image, category, verdict: "corrected", tag }], `${tag ? "Tag added" : "Tag removed"}: ${this.items.className(category)}`).then(() => this.reload());
  }

  /** Masks of this image changed. needsReload: not by a stroke of this page. */
  changed(states, needsReload) {
    if (!this.isOpen || !states.some((state) => state.image === this.image)) return;
    if (needsReload) this.reload();
    else this.showState();
  }

  // -- tools ------------------------------------------------------------------------------------------------

  useTool(name) {
    this.tools.polygon.cancel();
    this.toolName = name;
    for (const button of byId("tools").children) button.setAttribute("aria-pressed", button.dataset.tool === name);
    const tool = TOOLS.find((one) => one.name === name);
    byId("hint").textContent = tool.hint;
    byId("hint").hidden = name === "move";
    byId("size-label").hidden = !["brush", "eraser"].includes(name);
    byId("subtract").hidden = !["polygon", "fill", "region"].includes(name);
    this.stage.canvas.dataset.tool = name;
    if (name === "region") this.regions();
    announce(tool.text);
    this.stage.ask();
  }

  toggleSubtract() {
    this.isSubtracting = !this.isSubtracting;
    byId("subtract").setAttribute("aria-pressed", this.isSubtracting);
  }

  changeSize(by) {
    byId("size").value = Number(byId("size").value) + by;
    announce(`Size ${Math.round(2 * this.brushSize())} pixels`);
    this.stage.ask();
  }

  /** Regions of the image, or null while they are not there. */
  regions() {
    const { image } = this, known = this.regionsOf.get(image);
    if (known !== undefined || !this.data?.width) return known ?? null;
    this.regionsOf.set(image, null);
    byId("hint").textContent = "Regions are being looked for …";
    this.source.regions(image).then(
      (regions) => {
        this.regionsOf.set(image, regions);
        if (this.regionsOf.size > 8) this.regionsOf.delete(this.regionsOf.keys().next().value);
        byId("hint").textContent = TOOLS.find((one) => one.name === "region").hint;
      },
      (error) => {
        byId("hint").textContent = `There are no regions: ${error.message}`;
      },
    );
    return null;
  }

  drawTool(context) {
    const tool = this.tool(), point = this.cursor ?? this.stage.pointer;
    if (tool) this.stage.inImage(context, (inside) => tool.draw(inside, point));
    if (this.cursor) this.stage.inImage(context, (inside) => this.drawCursor(inside));
  }

  drawCursor(context) {
    const arm = 10 / this.stage.scale, { x, y } = this.cursor, path = new Path2D();
    path.moveTo(x - arm, y);
    path.lineTo(x + arm, y);
    path.moveTo(x, y - arm);
    path.lineTo(x, y + arm);
    this.stage.strokeTwice(context, path);
  }

  // -- the keyboard as a pointer ----------------------------------------------------------------------------

  /** Enter: begin to draw with the keyboard, or act where the cursor is. */
  act(isFinish) {
    const tool = this.tool();
    if (!tool) return;
    if (!this.cursor) {
      this.cursor = { x: this.stage.width / 2, y: this.stage.height / 2 };
      this.stage.canvas.focus();
      announce("Arrows move the cursor, Enter acts, Escape ends");
    } else if (isFinish) tool.finish?.();
    else if (this.toolName === "brush" || this.toolName === "eraser") {
      this.isPenDown = !this.isPenDown;
      if (this.isPenDown) tool.down(this.cursor);
      else tool.up(this.cursor);
      announce(this.isPenDown ? "Pen down" : "Pen up");
    } else {
      tool.down(this.cursor);
      tool.up(this.cursor);
    }
    this.stage.ask();
  }

  moveCursor(dx, dy, isFar) {
    const step = Math.max(1, Math.max(this.stage.width, this.stage.height) / (isFar ? 16 : 100));
    this.cursor.x = Math.max(0, Math.min(this.stage.width - 1, this.cursor.x + dx * step));
    this.cursor.y = Math.max(0, Math.min(this.stage.height - 1, this.cursor.y + dy * step));
    if (this.isPenDown) this.tool().move(this.cursor);
    else this.tool()?.hover?.(this.cursor);
    this.stage.ask();
  }

  stopKeyboard() {
    if (this.isPenDown) this.tool()?.up(this.cursor);
    this.isPenDown = false;
    this.cursor = null;
    this.stage.ask();
  }

  /** Escape: end what was begun; false where there is nothing to end. */
  escape() {
    if (this.tools.polygon.points.length) this.tools.polygon.cancel();
    else if (this.cursor) this.stopKeyboard();
    else if (this.section.classList.contains("with-panel")) this.togglePanel();
    else return false;
    this.stage.ask();
    return true;
  }

  // -- what stands beside the image -------------------------------------------------------------------------

  buildTools() {
    byId("tools").replaceChildren(...TOOLS.map(({ name, key, text }) =>
      make("button", { type: "button", "data-tool": name, "aria-pressed": name === this.toolName, title: `${text} (${key.toUpperCase()})`, onclick: () => this.useTool(name) }, icon(name), make("span", {}, text))));
    this.useTool("move");
  }

  buildLayers() {
    byId("layers").replaceChildren(...[...this.layers.values()].reverse().map((layer) => {
      layer.box = make("input", { type: "checkbox", onchange: (event) => this.showLayer(layer, event.target.checked) });
      layer.box.checked = layer.isShown;
      const range = make("input", { type: "range", min: 0, max: 100, value: Math.round(100 * layer.opacity), "aria-label": `Opacity of ${layer.heading}`, oninput: (event) => this.setOpacity(layer, event.target.value / 100) });
      layer.row = make("li", {}, make("label", {}, layer.box, make("span", { title: layer.note }, layer.heading), make("kbd", {}, layer.key.toUpperCase())), range);
      return layer.row;
    }));
  }

  showLayer(layer, isShown) {
    layer.isShown = isShown;
    layer.box.checked = isShown;
    if (this.data && this.items.maps[layer.name] && isShown && !layer.picture) this.loadMap(layer.name, this.classData());
    this.stage.ask();
  }

  toggleLayer(name) {
    const layer = this.layers.get(name);
    if (layer) this.showLayer(layer, !layer.isShown);
    if (layer) announce(`${layer.heading} ${layer.isShown ? "shown" : "hidden"}`);
  }

  setOpacity(layer, opacity) {
    layer.opacity = opacity;
    this.stage.ask();
  }

  togglePanel() {
    const isOpen = this.section.classList.toggle("with-panel");
    byId("panel-button").setAttribute("aria-expanded", isOpen);
  }

  fillAddClass() {
    const others = [...this.items.classes.values()].filter((one) => !this.masks.has(one.id));
    fillSelect(byId("add-class"), [["", "choose …"], ...others.map((one) => [one.id, one.name])], "");
    byId("add-class").disabled = !others.length || !this.data.width;
  }

  showState() {
    byId("classes").replaceChildren(...[...this.masks.keys()].map((category, place) => this.classRow(category, place)));
    byId("facts").replaceChildren(...this.facts().map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
    const verdict = this.active ? this.state.verdict : "";
    for (const [id, value] of Object.entries({ accept: "accepted", reject: "rejected" })) byId(id).setAttribute("aria-pressed", verdict === value || (id === "accept" && verdict === "corrected"));
    for (const id of ["accept", "reject", "clear"]) byId(id).disabled = !this.active;
    for (const layer of this.layers.values()) layer.row.classList.toggle("none", !this.hasLayer(layer));
    const share = this.active ? ((100 * areaOf(this.active.mask)) / this.active.mask.length).toFixed(1) : "0";
    this.stage.canvas.setAttribute("aria-label", `${this.items.ids[this.image]}, ${this.items.className(this.category)}, ${share} % of the image, ${verdict || "nothing to judge"}. Press Enter to draw with the keyboard.`);
  }

  hasLayer(layer) {
    return layer.picture !== null || (layer.name in this.items.maps && layer.isThere);
  }

  classRow(category, place) {
    const state = this.items.stateOf(this.image, category), isActive = category === this.category;
    const swatch = make("span", { class: "swatch" });
    swatch.style.background = css(this.items.colour(category));
    const sign = VERDICT_ICONS[state.verdict];
    const by = state.author ? `${state.verdict} by ${state.author}` : state.verdict;
    const isGone = state.tag === false;
    const choose = make("button", { type: "button", class: "choose", "aria-pressed": isActive, onclick: () => this.choose(category) }, swatch,
      make("span", { class: isGone ? "name gone" : "name" }, this.items.className(category)), make("span", { class: `sign ${state.verdict}`, title: by }, ...(sign ? [icon(sign)] : [])), make("kbd", {}, String(place + 1)));
    const untag = make("button", { type: "button", class: "untag", title: isGone ? "The image holds this class after all (X)" : "The image does not hold this class (X)", "aria-label": `${isGone ? "Add" : "Remove"} the tag ${this.items.className(category)}`, onclick: () => this.toggleTag(category) }, icon(isGone ? "plus" : "reject"));
    return make("li", { class: isActive ? "active" : "" }, choose, untag);
  }

  facts() {
    const { items, state } = this, found = [];
    const judged = this.active ? [["verdict", state.verdict === "corrected" && state.tag === false ? "tag removed" : state.verdict]] : [];
    if (state.author) judged.push(["by", state.author], ["at", state.at.slice(0, 16).replace("T", " ")], ["from", state.origin]);
    if (this.active) found.push(["area", `${((100 * areaOf(this.active.mask)) / this.active.mask.length).toFixed(1)} %`]);
    for (const [column, { name }] of Object.entries(SORTS)) {
      const value = this.item === undefined ? NaN : items.value(column, this.item);
      if (column !== "share" && Number.isFinite(value)) found.push([name, number(value)]);
    }
    if (this.data.width) found.push(["size", `${this.data.width} × ${this.data.height}`]);
    return [...judged, ...found];
  }

  /** The class at a place of the list, 1 for the first. */
  chooseAt(place) {
    const category = [...(this.masks?.keys() ?? [])][place - 1];
    if (category !== undefined) this.choose(category);
    if (category !== undefined) announce(this.items.className(category));
  }
}

/** A picture, once it can be drawn. */
async function pictureOf(address) {
  const image = new Image();
  image.src = address;
  await image.decode();
  return image;
}
