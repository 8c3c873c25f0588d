"""What the sources share that make masks from a few supports of each class: supports, whole masks, what is stored."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from wilss.data.manifest import Manifest
from wilss.data.supports.maps import FOREGROUND, UNKNOWN, SupportMap
from wilss.data.supports.reading import SupportSet, read_supports
from wilss.disk import Location
from wilss.store import ImageContent, Status

from .base import Grids, ImageTask
from .features.kept_in import KeptIn
from .prototypes import PatchEncoder

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ShotsSource:
    """Masks from a few supports of each class.

    params: with shots, supports, tags and keep_masks, whatever else a source asks for.
    encoder: whose patch features are compared. category_ids: taxonomy ids, in the order of the category axis.
    supports: those of the chosen shots; None once `prepare` has taken from them what it needs. supports_sha256: of all
        that they say.
    prototypes: float32, a row of D values for each class; None until `prepare` has made them.
    own: support maps [H, W] of whole masks that images keep, by image and taxonomy id; made with the prototypes.
    own_masks: the ids of these images.
    """

    has_void: ClassVar[bool] = False
    reads_labels: ClassVar[bool] = False
    seeds_kept: ClassVar[int] = 0

    params: Any
    encoder: PatchEncoder
    category_ids: tuple[int, ...]
    supports_sha256: str
    own_masks: tuple[str, ...] = ()
    supports: SupportSet | None = field(default=None, repr=False, compare=False)
    prototypes: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    own: Mapping[str, Mapping[int, SupportMap]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def uses_tags(self) -> bool:
        """As the parameter says."""
        return bool(self.params.tags)

    def grids(self, height: int, width: int) -> Grids:
        """The grid of the encoder's features for an image of this size."""
        return Grids(score=self.encoder.grid(height, width))

    def identity_of(self, models: Mapping[str, Any], *, beside: Collection[str]) -> Mapping[str, Any]:
        """Parameters but those in `beside`, digests of the networks and of what the supports say."""
        parameters = {name: value for name, value in dataclasses.asdict(self.params).items() if name not in beside}
        return {
            "parameters": parameters,
            "models": models,
            "supports_sha256": self.supports_sha256,
            "own_masks": list(self.own_masks),
            **({"features_from": [one.digest for one in self.features_from]} if self.features_from else {}),
        }

    def to_fetch(self) -> tuple[str, ...]:
        """What of the backbone will be fetched. Raises WeightsError where it is not there."""
        return () if self.encoder.backbone is None else self.encoder.backbone.to_fetch()

    @property
    def features_from(self) -> tuple[KeptIn, ...]:
        """Stores whose features stand for the images that they are of."""
        return self.encoder.features_from

    def with_features_from(self, paths: Sequence[Location]) -> Self:
        """The same with stores in the place of images. Raises what `PatchEncoder.with_features_from` raises."""
        return dataclasses.replace(self, encoder=self.encoder.with_features_from(paths))

    def kept(self) -> dict[str, dict[int, SupportMap]]:
        """What `own` is made of, while the supports are there."""
        return {} if self.supports is None else _kept(self.supports, self.params)

    def put_own(self, task: ImageTask, masks: "Tensor", confidence: "Tensor") -> None:
        """In the place of a guess the mask that a person drew, where its pixels are known; in place.

        masks: bool [T, H, W]; confidence: [T].
        """
        import torch

        ids = [self.category_ids[position] for position in task.categories]
        for identity, drawn in self.own.get(task.record.image_id, {}).items():
            if identity in ids:
                drawn_map = torch.from_numpy(drawn).to(masks.device)
                masks &= drawn_map != FOREGROUND
                masks[ids.index(identity)] &= drawn_map == UNKNOWN
                masks[ids.index(identity)] |= drawn_map == FOREGROUND
                confidence[ids.index(identity)] = 1.0


def shots_of(manifest: Manifest, step: int, params: Any, seed: int) -> dict[str, Any]:
    """The fields of a `ShotsSource` that the supports decide. `seed` names the draw of the shots.

    Raises ManifestError or ImageError for supports that are missing or of no use.
    """
    supports = read_supports(manifest, step, params.supports or None).shots(params.shots, seed)
    return {
        "category_ids": tuple(manifest.protocol.new(step)),
        "supports_sha256": supports.digest,
        "own_masks": tuple(sorted(_kept(supports, params))),
        "supports": supports,
    }


def content_of(categories: tuple[int, ...], masks: "Tensor", confidence: "Tensor", score: "Tensor") -> ImageContent:
    """What the store takes. masks: bool [T, H, W]; confidence: [T]; score: float16 [T, h, w]."""
    planes = {"mask": masks.cpu().numpy(), "score": score.cpu().numpy()}
    return ImageContent(
        status=Status.DONE,
        planes={name: dict(zip(categories, stack, strict=True)) for name, stack in planes.items()},
        confidence=dict(zip(categories, confidence.tolist(), strict=True)),
        area=dict(zip(categories, masks.sum(dim=(-2, -1)).tolist(), strict=True)),
    )


def _kept(supports: SupportSet, params: Any) -> dict[str, dict[int, SupportMap]]:
    """The maps of supports that say all of their image, by image and class; none where masks are not kept."""
    found: dict[str, dict[int, SupportMap]] = {}
    for support in supports.supports if params.keep_masks else ():
        if support.spec.kind == "mask":
            found.setdefault(support.spec.image_id, {})[support.spec.class_id] = support.map
    return found
