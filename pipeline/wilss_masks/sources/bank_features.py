"""The frozen networks of a second pass: what a patch is known by, and which patches belong together."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from wilss.data.images import patch_grid_size, resize_uint8
from wilss.data.manifest import EncoderSpec
from wilss.digests import digest_of_json

from .bank_params import BankParams
from .base import Grids, ImageTask
from .features.identity import clip_features, vit_features
from .features.kept_in import KeptIn

if TYPE_CHECKING:
    from torch import Tensor

    from wilss.models.encoders.clip.encoder import DenseClip
    from wilss.models.encoders.vit.encoder import LastBlock, PatchFeatures, SeedViT

    from .features.reader import FeatureReader, Kept


class Inputs(NamedTuple):
    """An image as the two networks' inputs, uint8 [3, H, W] each; None for one that is not asked.

    kept: its features, where a store has them; no network is asked then.
    """

    clip: "Tensor | None" = None
    vit: "Tensor | None" = None
    kept: "Kept | None" = None


@dataclass(frozen=True, kw_only=True)
class BankEncoders:
    """Which of a manifest's encoders a second pass takes, and at which sizes; cheap, since nothing is opened.

    features_from: stores whose features stand for the images that they are of.
    """

    clip: EncoderSpec
    vit: EncoderSpec
    params: BankParams
    features_from: tuple[KeptIn, ...] = ()

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

    def features_identity(self) -> dict[str, Any]:
        """By encoder all that decides its features, see `features.identity`."""
        from wilss.models.encoders.clip.configs import form_of

        params = self.params
        common = {"longest": params.longest, "precision": params.precision}
        clip, parts = params.features == "clip", ["tokens"] if params.features == "tokens" else []
        form = {"form": form_of(self.clip, params.form)} if clip else {}
        return {
            **({"clip": clip_features(self.clip, size=params.clip_size, **form, **common)} if clip else {}),
            **(
                {"vit": vit_features(self.vit, size=params.vit_size, parts=parts, blocks=1, **common)}
                if params.uses_vit
                else {}
            ),
        }

    def kept_grids(self, height: int, width: int, *, of_features: bool = False) -> Grids:
        """The patch grids of what is read of an image of this size. of_features: as for `inputs`."""
        by_clip = self.params.features == "clip"
        by_vit = self.params.uses_vit and not (of_features and by_clip)
        (rows, columns), (high, wide) = self._clip_input(height, width), self._vit_input(height, width)
        return Grids(
            score=(rows // self._clip_patch, columns // self._clip_patch) if by_clip else None,
            attention=(high // self._vit_patch, wide // self._vit_patch) if by_vit else None,
        )

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
        """Load them on `device`; one network alone where it is both. With kept features, once one is needed."""
        return OpenedEncoders(self, device)

    def load_networks(self, device: str) -> "tuple[DenseClip | None, SeedViT | None]":
        """CLIP and the ViT on `device`, None for one that is not asked."""
        from wilss.models.encoders.clip.opening import open_what
        from wilss.models.encoders.vit.encoder import open_vit, vit_of

        params, clip, vit = self.params, None, None
        if params.features == "clip":
            clip = open_what(self.clip, device, form=params.form, precision=params.forward_precision)
        if params.uses_vit:
            is_one = clip is not None and self.vit.is_the_network_of(self.clip)
            vit = vit_of(clip) if is_one and clip else open_vit(self.vit, device, precision=params.forward_precision)
        return clip, vit

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
    """`BankEncoders` with their networks on one device, or with stores in the place of these."""

    def __init__(self, encoders: BankEncoders, device: str) -> None:
        self.params, self._encoders, self._device, self._loading = encoders.params, encoders, device, threading.Lock()
        self._loaded: tuple[DenseClip | None, SeedViT | None] | None = None
        self._reader = _reader_of(encoders, device)
        if self._reader is None:
            self._networks()

    def kept(self, task: ImageTask, *, of_features: bool = False) -> "Kept | None":
        """The features of an image out of a store; None where there are none. of_features: as for `inputs`."""
        if self._reader is None:
            return None
        return self._reader.read(task, self._encoders.kept_grids(task.height, task.width, of_features=of_features))

    def features(self, images: Sequence[Inputs]) -> "list[Tensor]":
        """What the patches of each image are known by, float32 [D, h, w], without what they are spread along."""
        if any(one.kept is not None for one in images):
            return [self._features_of(one) for one in images]
        clip, vit = self._networks()
        if clip is not None:
            return _by_shape(clip.features, [one.clip for one in images], clip)
        assert vit is not None
        return _by_shape(lambda batch: vit.features(batch, self._kind), [one.vit for one in images], vit)

    def features_and_blocks(self, images: Sequence[Inputs]) -> "list[tuple[Tensor, LastBlock | None, int]]":
        """The same of each, the ViT's last block where patches are spread along it, and the image's place in that.

        Inputs of the ViT are of one shape.
        """
        found: dict[int, tuple[Tensor, LastBlock | None, int]] = {}
        known = [place for place, one in enumerate(images) if one.kept is not None]
        for place in known:
            found[place] = (self._features_of(images[place]), self._block_of(images[place]), 0)
        others = [place for place in range(len(images)) if place not in known]
        if others:
            features, block = self._pass([images[place] for place in others])
            found |= {place: (features[i], block, i) for i, place in enumerate(others)}
        return [found[place] for place in range(len(images))]

    def _pass(self, images: Sequence[Inputs]) -> "tuple[list[Tensor], LastBlock | None]":
        clip, vit = self._networks()
        if vit is None or self.params.spread == "none":
            return self.features(images), None
        inputs = _stacked([one.vit for one in images], vit)
        if clip is not None:
            return self.features(images), vit.last_block(inputs)
        features, block = vit.features_and_block(inputs, self._kind)
        return list(features), block

    def _features_of(self, one: Inputs) -> "Tensor":
        if one.kept is None:
            return self.features([one])[0]
        if self.params.features == "clip":
            return one.kept.dense()[0]
        return one.kept.patches("tokens" if self.params.features == "tokens" else "keys")

    def _block_of(self, one: Inputs) -> "LastBlock | None":
        if self.params.spread == "none" or one.kept is None:
            return None
        return one.kept.blocks(1, ())[0]

    def _networks(self) -> "tuple[DenseClip | None, SeedViT | None]":
        with self._loading:
            if self._loaded is None:
                self._loaded = self._encoders.load_networks(self._device)
            return self._loaded

    @property
    def _kind(self) -> "PatchFeatures":
        return "keys" if self.params.features == "keys" else "tokens"


def _reader_of(encoders: BankEncoders, device: str) -> "FeatureReader | None":
    if not encoders.features_from:
        return None
    from .features.reader import FeatureReader

    return FeatureReader(encoders.features_from, device)


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
