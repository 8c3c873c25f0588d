#!/usr/bin/env bash
# Read as grey by OpenCV, VOC's boats are motorbikes, its cats are trains, and two pairs of classes have become one.
#
# opencv-python-headless 4.14.0.94, Pillow 13.0.0. VOC stores labels as palette PNGs. Of these OpenCV's
# IMREAD_UNCHANGED gives colours, IMREAD_GRAYSCALE the brightness of the colours, as uint8 of the right shape.
# Seen: of 21 classes 19 numbers are left (bicycle and sheep are 75, bottle and tvmonitor 52), 4 (boat) is read as 14 (a
# valid class, motorbike) and 8 (cat) as 19 (train); void, 255, is 220. Pillow reads the indices.
# Why it matters: a loader that takes what is above 20 for void trains on it without an error: background, boats named
# motorbikes and cats named trains are all that is left. Read labels with Pillow, or write them as grey PNGs.
# Known as a question of many repositories, e.g. yu-changqian/TorchSeg issue 65.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check \
    opencv-python-headless==4.14.0.94 pillow==13.0.0 numpy==2.4.6 || exit 2

venv/bin/python - <<'PY'
import sys
from collections import Counter

import cv2
import numpy as np
from PIL import Image


def voc_colour(index: int) -> list[int]:
    """The bits of a class are dealt to red, green and blue in turn, low bits becoming high ones."""
    return [sum((index >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8)) for channel in range(3)]


labels = np.array([[*range(21), 255]], np.uint8)
image = Image.fromarray(labels)
image.putpalette([channel for index in range(256) for channel in voc_colour(index)])
image.save("label.png")

grey = cv2.imread("label.png", cv2.IMREAD_GRAYSCALE)
values = grey[0].tolist()
shared = {value: [c for c in range(21) if values[c] == value] for value, n in Counter(values[:21]).items() if n > 1}
mistaken = {c: values[c] for c in range(21) if values[c] <= 20 and values[c] != c}
seen = {
    "Pillow reads the indices": bool((np.asarray(Image.open("label.png")) == labels).all()),
    "shape read with IMREAD_UNCHANGED": cv2.imread("label.png", cv2.IMREAD_UNCHANGED).shape,
    "classes of the same grey": shared,
    "classes read as another": mistaken,
    "void read as": values[-1],
}
print("classes 0 to 20 read as grey:", values[:21])
for what, value in seen.items():
    print(f"{what}: {value}")
expected = [True, (1, 22, 3), {75: [2, 17], 52: [5, 20]}, {4: 14, 8: 19}, 220]
sys.exit(0 if list(seen.values()) == expected else f"changed: expected {expected}")
PY
