#!/usr/bin/env bash
# A label map of few classes loses its void when Pillow writes it as a palette PNG.
#
# Pillow 13.0.0 (the same in 12.3.0), numpy 2.4.6. Pillow packs a PNG of mode P into as many bits a pixel as the PALETTE
# needs, whatever values the pixels have. Given the colours of its classes alone (up to 16), a map with 255 for void is
# written in 1, 2 or 4 bits: 255 becomes 1, 3 or 15, without an error. Seen: with 3 colours 0 1 255 comes back as 0 1 3,
# with 2 colours void IS the one class, with 5 to 16 it is class 15, with 17 or more all is well.
# Why it matters: VOC's way to store labels is a palette PNG with 255 for void; VOC's own 21 colours hide this, and it
# appears with a data set of 15 classes or fewer. Losses and mIoU then take void for a class. Give 256 colours.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check pillow==13.0.0 numpy==2.4.6 || exit 2

venv/bin/python - <<'PY'
import io
import sys

import numpy as np
from PIL import Image


def written_and_read(labels: np.ndarray, colours: int) -> list[int]:
    image = Image.fromarray(labels)
    image.putpalette([channel for i in range(colours) for channel in (10 * i, 0, 255 - 10 * i)])
    file = io.BytesIO()
    image.save(file, "PNG")
    return np.asarray(Image.open(file)).ravel().tolist()


EXPECTED = {2: [0, 1, 1], 3: [0, 1, 3], 5: [0, 1, 15], 16: [0, 1, 15], 17: [0, 1, 255], 21: [0, 1, 255]}
labels = np.array([[0, 1, 255]], np.uint8)
seen = {colours: written_and_read(labels, colours) for colours in EXPECTED}
for colours, values in seen.items():
    print(f"palette of {colours:2} colours: 0 1 255 is read back as {values}")
sys.exit(0 if seen == EXPECTED else "changed: expected " + str(EXPECTED))
PY
