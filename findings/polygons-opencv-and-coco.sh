#!/usr/bin/env bash
# The same polygons are other pixels for OpenCV than for COCO: edges are lost, thin objects vanish, parts cancel.
#
# opencv-python-headless 4.14.0.94, pycocotools 2.0.11. findContours walks through the centres of the outermost pixels
# and fillPoly draws them; pycocotools fills up to the line, right and bottom excluded. Seen, mask -> findContours ->
# pycocotools: a square of 20 x 20 comes back as 19 x 19; of a line 2 pixels wide half is left, of one 1 pixel wide
# nothing. Two overlapping parts of one object: pycocotools takes their union, fillPoly in one call leaves a hole where
# they overlap. A ring as two polygons: a hole for fillPoly, filled for pycocotools.
# Why it matters: mask to outline to COCO is a common way of export; poles, wires and small objects lose most.
# Known in part: cocodataset/cocoapi issue 659 (edges), issue 153 (holes).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check \
    opencv-python-headless==4.14.0.94 pycocotools==2.0.11 numpy==2.4.6 || exit 2

venv/bin/python - <<'PY'
import sys

import cv2
import numpy as np
from pycocotools import mask as rle

SIDE = 40


def by_coco(polygons: list[np.ndarray]) -> int:
    flat = [polygon.ravel().astype(float).tolist() for polygon in polygons]
    return int(rle.decode(rle.merge(rle.frPyObjects(flat, SIDE, SIDE))).sum())


def by_opencv(polygons: list[np.ndarray]) -> int:
    return int(cv2.fillPoly(np.zeros((SIDE, SIDE), np.uint8), polygons, 1).sum())


def round_trip(width: int) -> tuple[int, int, int]:
    """Pixels of a box 20 high, and of its outline as either library fills it."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[5:25, 5 : 5 + width] = 1
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return int(mask.sum()), by_opencv(list(outlines)), by_coco(list(outlines))


def square(first: int, last: int) -> np.ndarray:
    return np.array([[first, first], [last, first], [last, last], [first, last]], np.int32)


parts, ring = [square(2, 20), square(10, 28)], [square(2, 28), square(10, 20)]
seen = {
    "box 20 wide: itself, its outline by OpenCV, by COCO": round_trip(20),
    "2 wide": round_trip(2),
    "1 wide": round_trip(1),
    "two parts that overlap: by OpenCV, by COCO": (by_opencv(parts), by_coco(parts)),
    "ring: outer square and ring by OpenCV, ring by COCO": (by_opencv(ring[:1]), by_opencv(ring), by_coco(ring)),
}
for what, pixels in seen.items():
    print(f"{what}: {pixels}")
expected = [(400, 400, 361), (40, 40, 19), (20, 20, 0), (520, 548), (729, 648, 676)]
sys.exit(0 if list(seen.values()) == expected else f"changed: expected {expected}")
PY
