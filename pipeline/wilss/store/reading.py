"""Masks out of a store, while somebody may be writing it: whole ones, of one making, or a sentence why not."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ..data.layouts import NameIndex, Names
from ..errors import StoreError
from .opened import OpenStore
from .row_state import Standing, Stood
from .schema import Status, StoreLayout
from .seal import SEAL_KEY

__all__ = ["ImageMasks", "StoreReader", "but_for_seal", "rows_of"]

#: A shard is made anew once in a run.
_MOST_READS = 5
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class ImageMasks:
    """The masks of one image, cropped to its true size.

    categories: positions on the store's category axis, ascending; masks: bool [T, H, W], one per category.
    void: bool [H, W] or None where the store knows no void.
    """

    image_id: str
    categories: tuple[int, ...]
    masks: NDArray[np.bool_]
    void: NDArray[np.bool_] | None


class StoreReader(OpenStore):
    """How masks are read: those of an image are there only when its status says done."""

    @cached_property
    def image_ids(self) -> Names:
        """Image ids, in the order of the image axis."""
        count, step = self.layout.num_images, self.layout.chunk_rows("image")
        chunks = (self._rows_of("image", slice(first, first + step)) for first in range(0, count, step))
        return Names(str(name) for chunk in chunks for name in chunk)

    @cached_property
    def category_names(self) -> tuple[str, ...]:
        """Names of the step's classes, in the order of the category axis."""
        return tuple(str(name) for name in self.vector("category"))

    @cached_property
    def category_ids(self) -> tuple[int, ...]:
        """Taxonomy ids of the step's classes, in the order of the category axis."""
        return tuple(int(i) for i in self.vector("category_id"))

    @cached_property
    def _positions(self) -> NameIndex:
        return NameIndex(self.image_ids)

    def position(self, image: str | int) -> int:
        """Where `image` (an id, or already a position) stands on the image axis."""
        if isinstance(image, int):
            if not 0 <= image < len(self.image_ids):
                raise StoreError(f"{self.path} has no image at position {image}; it has {len(self.image_ids)}.")
            return image
        if (position := self._positions.find(image)) is None:
            raise StoreError(f"{self.path} has no image {image!r}; `wilss-masks info` shows what it holds.")
        return position

    def plane(self, name: str, image: str | int, category: int | None = None) -> NDArray[Any]:
        """One plane of a sharded array as stored: on the canvas, or on the largest patch grid.

        category: a position on the category axis; None for an array without one.
        """
        spec, row = self._spec(name), self.position(image)
        positions = [0 if category is None else category]
        (plane,) = self._steadily(row, lambda stood: self._planes(name, row, positions))
        return np.full(spec.plane, spec.fill, spec.dtype) if plane is None else plane

    def read(self, image: str | int, categories: Sequence[int] | None = None) -> ImageMasks:
        """Masks of one image, by default of the categories it is tagged with.

        Somebody may be writing the store meanwhile: what is returned is all of one making of the image.
        Raises StoreError when the image's masks are not there, or not there any more.
        """
        row = self.position(image)
        return self._steadily(row, lambda stood: self._masks(row, stood, categories))

    def _masks(self, row: int, stood: Stood, categories: Sequence[int] | None) -> ImageMasks:
        self._require_done(row, stood)
        height, width = stood.height, stood.width
        tagged: list[int] = np.flatnonzero(self._tags[row]).tolist()
        wanted = tagged if categories is None else sorted(categories)
        masks = np.zeros((len(wanted), height, width), np.bool_)
        for slot, plane in enumerate(self._planes("mask", row, wanted)):
            if plane is not None:
                masks[slot] = plane[:height, :width]
        return ImageMasks(
            image_id=self.image_ids[row],
            categories=tuple(wanted),
            masks=masks,
            void=self._void(row, height, width) if self.layout.has_void else None,
        )

    def _void(self, row: int, height: int, width: int) -> NDArray[np.bool_]:
        (plane,) = self._planes("void", row, [0])
        return np.zeros((height, width), np.bool_) if plane is None else plane[:height, :width].copy()

    def _steadily(self, row: int, read: Callable[[Stood], _T]) -> _T:
        """What `read` gives of an image whose shard stays as it was while it reads; again where it did not."""
        for _ in range(_MOST_READS):
            stood, made, problem = self._standing.of(row), None, None
            try:
                made = read(stood)
            except StoreError as error:
                problem = error
            if self._standing.has_moved(row):
                self._standing.look_again(row)
                self._require_same_store()
                if self._standing.of(row) != stood:
                    continue
            if problem is not None:
                raise problem
            return cast(_T, made)
        raise StoreError(f"{self.path} is being made anew; read it once `wilss-masks generate` has ended.")

    def _require_same_store(self) -> None:
        """Positions mean something else in another store that came into this one's place."""
        try:
            root = json.loads((self.path / "zarr.json").read_text(encoding="utf-8"))["attributes"]
            shapes = [
                json.loads((self.path / spec.name / "zarr.json").read_text())["shape"] for spec in self.layout.arrays
            ]
        except (OSError, ValueError, KeyError, TypeError):
            root, shapes = None, []
        if (
            not isinstance(root, dict)
            or but_for_seal(root) != but_for_seal(self.attributes)
            or shapes != [list(spec.shape) for spec in self.layout.arrays]
        ):
            raise StoreError(f"{self.path} was removed or replaced while it was read; open it again.")

    def standings(self) -> NDArray[np.int8]:
        """The status of every image, read anew; one whose shard is not committed is never done."""
        digests, status = self.vector("shard_digest"), self.vector("status")
        committed = np.repeat(digests != "", self.layout.shard_size)[: len(status)]
        made: NDArray[np.int8] = np.where(committed | (status != Status.DONE), status, Status.PENDING).astype(np.int8)
        return made

    def pending_shards(self) -> tuple[int, ...]:
        """Shards that were not committed, ascending; images that will never be made do not keep one pending."""
        status = self.vector("status")
        digests = self.vector("shard_digest")
        layout = self.layout
        return tuple(
            shard
            for shard in range(layout.num_shards)
            if not digests[shard] or (status[rows_of(layout, shard)] == Status.PENDING).any()
        )

    @cached_property
    def _tags(self) -> NDArray[np.bool_]:
        return self.vector("tags")

    @cached_property
    def _standing(self) -> Standing:
        standing = Standing(self.path, self.layout, self._rows_of)
        self._require_same_store()
        return standing

    def _require_done(self, row: int, stood: Stood) -> None:
        if not stood.is_done:
            pending = stood.status is Status.DONE  # its shard is about to be made anew
            state = "pending" if pending else stood.status.name.lower()
            why = self.vector("error")[row] if stood.status is Status.FAILED else f"its status is {state}"
            raise StoreError(f"{self.path} holds no masks of {self.image_ids[row]}: {why}")


def but_for_seal(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes without the seal."""
    return {key: value for key, value in attributes.items() if key != SEAL_KEY}


def rows_of(layout: StoreLayout, shard: int) -> slice:
    """Where the images of a shard stand on the image axis."""
    rows = layout.rows(shard)
    return slice(rows.start, rows.stop)
