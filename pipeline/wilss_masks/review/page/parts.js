// Small parts of pages: elements, icons, words for those who listen.

const ICONS = {
  accept: "M4 12.5l5 5L20 6.5",
  reject: "M6 6l12 12M18 6L6 18",
  edited: "M4 20l1-4L16.5 4.500l3 3L8 19z",
  clear: "M5 12h14",
  undo: "M8 5L4 9l4 4M4 9h10a6 6 0 0 1 0 12h-3",
  redo: "M16 5l4 4-4 4M20 9H10a6 6 0 0 0 0 12h3",
  save: "M12 4v11M7 10.500l5 5 5-5M5 20h14",
  help: "M9 9a3 3 0 1 1 4.200 2.700c-.8.4-1.200 1-1.200 1.800v.5M12 17.500v.5",
  sort: "M8 5v14M4.500 15.500L8 19l3.500-3.500M16 19V5M12.500 8.500L16 5l3.500 3.500",
  back: "M11 5l-7 7 7 7M4 12h16",
  layers: "M12 4l9 5-9 5-9-5zM3 14l9 5 9-5",
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  fit: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  move: "M12 3v18M3 12h18M9 6l3-3 3 3M9 18l3 3 3-3M6 9l-3 3 3 3M18 9l3 3-3 3",
  brush: "M20 4L10 14M10 14c-3 0-4 2-4 4s-2 2-2 2c4 1 8 0 8-4z",
  eraser: "M9 20h11M5 15L14 6l5 5-8 8H8z",
  polygon: "M5 8l8-4 6 7-4 8-9-1z",
  fill: "M5 11l7-7 7 7-7 7zM19 15c1.500 2 2 3 2 4a2 2 0 0 1-4 0c0-1 .5-2 2-4",
  region: "M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z",
};

/** An element: attributes by name, `on...` as listeners, children as nodes or text. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** An icon by its name, which says nothing to those who listen. */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg"), path = document.createElementNS(space, "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** Put icons where the page names them. */
export function putIcons() {
  for (const place of document.querySelectorAll("svg-icon")) place.replaceWith(icon(place.getAttribute("name")));
}

export function byId(id) {
  return document.getElementById(id);
}

/** A colour [r, g, b] as CSS has it. */
export function css(colour, alpha = 1) {
  return `rgb(${colour[0]} ${colour[1]} ${colour[2]} / ${alpha})`;
}

/** Tell those who listen. */
export function announce(text) {
  byId("live").textContent = text;
}

/** A sentence that everybody must see, until it is taken away by an empty one. */
export function alarm(text) {
  const place = byId("alert");
  place.textContent = text;
  place.hidden = !text;
}

/** Fill a select with [value, text] pairs, keeping what was chosen if it is still there. */
export function fillSelect(select, pairs, chosen = select.value) {
  select.replaceChildren(...pairs.map(([value, text]) => make("option", { value }, text)));
  select.value = pairs.some(([value]) => String(value) === String(chosen)) ? chosen : pairs[0][0];
}

export function number(value, digits = 2) {
  return Number.isFinite(value) ? value.toFixed(digits) : "–";
}

export function thousands(value) {
  return value.toLocaleString("en");
}
