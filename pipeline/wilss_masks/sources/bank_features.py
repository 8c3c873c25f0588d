"""The frozen networks of a second pass: what a patch is known by, and which patches belong together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from wilss.data.images import patch_grid_size, resize_uint8
from wilss.data.manifest import EncoderSpec
from wilss.digests import digest_of_json

from .bank_params import BankParams

if TYPE_CHECKING:
    from torch import Tensor

    from wilss.models.encoders.clip.encoder import DenseClip
    from wilss.models.encoders.vit.encoder import LastBlock, PatchFeatures, SeedViT


class Inputs(NamedTuple):
    """An image as the two networks' inputs, uint8 [3, H, W] each; None for one that is not asked."""

    clip: "Tensor | None"
    vit: "Tensor | None"


@dataclass(frozen=True, kw_only=True)
class BankEncoders:
    """Which of a manifest's encoders a second pass takes, and at which sizes; cheap, since nothing is opened."""

    clip: EncoderSpec
    vit: EncoderSpec
    params: BankParams

    @property
    def specs(self) -> tuple[tuple[str, EncoderSpec], ...]:
        """Those that look at images, with their names in the manifest."""
        clip = (("clip", self.clip),) if self.params.features == "clip" else ()
        return (*clip, *((("vit", self.vit),) if self.params.uses_vit else ()))

    def identity(self) -> Mapping[str, Any]:
        """The networks by name, with their digests."""
        from wilss.models.encoders.identity import identity_of

        tokens = self.params.features == "tokens"
        return {name: identity_of(spec, tokens=tokens and name == "vit") for name, spec in self.specs}

    def digest(self) -> str:
        """sha256 of all that decides the features."""
        from wilss.models.encoders.clip.configs import form_of
        from wilss.models.encoders.identity import digest_of_encoder

        if self.params.features == "clip":
            return digest_of_json([digest_of_encoder(self.clip), form_of(self.clip, self.params.form)])
        return digest_of_encoder(self.vit, tokens=self.params.features == "tokens")

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """The patch grid (h, w) on which the vote of an image of this size ends."""
        by_vit = self.params.uses_vit
        rows, columns = (self._vit_input if by_vit else self._clip_input)(height, width)
        patch = self._vit_patch if by_vit else self._clip_patch
        return rows // patch, columns // patch

    def inputs(self, image: "Tensor", *, of_features: bool = False) -> Inputs:
        """An image uint8 [3, H, W] as the networks take it. of_features: the network of the features alone."""
        height, width = image.shape[-2:]
        by_clip = self.params.features == "clip"
        by_vit = self.params.uses_vit and not (of_features and by_clip)
        return Inputs(
            resize_uint8(image, self._clip_input(height, width)) if by_clip else None,
            resize_uint8(image, self._vit_input(height, width)) if by_vit else None,
        )

    def open(self, device: str) -> "OpenedEncoders":
        """Load them on `device`; one network alone where it is both."""
        from wilss.models.encoders.clip.opening import open_what
        from wilss.models.encoders.vit.encoder import open_vit, vit_of

        params, clip, vit = self.params, None, None
        if params.features == "clip":
            clip = open_what(self.clip, device, form=params.form, precision=params.forward_precision)
        if params.uses_vit:
            is_one = clip is not None and self.vit.is_the_network_of(self.clip)
            vit = vit_of(clip) if is_one and clip else open_vit(self.vit, device, precision=params.forward_precision)
        return OpenedEncoders(params, clip, vit)

    def _clip_input(self, height: int, width: int) -> tuple[int, int]:
        return self._input(height, width, self.params.clip_size, self._clip_patch)

    def _vit_input(self, height: int, width: int) -> tuple[int, int]:
        return self._input(height, width, self.params.vit_size, self._vit_patch)

    def _input(self, height: int, width: int, shorter: int, patch: int) -> tuple[int, int]:
        return patch_grid_size(height, width, shorter=shorter or None, longest=self.params.longest, patch=patch)

    @cached_property
    def _clip_patch(self) -> int:
        from wilss.models.encoders.clip.configs import form_of
        from wilss.models.encoders.multiples import input_multiple

        form_of(self.clip, self.params.form)  # refused with the plan
        return input_multiple(self.clip)

    @cached_property
    def _vit_patch(self) -> int:
        from wilss.models.encoders.multiples import input_multiple

        return input_multiple(self.vit)


class OpenedEncoders:
    """`BankEncoders` with their networks on one device."""

    def __init__(self, params: BankParams, clip: "DenseClip | None", vit: "SeedViT | None") -> None:
        self.params, self.clip, self.vit = params, clip, vit

    def features(self, images: Sequence[Inputs]) -> "list[Tensor]":
        """What the patches of each image are known by, float32 [D, h, w], without what they are spread along."""
        if self.clip is not None:
            return _by_shape(self.clip.features, [one.clip for one in images], self.clip)
        assert self.vit is not None
        vit = self.vit
        return _by_shape(lambda batch: vit.features(batch, self._kind), [one.vit for one in images], vit)

    def features_and_block(self, images: Sequence[Inputs]) -> "tuple[list[Tensor], LastBlock | None]":
        """The same, and the ViT's last block where patches are spread along it; its inputs are of one shape."""
        if self.vit is None or self.params.spread == "none":
            return self.features(images), None
        vit = _stacked([one.vit for one in images], self.vit)
        if self.clip is not None:
            return self.features(images), self.vit.last_block(vit)
        features, block = self.vit.features_and_block(vit, self._kind)
        return list(features), block

    @property
    def _kind(self) -> "PatchFeatures":
        return "keys" if self.params.features == "keys" else "tokens"


def _by_shape(
    network: "Callable[[Tensor], Tensor]", images: "Sequence[Tensor | None]", encoder: "DenseClip | SeedViT"
) -> "list[Tensor]":
    """A network's features of each image; together where all are of one shape, which the plan says of the ViT alone."""
    if len({one.shape for one in images if one is not None}) == 1:
        return list(network(_stacked(images, encoder)))
    return [network(_stacked([one], encoder))[0] for one in images]


def _stacked(images: "Sequence[Tensor | None]", encoder: "DenseClip | SeedViT") -> "Tensor":
    import torch

    return torch.stack([one for one in images if one is not None]).to(encoder.device, non_blocking=True)
