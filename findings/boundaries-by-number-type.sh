#!/usr/bin/env bash
# Where skimage sees the boundary of a mask goes by the number type: int64 takes parts of the object, uint8 leaves void out.
#
# scikit-image 0.26.0, scipy 1.17.1, numpy 2.4.6, on x86-64. find_boundaries sets its helper pixels to the largest value
# of the type. mode="outer", the default of mark_boundaries, is to mark pixels outside of objects. Seen, a square of
# 6 x 6: 24 pixels around it as uint8, int16 or int32; as int64, the type of numpy's integers, and uint64 36, of which 12
# are its own, as scipy's filters turn that largest value into the smallest. mode="subpixel" sees a boundary where two
# values beside the helper's meet, and void of uint8, 255, is the helper's: of the boundary of an object in void 0 of 48
# places are marked, and where background, an object and void lie side by side 23 of 46. As int32 all are.
# Why it matters: boundaries of label maps make trimaps, boundary IoU, void bands and weights of losses; the same map
# gives other ones when it went through int64, and a map of uint8 with void has none at void. Say .astype("int32") first.
# Known in part: scikit-image/scikit-image issue 4558 (int64).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check \
    scikit-image==0.26.0 scipy==1.17.1 numpy==2.4.6 || exit 2

venv/bin/python - <<'PY'
import sys

import numpy as np
from skimage.segmentation import find_boundaries, mark_boundaries

square = np.zeros((12, 12), np.uint8)
square[3:9, 3:9] = 1
outer = {}
for name in ("uint8", "int16", "int32", "int64", "uint64"):
    labels = square.astype(name)
    marked = find_boundaries(labels, mode="outer")
    drawn = mark_boundaries(np.zeros((12, 12)), labels).any(axis=2)
    outer[name] = int(marked.sum()), int(marked[square == 1].sum()), bool((drawn == marked).all())
    print(f"{name}, outer: {outer[name][0]} pixels, {outer[name][1]} of the square; drawn the same: {outer[name][2]}")

in_void = np.where(square == 1, 1, 255).astype(np.uint8)
stripes = np.repeat(np.array([0, 1, 255], np.uint8), 4)[None].repeat(12, axis=0)
subpixel = {}
for case, labels in (("a square in void", in_void), ("background, object, void", stripes)):
    subpixel[case] = [int(find_boundaries(labels.astype(name), mode="subpixel").sum()) for name in ("uint8", "int32")]
    print(f"{case}, subpixel: {subpixel[case][0]} places as uint8, {subpixel[case][1]} as int32")
right = outer == {name: (36, 12, True) if "64" in name else (24, 0, True) for name in outer}
right = right and list(subpixel.values()) == [[0, 48], [23, 46]]
sys.exit(0 if right else "changed: expected 24 and 36 pixels outside, and 0 of 48 and 23 of 46 places at void")
PY
