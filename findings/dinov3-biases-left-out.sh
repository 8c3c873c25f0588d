#!/usr/bin/env bash
# Weights in the form of Meta's DINOv3 lose their biases in timm when the model's name lacks "_qkvb", without an error.
#
# timm 1.0.31, torch 2.14.1. timm has each DINOv3 twice: vit_*_dinov3, without biases of queries and values, and
# vit_*_dinov3_qkvb with them. A file in Meta's form, given to the first by pretrained_cfg_overlay={"file": ...}, loads
# as if it fitted: the biases are dropped, and the only sign is a line a block on the standard output, "`q_bias` is not
# an nn.Parameter", the same where the biases are zero and nothing is lost. Seen, biases of deviation 0.5: the features
# differ by 43 % of their norm from those of the same file in the model of the other name. timm's source says that the
# larger distilled ones have biases of zero; EUPE's files have this form too, and timm lists them with biases only.
# Why it matters: both names take the file, the features look like features, and nothing says which name was right.
#
# FINDINGS_PYTHON=/path/to/python takes that Python, if it has these versions, and saves an install of 6 GB.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python=${FINDINGS_PYTHON:-venv/bin/python}
if [ -z "${FINDINGS_PYTHON:-}" ]; then
    python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check \
        timm==1.0.31 torch==2.14.1 torchvision==0.29.1 || exit 2
fi
"$python" -c 'import sys, timm, torch
found = timm.__version__, torch.__version__.split("+")[0]
sys.exit(0 if found == ("1.0.31", "2.14.1") else 1)' || exit 2

"$python" - <<'PY'
import contextlib
import io
import re
import sys

import timm
import torch

WITHOUT, WITH = "vit_small_patch16_dinov3", "vit_small_patch16_dinov3_qkvb"


def metas(tensors: dict) -> dict:
    """timm's names brought to those of Meta's own files."""
    named = {name.replace("reg_token", "storage_tokens"): value for name, value in tensors.items()}
    named = {re.sub(r"gamma_(\d)$", r"ls\1.gamma", name): value for name, value in named.items()}
    for name in [name for name in named if name.endswith(".q_bias")]:
        queries, values = named.pop(name), named.pop(name.replace("q_bias", "v_bias"))
        named[name.replace("q_bias", "qkv.bias")] = torch.cat([queries, torch.zeros_like(queries), values])
    return named


def loaded(name: str, bias: float) -> tuple:
    """Features of one image by the model of that name from the file, and what loading it printed."""
    torch.manual_seed(0)
    source = timm.create_model(WITH, depth=2)
    for tensor_name, tensor in source.named_parameters():
        if tensor_name.endswith(("q_bias", "v_bias")):
            torch.nn.init.normal_(tensor, std=bias)
        if "gamma" in tensor_name:
            torch.nn.init.ones_(tensor)
    torch.save(metas(source.state_dict()), "meta.pth")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        network = timm.create_model(name, pretrained=True, depth=2, pretrained_cfg_overlay={"file": "meta.pth"})
    image = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return network.eval().forward_features(image), printed.getvalue().strip().splitlines()


seen = []
for bias in (0.5, 0.0):
    right, quiet = loaded(WITH, bias)
    wrong, printed = loaded(WITHOUT, bias)
    differ = round(float((right - wrong).norm() / right.norm()) * 100)
    seen.append((differ > 5, len(quiet), len(printed)))
    print(f"biases of deviation {bias}: {WITHOUT} differs by {differ} % from {WITH}; it printed {printed}")
expected = [(True, 0, 2), (False, 0, 2)]
sys.exit(0 if seen == expected else f"changed: expected {expected}, not {seen}")
PY
