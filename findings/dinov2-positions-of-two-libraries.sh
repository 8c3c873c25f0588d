#!/usr/bin/env bash
# One position table of DINOv2, resampled to another grid, is another table in timm than in transformers.
#
# timm 1.0.31, transformers 5.24.0, torch 2.14.1. DINOv2's table has 37 x 37 rows, and most images have another grid.
# Without registers, transformers resamples it bicubic to the size, timm bicubic to the size with antialias, and the
# published code does neither: it adds 0.1 to the grid before it divides (interpolate_offset 0.1, interpolate_antialias
# False in facebookresearch/dinov2, dinov2/hub/backbones.py). Seen on a smooth random table, as a share of its norm:
# timm and transformers differ by 1.9 % at 448 x 448 pixels, 3.1 % at 224 x 336, 1.9 % at 560 x 420; both differ from
# the published way by 2.9 to 6.0 %. With registers all three agree to the bit (antialias, no offset). Neither library
# has an argument for it.
# Why it matters: features of "the same" frozen DINOv2 are other numbers by library wherever the image is not 518 x 518:
# stored features, nearest neighbours and thresholds do not carry over, and only the models with registers are safe.
#
# FINDINGS_PYTHON=/path/to/python takes that Python, if it has these versions, and saves an install of 6 GB.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python=${FINDINGS_PYTHON:-venv/bin/python}
if [ -z "${FINDINGS_PYTHON:-}" ]; then
    python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check \
        timm==1.0.31 transformers==5.24.0 torch==2.14.1 torchvision==0.29.1 || exit 2
fi
"$python" -c 'import sys, timm, torch, transformers
found = timm.__version__, transformers.__version__, torch.__version__.split("+")[0]
sys.exit(0 if found == ("1.0.31", "5.24.0", "2.14.1") else 1)' || exit 2

"$python" - <<'PY'
import sys

import timm
import torch
import torch.nn.functional as F
from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

WIDTH, OLD, PATCH = 384, 37, 14
torch.manual_seed(0)
GRID = F.interpolate(torch.randn(1, WIDTH, 8, 8), size=OLD, mode="bicubic")  # smooth, as learned tables are
TABLE = GRID.flatten(2).transpose(1, 2)


def of_transformers(model, config, height, width):
    """The rows of the patches, [h * w, WIDTH]."""
    shape = {"image_size": OLD * PATCH, "patch_size": PATCH, "hidden_size": WIDTH, "num_attention_heads": 6}
    embeddings = model(config(num_hidden_layers=1, **shape)).embeddings
    embeddings.position_embeddings.data[:, 1:] = TABLE
    patches = torch.zeros(1, 1 + height * width, WIDTH)
    return embeddings.interpolate_pos_encoding(patches, height * PATCH, width * PATCH)[0, 1:]


def of_timm(name, height, width):
    """The same of timm."""
    network = timm.create_model(name, pretrained=False, depth=1, dynamic_img_size=True)
    network.pos_embed.data[:, -TABLE.shape[1] :] = TABLE
    return network._pos_embed(torch.zeros(1, height, width, WIDTH))[0, network.num_prefix_tokens :]


def published(height, width, registers):
    """By the two settings of the published code."""
    if (height, width) == (OLD, OLD):
        grid = GRID
    elif registers:
        grid = F.interpolate(GRID, size=(height, width), mode="bicubic", antialias=True)
    else:
        grid = F.interpolate(GRID, scale_factor=((height + 0.1) / OLD, (width + 0.1) / OLD), mode="bicubic")
    return grid[0].flatten(1).T


def share(one, other):
    """Their difference in per cent of the other's norm."""
    return round(float((one - other).norm() / other.norm()) * 100, 1)


seen = []
with torch.no_grad():
    for registers, name, model, config in (
        (False, "vit_small_patch14_dinov2", Dinov2Model, Dinov2Config),
        (True, "vit_small_patch14_reg4_dinov2", Dinov2WithRegistersModel, Dinov2WithRegistersConfig),
    ):
        for height, width in ((37, 37), (32, 32), (16, 24), (40, 30)):
            hugging, by_timm = of_transformers(model, config, height, width), of_timm(name, height, width)
            meant = published(height, width, registers)
            seen.append((share(hugging, by_timm), share(by_timm, meant), share(hugging, meant)))
            print(
                f"{name} at {height * PATCH} x {width * PATCH}: transformers and timm differ by {seen[-1][0]} %, "
                f"timm and the published way by {seen[-1][1]} %, transformers and that by {seen[-1][2]} %"
            )
expected = [(0.0, 0.0, 0.0), (1.9, 3.5, 3.0), (3.1, 6.0, 5.5), (1.9, 3.2, 2.9)] + [(0.0, 0.0, 0.0)] * 4
sys.exit(0 if seen == expected else f"changed: expected {expected}, not {seen}")
PY
