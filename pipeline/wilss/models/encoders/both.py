"""One network for both jobs: a CLIP whose image tower says what, and whose last block says where.

An image is encoded once: all blocks but the last run once, and what the last is given goes to CLIP's dense path and to
the queries and keys. Both are to the bit what two encoders would give that are opened by themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from wilss.data.images import normalise
from wilss.data.manifest import EncoderSpec
from wilss.equations.kernels import unit
from wilss.models.encoders.arithmetic import Precision, precision_context
from wilss.models.encoders.clip.configs import DenseForm
from wilss.models.encoders.clip.encoder import DenseClip
from wilss.models.encoders.clip.opening import open_what
from wilss.models.encoders.clip.towers import TrunkPath
from wilss.models.encoders.grids import check_images
from wilss.models.encoders.vit.attention import Part
from wilss.models.encoders.vit.encoder import LastBlock, SeedViT, blocks_of, vit_of
from wilss.models.encoders.vit.trunks import State


@dataclass(frozen=True, kw_only=True, eq=False)
class Both:
    """clip, vit: two views of one network, each usable by itself. path: of its image tower."""

    clip: DenseClip
    vit: SeedViT
    path: TrunkPath

    @torch.inference_mode()
    def features_and_block(self, images: Tensor) -> tuple[Tensor, LastBlock]:
        """`clip.features` and `vit.last_block` of the same images, by one pass. images: as for either of them."""
        dense, blocks = self.features_and_blocks(images, 1)
        return dense, blocks[0]

    @torch.inference_mode()
    def features_and_blocks(
        self, images: Tensor, count: int, parts: Sequence[Part] = ()
    ) -> tuple[Tensor, tuple[LastBlock, ...]]:
        """`clip.features` and `vit.last_blocks` of the same images, by one pass. images: as for either of them.

        For the form `proxy` the network's own tokens stand for another's.
        """
        states = self.before(images, count)
        blocks = self.blocks(states, (*parts, "tokens") if self.clip.form == "proxy" else parts)
        return self.features(states[-1], blocks[-1].patch_tokens()), blocks

    @torch.inference_mode()
    def before(self, images: Tensor, count: int) -> tuple[State, ...]:
        """What the `count` last blocks are given, first to last. images: as for `clip.features`."""
        check_images(images, self.clip.patch)
        with precision_context(self.clip.device, self.clip.precision):
            return self.path.before(normalise(images, self.clip.mean, self.clip.std), count)

    @torch.inference_mode()
    def blocks(self, states: Sequence[State], parts: Sequence[Part] = ()) -> tuple[LastBlock, ...]:
        """`vit.last_blocks`, from what they are given."""
        with precision_context(self.clip.device, self.clip.precision):
            return blocks_of(self.path.trunk, states, parts)

    @torch.inference_mode()
    def features(self, state: State, proxy: Tensor | None = None) -> Tensor:
        """`clip.features`, from what the last block is given."""
        with precision_context(self.clip.device, self.clip.precision):
            return unit(self.path.head(state, proxy).float(), dim=1)


def open_both(
    spec: EncoderSpec,
    device: torch.device | str,
    *,
    form: DenseForm | Literal["auto"] = "auto",
    precision: Precision | None = None,
) -> Both:
    """Opens the CLIP of `spec` once. Raises what `open_what` raises, and EncoderError without a last block."""
    clip = open_what(spec, device, form=form, precision=precision)
    vit = vit_of(clip)
    assert isinstance(clip.path, TrunkPath)  # else it could be no vit
    return Both(clip=clip, vit=vit, path=clip.path)
