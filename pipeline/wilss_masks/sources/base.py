"""What a source of masks is asked, and what it offers. `run` is handed one and knows none by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, overload

import numpy as np
from numpy.typing import NDArray

from wilss.data.contents import MadeOf
from wilss.data.layouts import ImageRecord, Records
from wilss.data.manifest import EncoderSpec
from wilss.store import ImageContent, Status


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageTask:
    """One image and what is asked of it.

    height, width: upright pixels, 0 where the image cannot be opened. categories: positions on the store's
    category axis. problem: why it will not be tried, or None. unlabelled: whether the source reads pixel labels and
    there are none of this image, so that it is not tried either. shows_none: whether it is known to show none of the
    step's classes, so that its masks are empty. by_label: whether the source reads its label all the same, for void.
    """

    record: ImageRecord
    height: int
    width: int
    categories: tuple[int, ...]
    problem: str | None = None
    unlabelled: bool = False
    shows_none: bool = False
    by_label: bool = False

    @property
    def status(self) -> Status:
        """Its status before anything has run."""
        if self.unlabelled:
            return Status.UNLABELLED
        return Status.PENDING if self.categories or self.problem or self.shows_none else Status.UNTAGGED

    @property
    def is_proposed(self) -> bool:
        """Whether the source is asked about it; else what there is to say of it is known."""
        return self.problem is None and not self.unlabelled and bool(self.categories or self.by_label)


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageTasks(Sequence[ImageTask]):
    """The tasks of N images, in columns; row i of each is image i, whose task is made when its shard is.

    A million images are 20 bytes each here, beside those of their records; a task with its record and path takes 700.

    sizes: int32 [N, 2], height and width, 0 where an image cannot be opened. asked: bool [K, C], the K different
    sets of categories; kinds: int32 [N], which of them an image has. problems: row -> sentence. unlabelled: the rows
    of images without the pixel labels that are asked of them. tags_are_complete: whether an image that nothing is asked
    of is known to show none of the step's classes. reads_labels: whether the source does.
    """

    records: Records
    sizes: NDArray[np.int32]
    kinds: NDArray[np.int32]
    asked: NDArray[np.bool_]
    problems: Mapping[int, str]
    unlabelled: frozenset[int] = frozenset()
    tags_are_complete: bool = False
    reads_labels: bool = False

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
        record, categories = self.records[row], tuple(np.flatnonzero(self.asked[self.kinds[row]]).tolist())
        problem, unlabelled = self.problems.get(row), row in self.unlabelled
        shows_none = self.tags_are_complete and not (categories or problem or unlabelled)
        return ImageTask(
            record=record,
            height=height,
            width=width,
            categories=categories,
            problem=problem,
            unlabelled=unlabelled,
            shows_none=shows_none,
            by_label=shows_none and self.reads_labels and record.label is not None,
        )

    @property
    def usable(self) -> NDArray[np.bool_]:
        """bool [N]: the images that will be tried."""
        usable = np.ones(len(self), np.bool_)
        usable[[*self.problems, *self.unlabelled]] = False
        return usable

    @property
    def tags(self) -> NDArray[np.bool_]:
        """bool [N, C]: the categories that are asked for."""
        return self.asked[self.kinds]

    @property
    def status(self) -> NDArray[np.int8]:
        """int8 [N]: the statuses before anything has run."""
        waiting = np.any(self.asked, axis=1, keepdims=True)[self.kinds, 0] | self.tags_are_complete
        waiting[list(self.problems)] = True
        status = np.where(waiting, np.int8(Status.PENDING), np.int8(Status.UNTAGGED))
        status[list(self.unlabelled)] = Status.UNLABELLED
        return status


@dataclass(frozen=True, kw_only=True)
class Grids:
    """Patch grids (h, w) of an image's soft layers, None where a source has no such layer.

    Images with equal grids have inputs of equal shape and can share a batch.
    """

    score: tuple[int, int] | None = None
    attention: tuple[int, int] | None = None


def made_of(source: "MaskSource") -> MadeOf:
    """What the masks of a source are made of, which is what a store notes the contents of."""
    return "labels" if source.reads_labels else "images"


def why_not_finite(image: ImageTask, arrays: Mapping[str, Sequence[NDArray[Any]]]) -> str:
    """A sentence where networks gave NaN or infinity for an image; empty where all numbers of the arrays are finite.

    Each comparison with NaN is false, so that masks are cut from maps of them as from any others. arrays: by name.
    """
    floats = {name: [part for part in parts if part.dtype.kind == "f"] for name, parts in arrays.items()}
    broken = [name for name, parts in floats.items() if not all(np.isfinite(part).all() for part in parts)]
    if not broken:
        return ""
    return (
        f"{image.record.path}: the networks gave NaN or infinity for it (in {' and '.join(broken)}); look at their "
        "weights, and try fp32, where they run in bf16, or --device cpu."
    )


def require_encoder(name: str, spec: EncoderSpec) -> None:
    """Raise EncoderError for an encoder that cannot be used, by its names alone; no weights are read or fetched.

    name: `clip` or `vit`, as in a manifest.
    """
    from wilss.models.encoders.clip.opening import require_what
    from wilss.models.encoders.vit.encoder import require_vit

    if name == "vit":
        require_vit(spec)
    else:
        require_what(spec)


def has_networks(source: "MaskSource") -> bool:
    """Whether the masks of a source come from networks, which its identity names; else nobody need wait for torch."""
    return bool(source.identity().get("models"))


class Proposer(Protocol):
    """An opened source: networks loaded, on one device, in one process."""

    def load(self, task: ImageTask) -> Any:
        """Decode what one image needs; called from threads. Raises OneImageError for an image that is bad."""

    def propose(self, tasks: Sequence[ImageTask], loaded: Sequence[Any]) -> list[ImageContent]:
        """Masks of a batch of images whose grids are equal, in order."""


class MaskSource(Protocol):
    """Who proposes masks: frozen, picklable, and cheap to make; networks come with `open`.

    One that is made for certain classes names them, in the order of the category axis: `category_ids`, taxonomy ids, or
    `classes`, names or tuples that begin with one.
    """

    @property
    def name(self) -> str:
        """The name by which `--source` finds it."""

    @property
    def has_void(self) -> bool:
        """Whether it knows pixels that are neither class nor background."""

    @property
    def uses_tags(self) -> bool:
        """Whether an image's tags say which classes to look for; else all of the step's, on all images of a split."""

    @property
    def reads_labels(self) -> bool:
        """Whether pixel labels say what an image holds, whatever its tags; one without labels is then not tried."""

    @property
    def seeds_kept(self) -> int:
        """Seeds per category that it can hand to the store."""

    @property
    def encoders(self) -> Sequence[tuple[str, EncoderSpec]]:
        """The manifest's encoders that it will open, with their names there."""

    def identity(self) -> Mapping[str, Any]:
        """All that its masks depend on, as JSON values: parameters, digests of models and prompts.

        models: a part for every network; empty where there is none.
        """

    def grids(self, height: int, width: int) -> Grids:
        """Patch grids of an image of this size."""

    def prepare(self, device: str) -> Self:
        """Do once, in the coordinator, what no worker should do again."""

    def open(self, device: str, threads: int) -> Proposer:
        """Load networks and use this many CPU threads; a worker process calls this once."""
