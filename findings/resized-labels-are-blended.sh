#!/usr/bin/env bash
# The image processors of BEiT, DPT and Sapiens2 resize label maps as photographs: classes appear that nobody drew.
#
# transformers 5.24.0, torch 2.14.1. A processor takes segmentation_maps beside images and returns labels of the
# network's size. Those of SegFormer, MobileViT and MobileNetV2 take the nearest pixel; BEiT's and DPT's resize labels
# by the cubic filter of their images, Sapiens2's by its linear one, and the variants for Pillow do the same. Seen, a
# map of background, person (15) and sheep (17), 500 x 375: BEiT returns all of 0 to 18, DPT 0 to 19, Sapiens2 0 to 17,
# and 0.8 to 2.1 % of the pixels, those at outlines, have a class that the map has not.
# Why it matters: nothing is raised while the numbers stay below the count of classes, so the outline of a person is
# taught as aeroplane, bicycle, bird and so on, and a class that no image shows is learnt and judged. Process labels in
# a call of their own with resample=NEAREST, which gives 0, 15 and 17, or resize them before.
#
# FINDINGS_PYTHON=/path/to/python takes that Python, if it has these versions, and saves an install of 6 GB.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python=${FINDINGS_PYTHON:-venv/bin/python}
if [ -z "${FINDINGS_PYTHON:-}" ]; then
    python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check \
        transformers==5.24.0 torch==2.14.1 torchvision==0.29.1 pillow==13.0.0 || exit 2
fi
"$python" -c 'import sys, transformers, torch
found = transformers.__version__, torch.__version__.split("+")[0]
sys.exit(0 if found == ("5.24.0", "2.14.1") else 1)' || exit 2

HF_HUB_OFFLINE=1 "$python" - <<'PY'
import sys

import numpy as np
import transformers
from PIL.Image import Resampling
from transformers.utils import logging

logging.set_verbosity_error()
PERSON, SHEEP = 15, 17  # as VOC numbers them
rows, columns = np.mgrid[:375, :500]
labels = np.zeros((375, 500), np.uint8)
labels[(rows - 180) ** 2 + (columns - 130) ** 2 < 100**2] = PERSON
labels[(rows - 200) ** 2 + (columns - 360) ** 2 < 110**2] = SHEEP
photo = np.zeros((375, 500, 3), np.uint8)


def returned(name: str, **options) -> tuple[list[int], float]:
    """The classes of the labels that a processor returns, and on how many per cent of pixels the map has none such."""
    processor = getattr(transformers, name)()
    given = np.asarray(processor(photo, segmentation_maps=labels, return_tensors="np", **options)["labels"][0])
    share = float((~np.isin(given, np.unique(labels))).mean()) * 100
    return np.unique(given).tolist(), round(share, 1)


NEAREST = ("SegformerImageProcessor", "MobileViTImageProcessor", "MobileNetV2ImageProcessor")
BLENDING = (
    "BeitImageProcessor", "BeitImageProcessorPil", "DPTImageProcessor", "DPTImageProcessorPil", "Sapiens2ImageProcessor"
)  # fmt: skip
seen = {name: returned(name) for name in (*NEAREST, *BLENDING)}
seen |= {f"{name}, resample=NEAREST": returned(name, resample=Resampling.NEAREST) for name in BLENDING}
for name, (classes, share) in seen.items():
    print(f"{name}: classes {classes}, {share} % of the pixels have one that the map has not")
expected = dict.fromkeys(seen, ([0, PERSON, SHEEP], 0.0))
expected |= dict.fromkeys(BLENDING[:2], ([*range(19)], 2.1)) | dict.fromkeys(BLENDING[2:4], ([*range(20)], 1.2))
expected[BLENDING[4]] = [*range(18)], 0.8
sys.exit(0 if seen == expected else f"changed: expected {expected}")
PY
