#!/usr/bin/env bash
# SAM 3 in transformers scores a word otherwise when its text features are reused, as the documentation shows, than when
# the word is given as text: the padding counts as words.
#
# transformers 5.24.0, torch 2.14.1. Texts are filled up to 32 tokens, and which of them are padding is in attention_mask.
# The examples of Sam3Model (get_text_features, get_vision_features) encode a text once and pass text_embeds, or
# input_ids, without it; the model then takes all 32 places for words, in the encoder, in the decoder, in the masks and
# in the mean of the text by which every object is scored. So one picture and one word have two sets of scores, boxes
# and masks, without an error or a warning; passing attention_mask beside text_embeds gives the right ones to the bit.
# Why it matters: who labels a data set encodes each class once, as the documentation advises, and gets other masks than
# by the text itself, at the thresholds that were chosen for those.
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
from transformers import Sam3Config, Sam3Model
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import logging

logging.set_verbosity_error()
detr = {"hidden_size": 32, "num_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
backbone = {
    "model_type": "sam3_vit_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 2, "image_size": 56, "patch_size": 14, "window_size": 2, "global_attn_indexes": [1],
    "pretrain_image_size": 28,
}
text = {
    "model_type": "clip_text_model", "vocab_size": 100, "hidden_size": 32, "intermediate_size": 64, "projection_dim": 32,
    "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 32, "bos_token_id": 0, "eos_token_id": 1,
}
torch.manual_seed(0)
model = Sam3Model(Sam3Config(
    vision_config={"backbone_config": backbone, "fpn_hidden_size": 32, "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]]},
    text_config=text, geometry_encoder_config={**detr, "roi_size": 2}, detr_encoder_config=detr,
    detr_decoder_config={**detr, "num_queries": 8}, mask_decoder_config={"hidden_size": 32, "num_attention_heads": 2},
)).eval()
with torch.no_grad():  # random weights are small; larger ones let words make a difference, as trained ones do
    for weight in model.parameters():
        if weight.ndim > 1:
            weight.mul_(4)

pixels = torch.randn(1, 3, 56, 56)
ids = torch.tensor([[0, 7, 8, *[1] * 29]])  # begin, two words, the end, and 28 places of padding
mask = torch.tensor([[1, 1, 1, 1, *[0] * 28]])
with torch.no_grad():
    as_text = model(pixel_values=pixels, input_ids=ids, attention_mask=mask)
    features = model.get_text_features(input_ids=ids, attention_mask=mask)
    reused = BaseModelOutputWithPooling(pooler_output=features.pooler_output)
    as_documented = model(pixel_values=pixels, text_embeds=reused)
    with_mask = model(pixel_values=pixels, text_embeds=reused, attention_mask=mask)


def difference(other) -> float:
    """Greatest difference of the objects' probabilities to those by text."""
    return float((other.pred_logits.sigmoid() - as_text.pred_logits.sigmoid()).abs().max())


def changed(other) -> float:
    """Share of the masks' pixels that are others."""
    return float(((other.pred_masks > 0) != (as_text.pred_masks > 0)).float().mean())


print(f"reused as documented: probabilities differ by up to {difference(as_documented):.3f}, "
      f"{changed(as_documented):.1%} of the masks' pixels are others")
print(f"with attention_mask: {difference(with_mask):.3f}, {changed(with_mask):.1%}")
is_as_told = difference(as_documented) > 0.01 and changed(as_documented) > 0.001 and torch.equal(
    with_mask.pred_logits, as_text.pred_logits
)
sys.exit(0 if is_as_told else "changed")
PY
