#!/usr/bin/env bash
# A linear layer takes a batch of tokens several times as long when tokens come first, [L, B, E]; a copy is cheap.
#
# torch 2.14.1, CPU (AVX2; AMX), float32 and bfloat16. nn.functional.linear of an input of three axes that is not
# contiguous makes a product for each token (pytorch/pytorch pull request 73115 keeps such inputs as they lie), of a
# contiguous one a single product. Seen, at the sizes of ViT-B/16 (197 tokens of 768, to 2,304), one thread: one image
# takes the same either way; with three images the transposed input takes over three times as long as a copy of it and
# the product of that, with eight images more than twice as long. Under autocast to bf16, which is there to save time,
# the weight is copied for each token as well: on a processor with instructions for bf16 (AMX) three images take sixty
# times as long as with a copy of the input, and more than ten times as long as in float32.
# Why it matters: nn.MultiheadAttention turns a batch to tokens first before its projections, also with batch_first, so
# that CLIP towers that are built of it can take longer for images of a batch than for the same images one by one. Where
# pieces are timed with one image it does not show.
#
# FINDINGS_PYTHON=/path/to/python takes that Python, if it has this version, and saves an install of 6 GB.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python=${FINDINGS_PYTHON:-venv/bin/python}
if [ -z "${FINDINGS_PYTHON:-}" ]; then
    python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check torch==2.14.1 numpy || exit 2
fi
"$python" -c 'import sys, torch
sys.exit(0 if torch.__version__.split("+")[0] == "2.14.1" else 1)' || exit 2

"$python" - <<'PY'
import statistics
import sys
import time

import torch
from torch.nn.functional import linear

torch.set_num_threads(1)
TOKENS, WIDTH = 197, 768  # ViT-B/16 at 224
weight, bias = torch.randn(3 * WIDTH, WIDTH), torch.randn(3 * WIDTH)


def seconds(project, values, times=15):
    taken = []
    for _ in range(times):
        start = time.process_time()
        project(values)
        taken.append(time.process_time() - start)
    return statistics.median(taken)


ratios = {}
with torch.inference_mode():
    for images in (1, 3, 8):
        tokens_first = torch.randn(images, TOKENS, WIDTH).transpose(0, 1)
        torch.testing.assert_close(
            linear(tokens_first, weight, bias), linear(tokens_first.contiguous(), weight, bias), rtol=1e-4, atol=1e-4
        )
        as_it_lies = seconds(lambda values: linear(values, weight, bias), tokens_first)
        copied = seconds(lambda values: linear(values.contiguous(), weight, bias), tokens_first)
        ratios[images] = as_it_lies / copied
        print(f"{images} images: {1000 * as_it_lies:.0f} ms as they lie, {1000 * copied:.0f} ms with the copy")
expected = 0.5 < ratios[1] < 1.5 < ratios[8] and ratios[3] > 2
able = torch.cpu.get_capabilities()
if able.get("amx_bf16") or able.get("avx512_bf16"):
    with torch.inference_mode():
        tokens_first = torch.randn(3, TOKENS, WIDTH).transpose(0, 1)
        in_fp32 = seconds(lambda values: linear(values, weight, bias), tokens_first, 3)
        with torch.autocast("cpu", torch.bfloat16):
            as_it_lies = seconds(lambda values: linear(values, weight, bias), tokens_first, 3)
            copied = seconds(lambda values: linear(values.contiguous(), weight, bias), tokens_first, 3)
    ratios["bf16"], ratios["bf16 over fp32"] = as_it_lies / copied, as_it_lies / in_fp32
    print(f"3 images, bf16: {1000 * as_it_lies:.0f} ms as they lie, {1000 * copied:.0f} ms with the copy, "
          f"{1000 * in_fp32:.0f} ms as they lie in fp32")
    expected = expected and ratios["bf16"] > 20 and ratios["bf16 over fp32"] > 5
sys.exit(0 if expected else f"changed: expected about 1, above 2, above 1.5, with bf16 above 20 and 5, seen {ratios}")
PY
