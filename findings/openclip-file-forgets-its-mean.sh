#!/usr/bin/env bash
# The same weights, given to open_clip as a file instead of by their tag, are fed with other pixel values.
#
# open_clip_torch 3.3.0, timm 1.0.31, torch 2.14.1. Mean and deviation of the input belong to the tag of the weights;
# the model's config has none. create_model_and_transforms(NAME, pretrained=FILE) takes OpenAI's without a warning, and
# bicubic resizing. Seen, MobileCLIP2-S0: its tag dfndr2b asks for pixels as they are (mean 0, deviation 1), the file
# gets mean 0.48 0.46 0.41 and deviation 0.27 0.26 0.28. The same holds for SigLIP and SigLIP2 (0.5 and 0.5 by tag).
# Why it matters: whoever works offline or from a mirror gives files, and the encoder sees other values than it was
# trained on, under the same name. Give image_mean and image_std. Kin: mlfoundations/open_clip issue 204.
#
# FINDINGS_PYTHON=/path/to/python takes that Python, if it has these versions, and saves an install of 6 GB.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python=${FINDINGS_PYTHON:-venv/bin/python}
if [ -z "${FINDINGS_PYTHON:-}" ]; then
    python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check \
        open_clip_torch==3.3.0 timm==1.0.31 torch==2.14.1 torchvision==0.29.1 || exit 2
fi
"$python" -c 'import sys, open_clip, timm, torch
found = open_clip.__version__, timm.__version__, torch.__version__.split("+")[0]
sys.exit(0 if found == ("3.3.0", "1.0.31", "2.14.1") else 1)' || exit 2

"$python" - <<'PY'
import logging
import sys

import open_clip
import torch
from open_clip.pretrained import get_pretrained_cfg

MODEL, TAG = "MobileCLIP2-S0", "dfndr2b"
warned = []
handler = logging.Handler(logging.WARNING)
handler.emit = lambda record: warned.append(record.getMessage())
model = open_clip.create_model(MODEL)  # random weights stand in for downloaded ones
torch.save(model.state_dict(), "weights.pt")

logging.getLogger().addHandler(handler)
from_file, _, _ = open_clip.create_model_and_transforms(MODEL, pretrained="weights.pt")
told, _, _ = open_clip.create_model_and_transforms(
    MODEL, pretrained="weights.pt", image_mean=(0.0, 0.0, 0.0), image_std=(1.0, 1.0, 1.0)
)


def preparation(config: dict) -> list:
    return [tuple(round(float(x), 2) for x in config["mean"]), tuple(round(float(x), 2) for x in config["std"])]


seen = {
    "by tag": preparation(get_pretrained_cfg(MODEL, TAG)),
    "from a file": preparation(from_file.visual.preprocess_cfg),
    "from a file, with image_mean and image_std": preparation(told.visual.preprocess_cfg),
    "warnings": warned,
}
for what, value in seen.items():
    print(f"{what}: {value}")
plain, openai = [(0.0,) * 3, (1.0,) * 3], [(0.48, 0.46, 0.41), (0.27, 0.26, 0.28)]
expected = [plain, openai, plain, []]
sys.exit(0 if list(seen.values()) == expected else f"changed: expected {expected}")
PY
