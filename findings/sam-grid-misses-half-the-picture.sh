#!/usr/bin/env bash
# transformers' automatic masks by SAM 2 and SAM 3 never look at the lower half of a picture that is twice as wide as high.
#
# transformers 5.24.0, torch 2.14.1. The image processors of SAM 2 and SAM 3 stretch any picture to a square (1024 x 1024,
# 1008 x 1008), but the grid of points of pipeline("mask-generation") is scaled as for SAM 1, which keeps the picture's
# shape and pads it: by the longer side alone. So of a picture of 1000 x 500 the points lie in the upper half of what
# the network sees, of 500 x 1000 in its left half, and of 4:3, a photograph's usual shape, in three quarters of it.
# Every point lies elsewhere in the picture than meant, too. Without an error or a warning; a square picture is right.
# Why it matters: what lies in the part without points has a mask only by chance, in all "segment everything" results
# of these models and in every benchmark of proposals that is made with them.
#
# FINDINGS_PYTHON=/path/to/python takes that Python, if it has these versions, and saves an install of 6 GB.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python=${FINDINGS_PYTHON:-venv/bin/python}
if [ -z "${FINDINGS_PYTHON:-}" ]; then
    python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check \
        transformers==5.24.0 torch==2.14.1 torchvision==0.29.1 pillow || exit 2
fi
"$python" -c 'import sys, transformers, torch
found = transformers.__version__, torch.__version__.split("+")[0]
sys.exit(0 if found == ("5.24.0", "2.14.1") else 1)' || exit 2

HF_HUB_OFFLINE=1 "$python" - <<'PY'
import sys

import torch
from PIL import Image
from transformers import Sam2Config, Sam2ImageProcessor, Sam2Model, Sam3ImageProcessor, pipeline
from transformers.utils import logging

logging.set_verbosity_error()
SIDE = 64


def small_sam2() -> Sam2Model:
    """Of random weights; where the points lie does not depend on them."""
    backbone = {
        "model_type": "sam2_hiera_det_model", "hidden_size": 8, "num_attention_heads": 1, "image_size": [SIDE, SIDE],
        "blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 2], "window_size_per_stage": [4, 2, 2, 2],
        "global_attention_blocks": [3], "window_positional_embedding_background_size": [4, 4],
    }
    vision = {
        "backbone_config": backbone, "backbone_channel_list": [64, 32, 16, 8], "fpn_hidden_size": 32,
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
    }
    prompts = {"hidden_size": 32, "image_size": SIDE, "patch_size": 16, "mask_input_channels": 4}
    decoder = {"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
    torch.manual_seed(0)
    return Sam2Model(Sam2Config(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder))


def seen(width: int, height: int) -> tuple:
    """How far the pipeline's points reach of the network's input, right and down, and how far the picture does."""
    model, points, inputs = small_sam2().eval(), [], []
    processor = Sam2ImageProcessor(size={"height": SIDE, "width": SIDE}, mask_size={"height": 16, "width": 16})
    forward, embed = model.forward, model.get_image_embeddings
    model.forward = lambda *args, **named: (points.append(named["input_points"]), forward(*args, **named))[1]
    model.get_image_embeddings = lambda pixels: (inputs.append(pixels), embed(pixels))[1]
    picture = Image.new("RGB", (width, height), "white")
    maker = pipeline("mask-generation", model=model, image_processor=processor)
    maker(picture, points_per_crop=8, pred_iou_thresh=0.0, stability_score_thresh=0.0)
    reach = torch.cat(points, dim=1).flatten(0, 2).amax(dim=0) / SIDE
    filled = (inputs[0][0, 0] > 0).float()
    return tuple(round(float(x), 2) for x in reach), (float(filled.amax(0).mean()), float(filled.amax(1).mean()))


found = {size: seen(*size) for size in ((128, 128), (160, 80), (80, 160), (128, 96))}
for (width, height), (reach, filled) in found.items():
    print(f"{width} x {height}: the picture fills {filled} of the input; the points reach {reach} of it")
*_, (_, grid, _, _) = [Sam3ImageProcessor().generate_crop_boxes(Image.new("RGB", (1000, 500)), 1008)]
sam3 = tuple(round(float(x), 2) for x in grid.flatten(0, 2).amax(dim=0) / 1008)
whole = tuple(Sam3ImageProcessor()(Image.new("RGB", (1000, 500)), return_tensors="pt").pixel_values.shape[2:])
print(f"SAM 3, 1000 x 500: an input of {whole}, all of it picture; the points reach {sam3} of it")
expected = {
    (128, 128): ((0.94, 0.94), (1.0, 1.0)), (160, 80): ((0.94, 0.47), (1.0, 1.0)),
    (80, 160): ((0.47, 0.94), (1.0, 1.0)), (128, 96): ((0.94, 0.7), (1.0, 1.0)),
}
is_as_told = found == expected and sam3 == (0.98, 0.49) and whole == (1008, 1008)
sys.exit(0 if is_as_told else f"changed: expected {expected} and (0.98, 0.49), not {found} and {sam3}")
PY
