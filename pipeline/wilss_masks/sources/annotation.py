"""Pixel labels in the form of a mask store, so that a trainer has one way to read masks (step 0)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from wilss.data.layouts import require_size
from wilss.data.manifest import Manifest, require_manifest
from wilss.data.taxonomy import VOID
from wilss.errors import ImageError, ParameterError
from wilss.store import ImageContent, Status

from .base import Grids, ImageTask


@dataclass(frozen=True, kw_only=True)
class AnnotationSource:
    """Masks read from pixel labels; it is its own proposer, since there is nothing to load.

    category_ids: taxonomy ids, in the order of the category axis.
    """

    name: ClassVar[str] = "annotation"
    has_void: ClassVar[bool] = True
    reads_labels: ClassVar[bool] = True
    uses_tags: ClassVar[bool] = True
    seeds_kept: ClassVar[int] = 0
    encoders: ClassVar[tuple[()]] = ()

    category_ids: tuple[int, ...]

    @classmethod
    def from_manifest(
        cls,
        manifest: Manifest,
        step: int,
        values: Mapping[str, Any] = MappingProxyType({}),
        seed: int = 0,
        where: str = "--set",
    ) -> Self:
        """The source for one step; it has no parameters, and draws nothing from `seed`."""
        require_manifest(manifest)
        if values:
            raise ParameterError(
                f"{where}: the source {cls.name!r} has no parameter {next(iter(values))!r}; leave it out."
            )
        return cls(category_ids=tuple(manifest.protocol.new(step)))

    def identity(self) -> Mapping[str, Any]:
        """Nothing but the labels themselves, of which a store notes the contents."""
        return {"parameters": {}, "models": {}}

    def grids(self, height: int, width: int) -> Grids:
        """No soft layers."""
        return Grids()

    def prepare(self, device: str) -> Self:
        """Nothing to prepare."""
        return self

    def open(self, device: str, threads: int) -> Self:
        """Nothing to open."""
        return self

    def load(self, task: ImageTask) -> NDArray[np.uint8]:
        """The label map, uint8 [H, W]. Raises ImageError when there is none or its size is not the image's."""
        if task.record.label is None:
            raise ImageError(
                f"{task.record.path} has no pixel labels; add its label file, or leave it out of the split."
            )
        labels = task.record.label.read()
        require_size(task.record, labels.shape, (task.height, task.width))
        return labels

    def propose(self, tasks: Sequence[ImageTask], loaded: Sequence[NDArray[np.uint8]]) -> list[ImageContent]:
        """One mask per class that the image is tagged with or its labels hold, and its void."""
        return [self._one(task.categories, labels) for task, labels in zip(tasks, loaded, strict=True)]

    def _one(self, categories: tuple[int, ...], labels: NDArray[np.uint8]) -> ImageContent:
        masks = {position: labels == self.category_ids[position] for position in categories}
        return ImageContent(
            status=Status.DONE,
            planes={"mask": masks, "void": {0: labels == VOID}},
            confidence=dict.fromkeys(categories, 1.0),
            area={position: int(mask.sum()) for position, mask in masks.items()},
        )
