"""The features by which PANet knows a patch, and the prototypes of a support set (PANet Sec. 3.2).

The features are a frozen vision transformer's, or a trained embedding's. A prototype says what a class looks like; the
background's says what everything else does.
"""

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wilss.data.images import read_image, resize_uint8
from wilss.data.layouts import ImageRecord
from wilss.data.manifest import EncoderSpec
from wilss.data.supports.maps import BACKGROUND, FOREGROUND, SupportMap
from wilss.data.supports.reading import Support
from wilss.disk import Location
from wilss.errors import CheckpointError, ManifestError, ParameterError
from wilss.models.networks.checkpoint import read_info
from wilss.models.networks.embedding_spec import EmbeddingSpec

from .features.identity import vit_features
from .features.kept_in import KeptIn, kept_in

if TYPE_CHECKING:
    from torch import Tensor

    from wilss.models.networks.embedding import Embedding
    from wilss.models.networks.named_backbone import NamedBackbone

    from .features.patches import KeptPatches

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PatchEncoder:
    """What is known of an embedding before it is opened.

    vit: the frozen network below it. spec: what is made of its features. checkpoint: a trained embedding's file, and
    digest what it must have; None and "" for the frozen features as they are. debias: frozen features without the
    directions of position, this share of all.
    backbone: whose last feature maps, so many as `maps`, are taken in the place of the vit's patches; None for these.
    features_from: stores whose features of the vit stand for the images that they are of.
    """

    vit: EncoderSpec
    spec: EmbeddingSpec
    checkpoint: Path | None = None
    digest: str = ""
    debias: float = 0.0
    backbone: "NamedBackbone | None" = None
    maps: int = 1
    features_from: tuple[KeptIn, ...] = ()

    def identity(self) -> Mapping[str, Any]:
        """The networks by name, with their digests."""
        from wilss.models.encoders.identity import identity_of

        if self.backbone is not None:
            return {"backbone": {**self.backbone.identity(), "maps": self.maps}}
        vit = {"vit": identity_of(self.vit, tokens=self.spec.uses_tokens)} if self.spec.is_on_frozen_features else {}
        return {**vit, **({"embedding": {**self.spec.as_json(), "sha256": self.digest}} if self.checkpoint else {})}

    def warn(self) -> None:
        """Say what speaks against a backbone's features."""
        if self.backbone is None:
            return
        if not self.backbone.weights:
            log.warning(
                "Warning: the backbone %s has random weights, whose features tell classes apart hardly at all; name "
                "some with --set weights=timm, or a file.",
                self.backbone.name,
            )
        if doubt := self.backbone.statistics[2]:
            log.warning("Warning: %s", doubt)

    def with_features_from(self, paths: Sequence[Location]) -> "PatchEncoder":
        """The same with stores in the place of images.

        Raises ParameterError where the features are not the vit's, StoreError where a store has others.
        """
        if self.backbone is not None or not self.spec.is_on_frozen_features:
            raise ParameterError(
                "--features-from: kept features are of the manifest's encoders, and these masks come from a network of "
                "their own; leave it out."
            )
        asked = {"vit": self._asked_of_vit()}
        return dataclasses.replace(self, features_from=kept_in(paths, asked, self.identity()))

    def _asked_of_vit(self) -> dict[str, Any]:
        parts = ["tokens"] if self.spec.uses_tokens else []
        used = {"size": self.spec.size, "longest": self.spec.longest, "precision": "auto"}
        return vit_features(self.vit, parts=parts, blocks=1, **used)

    def patches(self, device: str) -> "KeptPatches | None":
        """What reads kept features; None without stores."""
        if not self.features_from:
            return None
        from .features.patches import KeptPatches

        return KeptPatches(self.features_from, self.grid, device, "tokens" if self.spec.uses_tokens else "keys")

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """The grid (h, w) of the features of an image of this size."""
        return self.spec.grid(height, width, self._patch)

    def load(self, record: ImageRecord) -> "Tensor":
        """An image as the network's input, uint8 [3, H, W]. Raises ImageError."""
        import torch

        image = torch.from_numpy(read_image(record.path, record.bits)).permute(2, 0, 1)
        return resize_uint8(image, self.spec.input_size(image.shape[1], image.shape[2], self._patch))

    def open(self, device: str) -> "Embedding":
        """The network, loaded on `device`. Raises CheckpointError where it is not what it was before."""
        from wilss.models.networks.debiasing import without_positions
        from wilss.models.networks.embedding import backbone_embedding, frozen_embedding, load_embedding

        if self.checkpoint is None:
            if self.backbone is None:
                embedding = frozen_embedding(self.vit, device, spec=self.spec)
            else:
                embedding = backbone_embedding(self.backbone, device, maps=self.maps, spec=self.spec)
            return without_positions(embedding, self.debias)
        info = read_info(self.checkpoint)
        if info.digest != self.digest:
            raise CheckpointError(f"{self.checkpoint} has changed since this run began; run the same command again.")
        return load_embedding(info, self.vit, device)

    @cached_property
    def _patch(self) -> int:
        """Pixels per feature, without opening the network."""
        from wilss.models.encoders.multiples import input_multiple

        if self.backbone is not None:
            return self.backbone.stride
        return input_multiple(self.vit) if self.spec.is_on_frozen_features else 1


def prototypes_of(
    supports: Sequence[Support], category_ids: Sequence[int], encoder: PatchEncoder, device: str
) -> NDArray[np.float32]:
    """Prototypes [1 + C, D] of any length, the background's first (PANet Eqs. 1 and 2).

    A class's is the mean over its supports, the background's over the support images, of the features averaged inside
    the annotation; what says nothing has no part in it. An image's background counts once, whatever the number of its
    supports [D]. Raises ManifestError where nothing says what background is.
    Images are encoded one at a time, since the shape of a batch shows in the last bits of a network's results.
    """
    import torch

    from wilss.equations import panet

    embedding = encoder.open(device)
    pooled: dict[int, list[tuple[Tensor, Tensor]]] = {identity: [] for identity in (0, *category_ids)}
    with torch.inference_mode():
        for shots in by_image(supports):
            features = embedding.features(encoder.load(shots[0].record)[None].to(device))[0]
            regions = [(shot.spec.class_id, shot.map == FOREGROUND) for shot in shots]
            for identity, mask in [(0, background_of([shot.map for shot in shots])), *regions]:
                pooled[identity].append(panet.masked_average(features, torch.from_numpy(mask).to(device)))
        if not any(float(area) for _, area in pooled[0]):
            raise ManifestError(
                "no support says what background looks like; add a background line to a scribble, or a box that leaves "
                "some of its image free."
            )
        rows = [[torch.stack(part) for part in zip(*pairs, strict=True)] for pairs in pooled.values()]
        return torch.stack([panet.mean_of_filled(*row) for row in rows]).cpu().numpy()


def background_of(maps: Sequence[SupportMap]) -> NDArray[np.bool_]:
    """The background of an image, bool [H, W]: what one of its maps calls so, and none calls foreground.

    So a second object of the episode is no background of the first one's class (PANet Eq. 2).
    """
    called = np.any([region == BACKGROUND for region in maps], axis=0)
    return np.asarray(called & ~np.any([region == FOREGROUND for region in maps], axis=0))


def by_image(supports: Iterable[Support]) -> list[list[Support]]:
    """Supports by their image, in the order of the images' names."""
    groups: dict[str, list[Support]] = {}
    for support in supports:
        groups.setdefault(support.spec.image_id, []).append(support)
    return [groups[image_id] for image_id in sorted(groups)]
