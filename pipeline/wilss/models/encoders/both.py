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
        check_images(images, self.clip.patch)
        with precision_context(self.clip.device, self.clip.precision):
            states = self.path.before(normalise(images, self.clip.mean, self.clip.std), count)
            blocks = blocks_of(self.path.trunk, states, (*parts, "tokens") if self.clip.form == "proxy" else parts)
            dense = self.path.head(states[-1], blocks[-1].patch_tokens())
        return unit(dense.float(), dim=1), blocks


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
