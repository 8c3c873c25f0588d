"""What `manifest check` looks at: the steps and splits of a manifest, and what opening each of their images tells."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from wilss.data.images import read_image, read_size
from wilss.data.layouts import DataSpec, ImageRecord, require_size
from wilss.data.layouts.label_classes import classes_in
from wilss.data.layouts.listing import label_folders
from wilss.data.manifest import Manifest
from wilss.errors import ImageError, ManifestError
from wilss.process import map_in_threads

_THREADS = 4


class Part(NamedTuple):
    """A step, or an evaluation split, whose supervision is "". labels: the folder of its label files, "" for a json.

    tags_are_complete: whether what an image is not tagged with is known not to be on it.
    """

    name: str
    supervision: str
    class_ids: tuple[int, ...]
    records: Sequence[ImageRecord]
    warnings: Sequence[str]
    labels: str = ""
    tags_are_complete: bool = False

    def shows_none(self, record: ImageRecord) -> bool:
        """Whether an image is known to show none of the classes."""
        is_known = self.tags_are_complete and record.problem is None and not record.tags_unknown
        return is_known and not set(record.tags) & set(self.class_ids)

    @property
    def needs_labels(self) -> bool:
        """Whether its images are worth nothing without pixel labels."""
        return self.supervision in ("pixel", "")


def parts_of(manifest: Manifest, faults: list[str]) -> Iterator[Part]:
    """Every step, then every evaluation split; why one cannot be listed is added to `faults`."""
    for step in range(manifest.protocol.num_steps):
        with collected(faults):
            supervision = manifest.supervision(step)
            selection = manifest.images(step) if supervision == "shots" else manifest.records(step)
            new = manifest.protocol.new(step)
            spec = manifest.data[manifest.steps[step].data]
            labels, is_complete = _label_folder(spec, manifest.steps[step].split), spec.tags.complete
            yield Part(f"step {step}", supervision, new, selection.records, selection.warnings, labels, is_complete)
    for split in evaluations(manifest):
        with collected(faults):
            chosen = manifest.evaluation(split)
            yield Part(split, "", manifest.taxonomy.class_ids, chosen.records, chosen.warnings)


def evaluations(manifest: Manifest) -> Iterable[str]:
    """The splits that are judged on: those that the manifest names, and `val` where the data has one."""
    known = dict.fromkeys(manifest.parts)
    if any("val" in manifest.data[step.data].splits for step in manifest.steps):
        known.setdefault("val")
    return known


@contextlib.contextmanager
def collected(faults: list[str]) -> Iterator[None]:
    """A ManifestError inside ends the block and is added to `faults`."""
    try:
        yield
    except ManifestError as error:
        faults.append(str(error))


def _label_folder(spec: DataSpec, split: str) -> str:
    if spec.layout == "coco":
        return ""
    folders = [spec.root / folder for folder in label_folders(spec, spec.split(split))]
    return str(next((folder for folder in folders if folder.is_dir()), folders[-1]))


@dataclass(frozen=True, kw_only=True)
class Look:
    """What opening an image told: a sentence, or the classes of its labels (None where they were not read).

    unlabelled: whether labels are asked of it and there are none.
    """

    problem: str | None = None
    holds: frozenset[int] | None = None
    unlabelled: bool = False


class Looks:
    """The look at each image of some parts; an image that is in several of them is opened once."""

    def __init__(
        self, parts: Sequence[Part], *, labels: bool, images: bool, progress: Callable[[int, int], None]
    ) -> None:
        """labels: whether label maps are read. images: whether images are decoded to their end, not their headers."""
        wanted: dict[tuple[str, str], ImageRecord] = {}
        for record in (record for part in parts for record in part.records):
            if wanted.setdefault(key_of(record), record).problem is not None:
                wanted[key_of(record)] = record
        needs = {key_of(record) for part in parts if part.needs_labels for record in part.records}
        self._looks: dict[tuple[str, str], Look] = {}
        progress(0, len(wanted))
        looked = map_in_threads(
            lambda item: _look_at(item[1], item[0] in needs, labels, images), wanted.items(), _THREADS
        )
        for key, look in zip(wanted, looked, strict=True):
            self._looks[key] = look
            progress(len(self._looks), len(wanted))

    def __len__(self) -> int:
        return len(self._looks)

    def __getitem__(self, record: ImageRecord) -> Look:
        """What opening it told; what is at fault in one part alone, as its tags, is in that record."""
        return self._looks[key_of(record)] if record.problem is None else Look(problem=record.problem)


def key_of(record: ImageRecord) -> tuple[str, str]:
    """What makes two records the same image."""
    return (record.image_id, str(record.path))


def _look_at(record: ImageRecord, needs_label: bool, labels: bool, decode: bool) -> Look:
    if record.problem is not None:
        return Look(problem=record.problem)
    try:
        size = read_image(record.path, record.bits).shape[:2] if decode else read_size(record.path)
        if record.label is None:
            return Look(unlabelled=needs_label, holds=frozenset())
        return Look(holds=_classes(record, size) if labels else None)
    except ImageError as error:
        return Look(problem=str(error))


def _classes(record: ImageRecord, size: tuple[int, int]) -> frozenset[int]:
    assert record.label is not None
    labels = record.label.read()
    require_size(record, labels.shape, size)
    return frozenset(classes_in(labels))
