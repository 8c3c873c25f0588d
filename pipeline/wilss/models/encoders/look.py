"""Of which network a state dict probably is, by names and shapes: a guess for the sentence that refuses it."""

import math
import re
from collections.abc import Mapping
from typing import Any

#: Of timm's plain vision transformers: by width and depth the word in their names.
_SIZES = {(192, 12): "tiny", (384, 12): "small", (768, 12): "base", (1024, 24): "large", (1280, 32): "huge"}
#: A tensor that only this kind of network has -> what it is.
_OTHERS = {
    "visual.conv1.weight": "a CLIP of open_clip or OpenAI",
    "visual.trunk.patch_embed.proj.weight": "a CLIP of open_clip with an image tower of timm's",
    "vision_model.embeddings.patch_embedding.weight": "a CLIP of transformers, whose names are others than open_clip's",
    "embeddings.cls_token": "a vision transformer of transformers, whose names are others than timm's",
    "layer1.0.conv1.weight": "a ResNet",
    "stages.0.blocks.0.conv_dw.weight": "a ConvNeXt",
    "layers.0.blocks.0.attn.relative_position_bias_table": "a Swin transformer",
}


def looks_like(tensors: Mapping[str, Any]) -> str:
    """Such as `a ResNet` or `vit_tiny_patch16_224 of timm`; "" where nothing tells."""
    for name, kind in _OTHERS.items():
        if name in tensors:
            return kind
    kernel, table = tensors.get("patch_embed.proj.weight"), tensors.get("pos_embed")
    if getattr(kernel, "ndim", 0) != 4 or getattr(table, "ndim", 0) != 3:
        return ""
    return _vit(tuple(kernel.shape), table.shape[1], tensors)  # type: ignore[union-attr]


def _vit(kernel: tuple[int, ...], rows: int, tensors: Mapping[str, Any]) -> str:
    """A vision transformer of timm's. kernel: (width, 3, patch, patch). rows: of its position table."""
    width, patch = kernel[0], kernel[-1]
    depth = len({found[1] for name in tensors if (found := re.match(r"blocks\.(\d+)\.", name))})
    told = f"a vision transformer of width {width}, depth {depth} and patches of {patch} pixels"
    is_plain = "blocks.0.ls1.gamma" not in tensors and "reg_token" not in tensors and "cls_token" in tensors
    side = math.isqrt(max(rows - 1, 0))
    if (width, depth) in _SIZES and is_plain and side * side == rows - 1:
        return f"{told}, such as timm's vit_{_SIZES[width, depth]}_patch{patch}_{side * patch}"
    return told
