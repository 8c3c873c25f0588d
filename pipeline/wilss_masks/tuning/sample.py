"""Which images a setting is chosen on, and what is known of their pixels."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wilss.data.layouts import ImageRecord, read_label_of
from wilss.data.layouts.files import read_lines
from wilss.data.layouts.named_images import rows_named
from wilss.data.manifest import Manifest
from wilss.data.supports.maps import BACKGROUND, FOREGROUND
from wilss.data.supports.reading import Support, read_supports
from wilss.data.taxonomy import VOID, closest
from wilss.errors import ManifestError
from wilss.randomness import seed_for

Kind = Literal["labels", "supports", "nothing"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """What is known of an image's pixels: `labels` uint8 [H, W] of ids, VOID where nobody knows.

    classes: the ids that are judged by it.
    """

    labels: NDArray[np.uint8]
    classes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Images of a step, in the order of its list, and by what their masks are judged.

    order: places in `records`, shuffled by name. available: how many there were to draw from.
    """

    records: tuple[ImageRecord, ...]
    order: tuple[int, ...]
    available: int
    kind: Kind
    classes: tuple[int, ...]
    supports: Mapping[str, tuple[Support, ...]]
    warnings: tuple[str, ...] = ()

    def truths(self, record: ImageRecord) -> tuple[Truth, ...]:
        """What is known of an image. Raises OneImageError for a label that is damaged."""
        if self.kind == "labels":
            return (Truth(labels=read_label_of(record), classes=self.classes),)
        return tuple(map(_of_support, self.supports.get(record.image_id, ())))


def draw_sample(
    manifest: Manifest,
    step: int,
    *,
    split: str = "train",
    count: int = 200,
    seed: int = 0,
    labelled: Path | None = None,
    supports: Path | None = None,
) -> Sample:
    """So many images of a step that are tagged with one of its classes, drawn by name.

    Where any has pixel labels, only such are drawn; labelled: a list of their ids, one a line. supports: annotated
    images in their place; without labels those of the manifest, if it has some.
    Raises ManifestError for a list that names what is not there, and where no image has a tag of the step.
    """
    selection, new = manifest.records(step, split), manifest.protocol.new(step)
    tagged = {record.image_id: record for record in selection.records if set(record.tags) & set(new)}
    if not tagged:
        raise ManifestError(
            f"no image of step {step} is tagged with a class of it, so there is nothing to choose on; add tags."
        )
    chosen, kind, few = _candidates(manifest, step, tagged, labelled, supports)
    drawn = sorted(chosen, key=lambda record: seed_for(seed, "tune", record.image_id))
    if labelled is None and kind != "supports":  # what somebody listed is taken whole
        drawn = drawn[:count]
    names = {record.image_id for record in drawn}
    records = tuple(record for record in tagged.values() if record.image_id in names)
    place = {record.image_id: number for number, record in enumerate(records)}
    return Sample(
        records=records,
        order=tuple(place[record.image_id] for record in drawn),
        available=len(chosen),
        kind=kind,
        classes=tuple(new),
        supports=few,
        warnings=(*selection.warnings, *_unseen(manifest, records, new), *_of_other_split(split)),
    )


def _candidates(
    manifest: Manifest, step: int, tagged: Mapping[str, ImageRecord], labelled: Path | None, supports: Path | None
) -> tuple[list[ImageRecord], Kind, dict[str, tuple[Support, ...]]]:
    """The images to draw from, by what they are judged, and where that is supports these by image."""
    if labelled is not None:
        return _listed(labelled, tagged, step), "labels", {}
    with_labels = [record for record in tagged.values() if record.label is not None]
    if supports is None and with_labels:
        return with_labels, "labels", {}
    if supports is None and step not in manifest.supports:
        return list(tagged.values()), "nothing", {}
    few = _by_image(read_supports(manifest, step, supports).supports)
    chosen = [record for name, record in tagged.items() if name in few]
    _require_some(chosen, f"none of the supports of step {step} is tagged with its class; correct the tags.")
    return chosen, "supports", few


def _listed(path: Path, tagged: Mapping[str, ImageRecord], step: int) -> list[ImageRecord]:
    lines, ids = read_lines(path), list(tagged)
    named = rows_named(lines, ids, lambda place: str(tagged[ids[place]].path))
    if told := named.told_several(path):
        raise ManifestError(told)
    rows = named.rows.tolist()
    for line, place in zip(lines, rows, strict=True):
        if place < 0:
            raise ManifestError(f"{path}: {line!r} is no image with a tag of step {step}{closest(line, tagged)}.")
    names = list(dict.fromkeys(ids[place] for place in rows))
    for name in names:
        if tagged[name].label is None:
            raise ManifestError(f"{path}: {name!r} has no pixel labels; add its label file, or take it off the list.")
    _require_some(names, f"{path} names no image; write an image's name on each line.")
    return [tagged[name] for name in names]


def _require_some(found: Sequence[object], sentence: str) -> None:
    if not found:
        raise ManifestError(sentence)


def _by_image(supports: Iterable[Support]) -> dict[str, tuple[Support, ...]]:
    found: dict[str, tuple[Support, ...]] = {}
    for support in supports:
        found[support.spec.image_id] = (*found.get(support.spec.image_id, ()), support)
    return found


def _unseen(manifest: Manifest, records: Sequence[ImageRecord], new: Sequence[int]) -> list[str]:
    seen = {tag for record in records for tag in record.tags}
    names = [manifest.taxonomy.name_of(identity) for identity in new if identity not in seen]
    return [f"none of the {len(records)} images is tagged {', '.join(map(repr, names))}."] if names else []


def _of_other_split(split: str) -> list[str]:
    if split == "train":
        return []
    return [
        f"these are images of {split!r}: whatever reports on them later, wilss-train and wilss-eval as well, reports "
        "on images that the setting was chosen on."
    ]


def _of_support(support: Support) -> Truth:
    """A support speaks of its own class alone: what is background to it may be another class."""
    said = support.map
    labels = np.full(said.shape, VOID, np.uint8)
    labels[said == BACKGROUND] = 0
    labels[said == FOREGROUND] = support.spec.class_id
    return Truth(labels=labels, classes=(support.spec.class_id,))
