#!/usr/bin/env bash
# What is drawn on a label map that was read from a file is lost when it goes into a Hugging Face dataset.
#
# datasets 5.2.0, Pillow 13.0.0. Of a picture that Pillow opened from a file, the feature Image keeps the path, not the
# pixels, and reads the file again when asked. Painted on in place (ImageDraw, paste, putpixel), the picture has its path
# still. Seen, a label map of zeros on which 16 pixels are painted: 16 in the picture, 0 in Dataset.from_dict, 0 after
# Dataset.map with a function that paints and returns the row; no warning. The same function keeps all 16 on a dataset
# that holds the bytes of its files, as one of parquet may; so does a copy (picture.copy()).
# Why it matters: painting void or a polygon into label maps by map() is done in place with Pillow, and trains on what
# was there before; whether it works depends on how the dataset was stored.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check datasets==5.2.0 pillow==13.0.0 || exit 2

HF_HUB_OFFLINE=1 HF_HOME="$work/cache" venv/bin/python - <<'PY'
import sys
from pathlib import Path

import numpy as np
from datasets import Dataset, Features, Image, disable_progress_bars
from PIL import Image as Pillow
from PIL import ImageDraw

disable_progress_bars()
FEATURES = Features({"label": Image()})
Pillow.fromarray(np.zeros((8, 8), np.uint8)).save("label.png")


def painted(row: dict) -> dict:
    """The row, a square of class 1 painted into its label map."""
    ImageDraw.Draw(row["label"]).rectangle([2, 2, 5, 5], fill=1)
    return row


def copied(row: dict) -> dict:
    return painted({"label": row["label"].copy()})


def pixels(dataset: Dataset) -> int:
    """Of class 1 in the first label map."""
    return int((np.asarray(dataset[0]["label"]) == 1).sum())


picture = painted({"label": Pillow.open("label.png")})["label"]
of_files = Dataset.from_dict({"label": ["label.png"]}, features=FEATURES)
of_bytes = Dataset.from_dict({"label": [{"path": None, "bytes": Path("label.png").read_bytes()}]}, features=FEATURES)
seen = {
    "the picture itself": int((np.asarray(picture) == 1).sum()),
    "from_dict of it": pixels(Dataset.from_dict({"label": [picture]}, features=FEATURES)),
    "map over files": pixels(of_files.map(painted)),
    "map over files, of a copy": pixels(of_files.map(copied)),
    "map over bytes": pixels(of_bytes.map(painted)),
}
for what, count in seen.items():
    print(f"{what}: {count} of 16 painted pixels")
sys.exit(0 if list(seen.values()) == [16, 0, 0, 16, 16] else "changed: expected 16, 0, 0, 16 and 16")
PY
