"""The dense path of open_clip's image towers: a feature per patch in the space of the text.

C. Zhou et al., "Extract Free Dense Labels from CLIP", ECCV 2022 (MaskCLIP): pooling is dropped and the last
attention lets every token attend to itself alone, so that its output is the projected value of the patch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wilss.errors import EncoderError
from wilss.models.encoders.grids import resample_positions

Form = Literal["maskclip", "value"]
DensePath = Callable[[Tensor], Tensor]


def dense_path(visual: nn.Module, form: Form) -> DensePath:
    """The function from normalised pixels [B, 3, H, W] to features [B, D, h, w], not yet of unit length.

    maskclip: the last block keeps its residual connections and its feed-forward part.
    value:    it drops both: out_proj(W_v ln_1(x)) alone.
    For a ResNet both mean c_proj(v_proj(layer4)): its attention pool has neither.

    visual: open_clip's VisionTransformer or ModifiedResNet, in eval mode.
    """
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.transformer import VisionTransformer

    if form not in ("maskclip", "value"):
        raise EncoderError(f"there is no dense form {form!r}; use maskclip or value.")
    if isinstance(visual, ModifiedResNet):
        return lambda pixels: _resnet_features(visual, pixels)
    if isinstance(visual, VisionTransformer) and visual.attn_pool is None:
        return _vit_path(visual, form)
    raise EncoderError(f"{type(visual).__name__} has no dense path; use a CLIP ViT or ResNet.")


def _resnet_features(visual: Any, pixels: Tensor) -> Tensor:
    """[B, 3, H, W] to [B, D, H/32, W/32]: the attention pool's value path, without its position table."""
    x = visual.stem(pixels)
    for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        x = layer(x)
    pool = visual.attnpool
    return cast(Tensor, pool.c_proj(pool.v_proj(x.permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)


def _vit_path(visual: Any, form: Form) -> DensePath:
    @lru_cache(maxsize=32)
    def positions(grid: tuple[int, int]) -> Tensor:
        """[1 + h * w, width]."""
        table = visual.positional_embedding
        return resample_positions(table, tuple(visual.grid_size), grid, prefix=1, how="timm")

    return lambda pixels: _vit_features(visual, pixels, form, positions)


def _vit_features(visual: Any, pixels: Tensor, form: Form, positions: Callable[[tuple[int, int]], Tensor]) -> Tensor:
    """[B, 3, H, W] to [B, D, h, w].

    ln_post is applied to every patch, whether the model pools before it (`final_ln_after_pool`) or after, and
    whichever token it pools: that order matters only to the pooled vector.
    """
    x = visual.conv1(pixels)
    batch, width, *grid = x.shape
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.to(x.dtype).expand(batch, 1, width), x], dim=1)
    x = visual.ln_pre(x + positions(tuple(grid)).to(x.dtype))
    for block in visual.transformer.resblocks[:-1]:
        x = block(x)
    x = visual.ln_post(_last_block(visual.transformer.resblocks[-1], x[:, 1:], form))
    x = x if visual.proj is None else x @ visual.proj
    return cast(Tensor, x.transpose(1, 2).unflatten(2, grid))


def _last_block(block: Any, x: Tensor, form: Form) -> Tensor:
    """The last block, every token attending to itself alone. x and the result: [B, L, width]."""
    values = block.ls_1(_values(block, block.ln_1(x)))
    if form == "value":
        return cast(Tensor, values)
    x = x + values
    return x + cast(Tensor, block.ls_2(block.mlp(block.ln_2(x))))


def _values(block: Any, x: Tensor) -> Tensor:
    """out_proj(W_v x), with the parts that open_clip's custom blocks have around it. x: [B, L, width]."""
    attention = block.attn
    bias = attention.in_proj_bias
    width = x.shape[-1]
    values = F.linear(x, attention.in_proj_weight[-width:], None if bias is None else bias[-width:])
    if getattr(attention, "head_scale", None) is not None:
        scale = attention.head_scale.flatten()[:, None]  # [n, 1] against [..., n, d]
        values = (values.reshape(*values.shape[:-1], len(scale), -1) * scale).flatten(-2)
    values = attention.out_proj(getattr(attention, "ln_inner", nn.Identity())(values))
    return cast(Tensor, getattr(block, "ln_attn", nn.Identity())(values))
