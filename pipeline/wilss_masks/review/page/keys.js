// Every key of the page, once: what is pressed, what is told in the help, what is done.

import { make } from "./parts.js";

/** `keys`: what may be pressed, as `event.key`, with "Shift+" or "Ctrl+" before it. `where`: gallery, image or both. */
export class Keys {
  constructor(where) {
    this.where = where;
    this.bindings = [];
    addEventListener("keydown", (event) => this.pressed(event));
  }

  add(where, group, keys, text, act, label = keys.filter((key) => !key.startsWith("Meta"))) {
    this.bindings.push({ where, group, keys, text, act, label });
  }

  pressed(event) {
    if (event.defaultPrevented || event.altKey || document.querySelector("dialog[open]")) return;
    const typing = event.target.closest?.("input[type=search], input[type=text], select, textarea, summary");
    if (typing && event.key !== "Escape") return;
    if (event.target.closest?.("button, input") && [" ", "Enter"].includes(event.key)) return;
    if (event.target.matches?.("input[type=range]") && event.key.startsWith("Arrow")) return;
    const name = named(event), here = this.where();
    for (const { where, keys, act } of this.bindings) {
      if ((where === here || where === "both") && keys.includes(name)) {
        if (act(event) !== false) event.preventDefault();
        return;
      }
    }
  }

  /** The help: a table for each group. */
  help() {
    const groups = Map.groupBy ? Map.groupBy(this.bindings, (one) => one.group) : grouped(this.bindings);
    return [...groups].map(([group, bindings]) =>
      make("section", {}, make("h3", {}, group), make("dl", {}, ...bindings.map((one) =>
        make("div", {}, make("dt", {}, ...one.label.flatMap((key, i) => [i ? " " : "", make("kbd", {}, shown(key))])), make("dd", {}, one.text))))));
  }
}

function grouped(bindings) {
  const groups = new Map();
  for (const one of bindings) groups.set(one.group, [...(groups.get(one.group) ?? []), one]);
  return groups;
}

function named(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const isLetter = /^[a-z0-9]$/.test(key) || event.key.length > 1;
  return `${event.ctrlKey ? "Ctrl+" : ""}${event.metaKey ? "Meta+" : ""}${event.shiftKey && isLetter ? "Shift+" : ""}${key}`;
}

function shown(key) {
  return key.replace(/Arrow(?=Left|Right|Up|Down)/, "").replace(/^ $/, "Space").replace(/(^|\+)([a-z])$/, (_, plus, letter) => plus + letter.toUpperCase());
}
