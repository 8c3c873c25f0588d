#!/usr/bin/env bash
# A mask of 0 and 1 in a black and white palette, saved as BMP, comes back empty.
#
# Pillow 13.0.0, numpy 2.4.6. Pillow writes a palette image as BMP of 8 bits with as many colours as the palette has. When
# it reads one of two colours, black and white, it takes the 8 bits of a pixel for 8 pixels. Seen: a square of 12 pixels
# comes back as none, without an error; as PNG or TIFF, and with black and red, it is all there. A BMP of 4 bits with the
# greys 0 to 15 is refused as damaged.
# Why it matters: masks of one class are painted in black and white, and BMP is what old annotation tools write.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check pillow==13.0.0 numpy==2.4.6 || exit 2

venv/bin/python - <<'PY'
import io
import sys

import numpy as np
from PIL import Image

mask = np.zeros((4, 10), np.uint8)
mask[1:3, 2:8] = 1


def pixels_left(form: str, colours: list[int]) -> int:
    picture = Image.fromarray(mask)
    picture.putpalette(colours)
    file = io.BytesIO()
    picture.save(file, form)
    return int(np.asarray(Image.open(file)).astype(int).sum())


BLACK_AND_WHITE, BLACK_AND_RED = [0, 0, 0, 255, 255, 255], [0, 0, 0, 255, 0, 0]
seen = {
    "BMP, black and white": pixels_left("BMP", BLACK_AND_WHITE),
    "BMP, black and red": pixels_left("BMP", BLACK_AND_RED),
    "PNG, black and white": pixels_left("PNG", BLACK_AND_WHITE),
    "TIFF, black and white": pixels_left("TIFF", BLACK_AND_WHITE),
}
for name, count in seen.items():
    print(f"{name}: {count} of {mask.sum()} pixels of the mask")
sys.exit(0 if list(seen.values()) == [0, 12, 12, 12] else "changed: expected 0, 12, 12 and 12")
PY
