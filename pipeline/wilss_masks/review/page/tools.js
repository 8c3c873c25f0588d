// What the pointer, or the keyboard's cursor, does to a mask. A tool changes the mask, shows it, and commits it whole.

import { drawLine, drawPolygon, pieceAt } from "./masks.js";

const CLOSE = 12; // pixels of the screen within which a polygon's first corner closes it

/** `edit` has: layer (a MaskLayer or null), stage, isSubtracting(), size(), commit(text), regions() -> {height, width, numbers} or null. */
class Tool {
  constructor(edit) {
    this.edit = edit;
  }

  get layer() {
    return this.edit.layer;
  }

  begin() {
    this.before = this.layer ? this.layer.mask.slice() : null;
  }

  /** A stroke that changed nothing is none. */
  end(text) {
    const { before } = this;
    this.before = null;
    if (before.some((value, pixel) => value !== this.layer.mask[pixel])) this.edit.commit(text);
  }

  cancel() {
    if (this.before && this.layer) this.layer.set(this.before);
    this.before = null;
  }

  inside(point) {
    const x = Math.floor(point.x), y = Math.floor(point.y);
    return this.layer && x >= 0 && y >= 0 && x < this.layer.width && y < this.layer.height ? { x, y } : null;
  }

  down() {}
  move() {}
  up() {}
  draw() {}
}

export class Brush extends Tool {
  constructor(edit, value) {
    super(edit);
    this.value = value;
  }

  down(point) {
    if (!this.layer) return;
    this.begin();
    this.last = point;
    this.stroke(point);
  }

  move(point) {
    if (this.before) this.stroke(point);
  }

  up() {
    if (this.before) this.end(this.value ? "Painted" : "Erased");
  }

  stroke(point) {
    const { layer } = this;
    layer.paint(drawLine(layer.mask, layer.width, layer.height, this.last, point, this.edit.size(), this.value));
    this.last = point;
  }

  draw(context, point) {
    if (!point) return;
    const circle = new Path2D();
    circle.arc(point.x, point.y, Math.max(this.edit.size(), 0.5), 0, 2 * Math.PI);
    this.edit.stage.strokeTwice(context, circle);
  }
}

export class Polygon extends Tool {
  constructor(edit) {
    super(edit);
    this.points = [];
  }

  up(point) {
    if (!this.layer) return;
    const [first] = this.points, near = CLOSE / this.edit.stage.scale;
    if (this.points.length > 2 && Math.hypot(point.x - first.x, point.y - first.y) < near) this.finish();
    else this.points.push(point);
  }

  /** Close the polygon, if it has three corners. */
  finish() {
    if (this.points.length > 2 && this.layer) {
      const { layer } = this;
      this.begin();
      drawPolygon(layer.mask, layer.width, layer.height, this.points, this.edit.isSubtracting() ? 0 : 1);
      layer.paint();
      this.points = [];
      this.end(this.edit.isSubtracting() ? "Polygon removed" : "Polygon added");
    }
  }

  back() {
    this.points.pop();
  }

  cancel() {
    this.points = [];
  }

  draw(context, point) {
    if (!this.points.length) return;
    const path = new Path2D();
    this.points.forEach((one, i) => (i ? path.lineTo(one.x, one.y) : path.moveTo(one.x, one.y)));
    if (point) path.lineTo(point.x, point.y);
    this.edit.stage.strokeTwice(context, path);
    const corners = new Path2D(), radius = 4 / this.edit.stage.scale;
    for (const one of this.points) {
      corners.moveTo(one.x + radius, one.y);
      corners.arc(one.x, one.y, radius, 0, 2 * Math.PI);
    }
    context.fillStyle = "white";
    context.fill(corners);
  }
}

export class Fill extends Tool {
  /** A hole becomes part of the mask; where it removes, a piece of the mask goes. */
  up(point) {
    const at = this.inside(point), wanted = this.edit.isSubtracting() ? 1 : 0;
    if (!at || this.layer.mask[at.y * this.layer.width + at.x] !== wanted) return;
    const { layer } = this;
    this.begin();
    for (const pixel of pieceAt(layer.mask, layer.width, layer.height, at.x, at.y)) layer.mask[pixel] = 1 - wanted;
    layer.paint();
    this.end(wanted ? "Piece removed" : "Filled");
  }
}

export class Region extends Tool {
  down(point) {
    if (!this.layer || !this.edit.regions()) return;
    this.begin();
    this.take(point);
  }

  move(point) {
    this.hover(point);
    if (this.before) this.take(point);
  }

  up() {
    if (this.before) this.end(this.edit.isSubtracting() ? "Region removed" : "Region taken");
  }

  numberAt(point) {
    const regions = this.edit.regions(), at = this.inside(point);
    if (!regions || !at) return -1;
    const x = Math.floor((at.x * regions.width) / this.layer.width), y = Math.floor((at.y * regions.height) / this.layer.height);
    return regions.numbers[y * regions.width + x];
  }

  take(point) {
    const number = this.numberAt(point), { layer } = this, regions = this.edit.regions();
    if (number < 0) return;
    const value = this.edit.isSubtracting() ? 0 : 1;
    for (let y = 0; y < layer.height; y++) {
      const row = Math.floor((y * regions.height) / layer.height) * regions.width;
      for (let x = 0; x < layer.width; x++) if (regions.numbers[row + Math.floor((x * regions.width) / layer.width)] === number) layer.mask[y * layer.width + x] = value;
    }
    layer.paint();
  }

  hover(point) {
    const number = this.numberAt(point);
    if (number === this.number) return;
    this.number = number;
    this.shown = number < 0 ? null : this.pictureOf(number);
  }

  pictureOf(number) {
    const { width, height, numbers } = this.edit.regions(), canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d"), image = context.createImageData(width, height), pixels = new Uint32Array(image.data.buffer);
    for (let i = 0; i < numbers.length; i++) if (numbers[i] === number) pixels[i] = 0x8cffffff;
    context.putImageData(image, 0, 0);
    return canvas;
  }

  /** Another image has other regions. */
  forget() {
    this.number = undefined;
    this.shown = null;
  }

  draw(context, point) {
    if (this.shown && point) context.drawImage(this.shown, 0, 0, this.layer.width, this.layer.height);
  }
}
