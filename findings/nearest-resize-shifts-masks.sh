#!/usr/bin/env bash
# torchvision's Resize moves a mask against its image, by nearly half of what a new pixel covers.
#
# torchvision 0.29.1, torch 2.14.1, Pillow. v2.Resize takes images bilinearly, by the centres of pixels, but masks
# (tv_tensors.Mask) by torch's "nearest", the first pixel of each block. Seen, from 64 to 8: pixels 0 8 16 .. of the
# mask for an image of 3.5 11.5 19.5 ..; a disc shrunk eightfold lies 3.7 old pixels to the lower right of itself in the
# image, IoU 0.93. Pillow's NEAREST takes 4 12 20 .., so a pipeline moves its masks when it changes from Pillow to
# tensors.
# Why it matters: training at half or quarter size teaches shifted boundaries, and labels brought to a patch grid of 16
# are off by half a patch, 7.5 pixels. interpolation=NEAREST_EXACT, for masks alone, keeps them in place.
# Known: pytorch/pytorch issue 34808; pytorch/vision issue 9188.
#
# FINDINGS_PYTHON=/path/to/python takes that Python, if it has these versions, and saves an install of 6 GB.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python=${FINDINGS_PYTHON:-venv/bin/python}
if [ -z "${FINDINGS_PYTHON:-}" ]; then
    python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check \
        torch==2.14.1 torchvision==0.29.1 || exit 2
fi
"$python" -c 'import sys, torch, torchvision as v
sys.exit(0 if (torch.__version__.split("+")[0], v.__version__.split("+")[0]) == ("2.14.1", "0.29.1") else 1)' || exit 2

"$python" - <<'PY'
import sys

import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2

columns = torch.arange(64).repeat(64, 1)[None]
image, mask = tv_tensors.Image(columns.float()), tv_tensors.Mask(columns.to(torch.uint8))
small_image, small_mask = v2.Resize((8, 8))(image, mask)
exact = v2.functional.resize(mask, [8, 8], interpolation=InterpolationMode.NEAREST_EXACT)
pillow = Image.fromarray(mask[0].numpy()).resize((8, 8), Image.Resampling.NEAREST)

rows, places = np.mgrid[:512, :512] + 0.5
disc = torch.from_numpy((rows - 256) ** 2 + (places - 256) ** 2 <= 100**2)[None]
shown, masked = v2.Resize((64, 64))(tv_tensors.Image(disc.to(torch.uint8) * 255), tv_tensors.Mask(disc))
in_image, in_mask = shown[0] > 127, masked[0]
centres = [round(8 * float(where.nonzero().float().mean() + 0.5) - 256, 1) for where in (in_image, in_mask)]
seen = {
    "columns in the image": [round(float(value), 1) for value in small_image[0, 0, 1:4]],
    "columns in the mask": small_mask[0, 0, 1:4].tolist(),
    "with NEAREST_EXACT": exact[0, 0, 1:4].tolist(),
    "with Pillow's NEAREST": np.asarray(pillow)[0, 1:4].tolist(),
    "the disc's centre in image and mask": centres,
    "IoU of the two": round(float((in_image & in_mask).sum() / (in_image | in_mask).sum()), 2),
}
for what, value in seen.items():
    print(f"{what}: {value}")
expected = [[11.5, 19.5, 27.5], [8, 16, 24], [12, 20, 28], [12, 20, 28], [0.0, 3.7], 0.93]
sys.exit(0 if list(seen.values()) == expected else f"changed: expected {expected}")
PY
