#!/usr/bin/env bash
# A label file of 0 and 1, or one with a palette, becomes an empty brush in Label Studio, without a word.
#
# label-studio-sdk 2.1.2. `image2rle`, its own way from a mask's file to pre-annotations, takes what is above 128 of the
# grey picture. A mask of 0 and 1 (as torchvision, datumaro and VOC's class 1 have it) has no such value, and a palette
# file is turned into greys by its colours first: VOC's dark red of class 1 is 38. Seen: of a square of 12 pixels 12 come
# back from 0 and 255, none from 0 and 1, none from the palette; the brush is a valid one, of the right size.
# Why it matters: the images show up as pre-annotated with nothing, and who submits them says that nothing is there.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check label-studio-sdk==2.1.2 || exit 2

venv/bin/python - <<'PY'
import sys

import numpy as np
from label_studio_sdk.converter.brush import decode_rle, image2rle
from PIL import Image

mask = np.zeros((6, 8), np.uint8)
mask[1:4, 2:6] = 1
Image.fromarray(mask * 255).save("white.png")
Image.fromarray(mask).save("ids.png")
coloured = Image.fromarray(mask)
coloured.putpalette([0, 0, 0, 128, 0, 0])
coloured.save("palette.png")


def pixels(file: str) -> int:
    """How many pixels of a mask's file are in the brush that is made of it."""
    packed, width, height = image2rle(file)
    return int((decode_rle(packed).reshape(height, width, 4)[..., 3] > 0).sum())


seen = {name: pixels(f"{name}.png") for name in ("white", "ids", "palette")}
for name, count in seen.items():
    print(f"{name}.png: {count} of {mask.sum()} pixels are in the brush")
expected = {"white": 12, "ids": 0, "palette": 0}
sys.exit(0 if seen == expected else f"changed: expected {expected}")
PY
