// Masks as bytes, one a pixel (1 inside), row by row; and as run lengths, outside first.

/** Run lengths to a mask of `size` pixels. */
export function maskOf(runs, size) {
  const mask = new Uint8Array(size);
  let at = 0;
  for (let i = 0; i < runs.length; i++) {
    if (i % 2) mask.fill(1, at, at + runs[i]);
    at += runs[i];
  }
  return mask;
}

/** A mask to run lengths. */
export function runsOf(mask) {
  const runs = [];
  let value = 0, begun = 0;
  for (let i = 0; i < mask.length; i++) {
    if (mask[i] !== value) {
      runs.push(i - begun);
      begun = i;
      value = mask[i];
    }
  }
  runs.push(mask.length - begun);
  return runs;
}

/** How many pixels are inside. */
export function areaOf(mask) {
  let sum = 0;
  for (let i = 0; i < mask.length; i++) sum += mask[i];
  return sum;
}

/** Set all pixels whose centre is within `radius` of the line from a to b; returns the rectangle that was touched. */
export function drawLine(mask, width, height, a, b, radius, value) {
  const r = Math.max(radius, 0.5);
  const left = Math.max(0, Math.floor(Math.min(a.x, b.x) - r)), right = Math.min(width - 1, Math.ceil(Math.max(a.x, b.x) + r));
  const top = Math.max(0, Math.floor(Math.min(a.y, b.y) - r)), bottom = Math.min(height - 1, Math.ceil(Math.max(a.y, b.y) + r));
  const dx = b.x - a.x, dy = b.y - a.y, length = dx * dx + dy * dy;
  for (let y = top; y <= bottom; y++) {
    for (let x = left; x <= right; x++) {
      const px = x + 0.5 - a.x, py = y + 0.5 - a.y;
      const t = length ? Math.max(0, Math.min(1, (px * dx + py * dy) / length)) : 0;
      const ex = px - t * dx, ey = py - t * dy;
      if (ex * ex + ey * ey <= r * r) mask[y * width + x] = value;
    }
  }
  return { left, top, right, bottom };
}

/** Set all pixels whose centre is inside a polygon (even-odd). */
export function drawPolygon(mask, width, height, points, value) {
  const top = Math.max(0, Math.floor(Math.min(...points.map((p) => p.y)))), bottom = Math.min(height - 1, Math.ceil(Math.max(...points.map((p) => p.y))));
  for (let y = top; y <= bottom; y++) {
    const line = y + 0.5, crossings = [];
    for (let i = 0; i < points.length; i++) {
      const p = points[i], q = points[(i + 1) % points.length];
      if ((p.y <= line) !== (q.y <= line)) crossings.push(p.x + ((line - p.y) * (q.x - p.x)) / (q.y - p.y));
    }
    crossings.sort((m, n) => m - n);
    for (let i = 0; i + 1 < crossings.length; i += 2) {
      const from = Math.max(0, Math.ceil(crossings[i] - 0.5)), to = Math.min(width - 1, Math.ceil(crossings[i + 1] - 0.5) - 1);
      if (from <= to) mask.fill(value, y * width + from, y * width + to + 1);
    }
  }
}

/** The piece of equal value around a pixel (sharing sides), as a list of pixel numbers. */
export function pieceAt(mask, width, height, x, y) {
  const value = mask[y * width + x], seen = new Uint8Array(mask.length), found = [y * width + x];
  seen[found[0]] = 1;
  for (let i = 0; i < found.length; i++) {
    const at = found[i], column = at % width;
    const beside = [column > 0 ? at - 1 : -1, column < width - 1 ? at + 1 : -1, at - width, at + width];
    for (const other of beside) {
      if (other >= 0 && other < mask.length && !seen[other] && mask[other] === value) {
        seen[other] = 1;
        found.push(other);
      }
    }
  }
  return found;
}
