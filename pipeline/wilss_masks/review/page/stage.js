// The canvas of one image: layers over each other, zoom and pan, and where the pointer is in pixels of the image.

import { css } from "./parts.js";

const MOST_SCALE = 32, WHEEL = 0.0016;

/** One mask as a layer: its pixels, and a canvas with its colour that follows them. */
export class MaskLayer {
  constructor(width, height, mask, colour, fill = 0.45) {
    Object.assign(this, { width, height, mask, colour, fill });
    this.canvas = document.createElement("canvas");
    this.canvas.width = width;
    this.canvas.height = height;
    this.context = this.canvas.getContext("2d");
    this.line = Math.max(1, Math.round(Math.max(width, height) / 700));
    this.paint();
  }

  set(mask) {
    this.mask = mask;
    this.paint();
  }

  /** Draw again what lies in a rectangle of pixels; all of it by default. */
  paint(rectangle = { left: 0, top: 0, right: this.width - 1, bottom: this.height - 1 }) {
    const { width, height, mask, line } = this;
    const left = Math.max(0, rectangle.left - line), right = Math.min(width - 1, rectangle.right + line);
    const top = Math.max(0, rectangle.top - line), bottom = Math.min(height - 1, rectangle.bottom + line);
    if (right < left || bottom < top) return;
    const image = this.context.createImageData(right - left + 1, bottom - top + 1), pixels = new Uint32Array(image.data.buffer);
    const [r, g, b] = this.colour, rgb = (b << 16) | (g << 8) | r;
    const inside = ((Math.round(255 * this.fill) << 24) | rgb) >>> 0, edge = ((255 << 24) | rgb) >>> 0;
    let at = 0;
    for (let y = top; y <= bottom; y++) {
      for (let x = left; x <= right; x++, at++) {
        const here = y * width + x;
        if (!mask[here]) continue;
        const isEdge = (x >= line && !mask[here - line]) || (x + line < width && !mask[here + line]) || (y >= line && !mask[here - line * width]) || (y + line < height && !mask[here + line * width]);
        pixels[at] = isEdge ? edge : inside;
      }
    }
    this.context.putImageData(image, left, top);
  }
}

export class Stage {
  /** `tool()` gives what the pointer does now, or null for moving the image; `onDraw(context)` draws over the layers. */
  constructor(canvas, { tool, onDraw, onView }) {
    Object.assign(this, { canvas, tool, onDraw, onView });
    this.context = canvas.getContext("2d");
    this.layers = [];
    this.width = this.height = 0;
    this.scale = 1;
    this.x = this.y = 0;
    this.pointers = new Map();
    this.pointer = null;
    this.isSpaceHeld = false;
    this.isFitted = true;
    for (const [name, act] of Object.entries({ pointerdown: "down", pointermove: "moved", pointerup: "up", pointercancel: "cancelled", pointerleave: "left", wheel: "wheel", dblclick: "double" }))
      canvas.addEventListener(name, (event) => this[act](event), { passive: false });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    new ResizeObserver(() => this.resize()).observe(canvas.parentElement);
  }

  /** Another image, of this size in pixels. */
  open(width, height) {
    const isSame = this.width === width && this.height === height;
    this.width = width;
    this.height = height;
    if (!isSame || this.isFitted) this.fit();
    this.ask();
  }

  resize() {
    const box = this.canvas.parentElement, ratio = window.devicePixelRatio || 1;
    this.viewWidth = box.clientWidth;
    this.viewHeight = box.clientHeight;
    this.canvas.width = Math.round(this.viewWidth * ratio);
    this.canvas.height = Math.round(this.viewHeight * ratio);
    this.ratio = ratio;
    if (this.isFitted) this.fit();
    this.draw();
  }

  fit() {
    if (!this.width || !this.viewWidth) return;
    const margin = 8;
    this.scale = Math.min((this.viewWidth - 2 * margin) / this.width, (this.viewHeight - 2 * margin) / this.height);
    this.x = (this.viewWidth - this.width * this.scale) / 2;
    this.y = (this.viewHeight - this.height * this.scale) / 2;
    this.isFitted = true;
    this.ask();
  }

  /** Larger or smaller by a factor, with a point of the screen staying where it is. */
  zoom(factor, x = this.viewWidth / 2, y = this.viewHeight / 2) {
    const least = Math.min(this.viewWidth / this.width, this.viewHeight / this.height) / 4;
    const scale = Math.max(least, Math.min(MOST_SCALE, this.scale * factor));
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.isFitted = false;
    this.ask();
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.isFitted = false;
    this.ask();
  }

  /** A point of the screen in pixels of the image. */
  toImage(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: (event.clientX - box.left - this.x) / this.scale, y: (event.clientY - box.top - this.y) / this.scale };
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
    const { context, ratio } = this;
    if (!ratio) return;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.viewWidth, this.viewHeight);
    if (!this.width) return;
    context.imageSmoothingEnabled = this.scale < 3;
    context.imageSmoothingQuality = "high";
    for (const layer of this.layers) {
      if (!layer.isShown || !layer.picture) continue;
      context.globalAlpha = layer.opacity;
      context.drawImage(layer.picture, this.x, this.y, this.width * this.scale, this.height * this.scale);
    }
    context.globalAlpha = 1;
    this.onDraw(context);
    this.onView?.();
  }

  /** Draw in pixels of the image; lines keep their width on the screen. */
  inImage(context, act) {
    context.save();
    context.translate(this.x, this.y);
    context.scale(this.scale, this.scale);
    context.lineWidth = 1.5 / this.scale;
    act(context);
    context.restore();
  }

  /** A line that is seen on any ground. */
  strokeTwice(context, path, colour = [255, 255, 255]) {
    context.strokeStyle = "rgb(0 0 0 / 0.7)";
    context.lineWidth = 3.5 / this.scale;
    context.stroke(path);
    context.strokeStyle = css(colour);
    context.lineWidth = 1.5 / this.scale;
    context.stroke(path);
  }

  // -- pointers ------------------------------------------------------------------------------------------------

  down(event) {
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    const tool = this.tool();
    if (this.pointers.size === 2) {
      this.acting?.cancel();
      this.acting = null;
      this.pinch = this.pinchOf();
    } else if (this.pointers.size === 1) {
      const moves = event.button === 1 || this.isSpaceHeld || !tool;
      this.acting = moves || event.button === 2 ? null : tool;
      this.acting?.down(this.toImage(event), event);
    }
    this.pointer = this.toImage(event);
    this.ask();
  }

  moved(event) {
    this.pointer = this.toImage(event);
    const before = this.pointers.get(event.pointerId);
    if (before) {
      this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      if (this.pointers.size === 2) this.pinched();
      else if (this.acting) for (const one of event.getCoalescedEvents?.() ?? [event]) this.acting.move(this.toImage(one), event);
      else this.pan(event.clientX - before.x, event.clientY - before.y);
    } else this.tool()?.hover?.(this.pointer);
    this.ask();
  }

  up(event) {
    this.pointers.delete(event.pointerId);
    if (this.acting && !this.pointers.size) {
      const acting = this.acting;
      this.acting = null;
      acting.up(this.toImage(event), event);
    }
    if (event.pointerType === "touch") this.pointer = null;
    this.ask();
  }

  cancelled(event) {
    this.pointers.delete(event.pointerId);
    this.acting?.cancel();
    this.acting = null;
  }

  left() {
    this.pointer = null;
    this.ask();
  }

  wheel(event) {
    event.preventDefault();
    const box = this.canvas.getBoundingClientRect();
    this.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 30 : 1) * WHEEL), event.clientX - box.left, event.clientY - box.top);
  }

  double(event) {
    this.tool()?.finish?.(this.toImage(event));
  }

  pinchOf() {
    const [a, b] = [...this.pointers.values()], box = this.canvas.getBoundingClientRect();
    return { x: (a.x + b.x) / 2 - box.left, y: (a.y + b.y) / 2 - box.top, width: Math.hypot(a.x - b.x, a.y - b.y) };
  }

  pinched() {
    const now = this.pinchOf(), before = this.pinch;
    this.pan(now.x - before.x, now.y - before.y);
    this.zoom(now.width / Math.max(1, before.width), now.x, now.y);
    this.pinch = now;
  }
}
