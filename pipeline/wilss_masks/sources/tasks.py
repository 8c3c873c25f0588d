"""`ImageTasks`: what is asked of every image of a step, in columns; an image's task is made when its shard is.

A million images are 20 bytes each here, beside those of their records; a task with its record and path takes 700.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from wilss.data.layouts import ImageRecord, Records
from wilss.store import Status

__all__ = ["ImageTask", "ImageTasks"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageTask:
    """One image and what is asked of it.

    height, width: upright pixels, 0 where the image cannot be opened. categories: positions on the store's
    category axis. problem: why it will not be tried, or None.
    """

    record: ImageRecord
    height: int
    width: int
    categories: tuple[int, ...]
    problem: str | None = None

    @property
    def status(self) -> Status:
        """Its status before anything has run."""
        return Status.PENDING if self.categories or self.problem else Status.UNTAGGED


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageTasks(Sequence[ImageTask]):
    """The tasks of N images; row i of every column is image i.

    sizes: int32 [N, 2], height and width, 0 where an image cannot be opened. asked: bool [K, C], the K different
    sets of categories; kinds: int32 [N], which of them an image has. problems: row -> sentence.
    """

    records: Records
    sizes: NDArray[np.int32]
    kinds: NDArray[np.int32]
    asked: NDArray[np.bool_]
    problems: Mapping[int, str]

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, place: int) -> ImageTask: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[ImageTask, ...]: ...
    def __getitem__(self, place: int | slice) -> ImageTask | tuple[ImageTask, ...]:
        rows = range(len(self))[place]
        return self._task(rows) if isinstance(rows, int) else tuple(map(self._task, rows))

    def _task(self, row: int) -> ImageTask:
        height, width = self.sizes[row].tolist()
        return ImageTask(
            record=self.records[row],
            height=height,
            width=width,
            categories=tuple(np.flatnonzero(self.asked[self.kinds[row]]).tolist()),
            problem=self.problems.get(row),
        )

    @property
    def usable(self) -> NDArray[np.bool_]:
        """bool [N]: the images that will be tried."""
        usable = np.ones(len(self), np.bool_)
        usable[list(self.problems)] = False
        return usable

    @property
    def tags(self) -> NDArray[np.bool_]:
        """bool [N, C]: the categories that are asked for."""
        return self.asked[self.kinds]

    @property
    def status(self) -> NDArray[np.int8]:
        """int8 [N]: the statuses before anything has run."""
        waiting = np.any(self.asked, axis=1, keepdims=True)[self.kinds, 0] | ~self.usable
        return np.where(waiting, np.int8(Status.PENDING), np.int8(Status.UNTAGGED))
