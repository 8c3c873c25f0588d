"""The dense path of open_clip's image towers: a feature per patch in the space of the text.

C. Zhou et al., "Extract Free Dense Labels from CLIP", ECCV 2022 (MaskCLIP): pooling is dropped and the last
attention lets every token attend to itself alone, so that its output is the projected value of the patch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from wilss.errors import EncoderError
from wilss.models.encoders.clip.configs import DenseForm
from wilss.models.encoders.clip.mixing import MIXINGS, mixing_of
from wilss.models.encoders.clip.resblocks import ResblockTrunk, resblock_trunk
from wilss.models.encoders.vit.trunks import State, Trunk

DensePath = Callable[[Tensor], Tensor]


def dense_path(visual: nn.Module, form: DenseForm) -> DensePath:
    """The function from normalised pixels [B, 3, H, W] to features [B, D, h, w], not yet of unit length.

    maskclip: the last block keeps its residual connections and its feed-forward part.
    value:    it drops both: out_proj(W_v ln_1(x)) alone.
    neighbour, proxy: as value, with the values mixed by `mixing`'s attention instead of each alone.
    For a ResNet maskclip and value both mean c_proj(v_proj(layer4)): its attention pool has neither.

    visual: open_clip's VisionTransformer or ModifiedResNet, in eval mode; see `timm_towers` for the others.
    """
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.transformer import VisionTransformer

    if isinstance(visual, ModifiedResNet) and form in ("maskclip", "value"):
        return lambda pixels: _resnet_features(visual, pixels)
    if form not in ("maskclip", "value", *MIXINGS):
        raise EncoderError(f"{type(visual).__name__} has no dense form {form!r}; use maskclip or value.")
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


def _vit_path(visual: Any, form: DenseForm) -> TrunkPath:
    trunk = resblock_trunk(visual)

    def head(state: State, proxy: Tensor | None = None) -> Tensor:
        """[B, D, h, w]."""
        if form == "neighbour" or form == "proxy":
            x = trunk.attended(state, mixing_of(form, state, trunk.prefix, proxy))[:, trunk.prefix :]
        else:
            x = trunk.patches_alone(state, "value" if form == "value" else "maskclip")
        x = x if visual.proj is None else x @ visual.proj
        return cast(Tensor, x.transpose(1, 2).unflatten(2, state.grid))

    return TrunkPath(trunk=trunk, head=head, pooled=lambda state: _pooled(trunk, state))


def _pooled(trunk: ResblockTrunk, state: State) -> Tensor:
    """[B, D]: open_clip's vector for the whole image."""
    visual: Any = trunk.network
    tokens = trunk.output(state, first_alone=visual.pool_type == "tok")
    pooled, _ = visual._pool(tokens)
    return cast(Tensor, pooled if visual.proj is None else pooled @ visual.proj)


@dataclass(frozen=True, kw_only=True, eq=False)
class TrunkPath:
    """A dense path through a transformer: what its last block is given also says where.

    head: from that, and for the form `proxy` from another network's patches [B, D', h', w'], to features [B, D, h, w].
    pooled: from that to the vector of the whole image [B, D], by parts that a gradient can be taken of.
    """

    trunk: Trunk
    head: Callable[[State, Tensor | None], Tensor]
    pooled: Callable[[State], Tensor]

    def __call__(self, pixels: Tensor, proxy: Tensor | None = None) -> Tensor:
        """Normalised pixels [B, 3, H, W] to features [B, D, h, w]. proxy: as for `head`."""
        return self.head(self.before_last(pixels), proxy)

    def before_last(self, pixels: Tensor) -> State:
        """What the last block is given. pixels: as for the whole path."""
        return self.before(pixels, 1)[0]

    def before(self, pixels: Tensor, count: int) -> tuple[State, ...]:
        """What the `count` last blocks are given, first to last, see `Trunk.before`."""
        height, width = pixels.shape[-2:]
        return self.trunk.before(pixels, (height // self.trunk.patch, width // self.trunk.patch), count)
