"""What a classifier of a step's tags learns from: images, what they show of the step, and a digest of both."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wilss.data.contents import contents_of
from wilss.data.layouts import ImageRecord
from wilss.data.manifest import Manifest
from wilss.errors import ManifestError, counted

#: A class of fewer images than this is learnt by heart rather than by what it looks like.
_FEW = 10
#: Shown by this share of the images or more, a class cannot be told from what usually surrounds it.
_MANY = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Lessons:
    """Images of one step with their tags. names: of the C classes; tags: bool [N, C]; of: where they come from.

    has_more: whether there are images of earlier steps that were not asked for.
    """

    records: Sequence[ImageRecord]
    tags: NDArray[np.bool_]
    names: tuple[str, ...]
    of: str
    has_more: bool = False

    @property
    def counts(self) -> NDArray[np.int64]:
        """int64 [C]: images that show a class."""
        return np.asarray(self.tags.sum(axis=0), np.int64)

    @cached_property
    def digest(self) -> str:
        """sha256 of the content of every image and of its tags."""
        contents = contents_of(self.records, np.arange(len(self.records)), "images")
        digest = hashlib.sha256(json.dumps(self.names).encode())
        for record, content, tags in zip(self.records, contents.tolist(), self.tags, strict=True):
            digest.update(json.dumps([record.image_id, content, np.flatnonzero(tags).tolist()]).encode())
        return digest.hexdigest()

    def doubts(self) -> Iterator[str]:
        """Sentences about classes that too few images show to be learnt, or too many to be told from their context."""
        none = [name for name, count in zip(self.names, self.counts, strict=True) if count == 0]
        few = [f"{name} {count}" for name, count in zip(self.names, self.counts, strict=True) if 0 < count < _FEW]
        total = len(self.records)
        many = [f"{name} {n}" for name, n in zip(self.names, self.counts, strict=True) if n >= max(_MANY * total, _FEW)]
        if none:
            yield (
                f"no image of {self.of} shows {', '.join(none)}: the classifier learns nothing of "
                f"{'it' if len(none) == 1 else 'them'}, and images with that tag get no masks."
            )
        if few:
            yield (
                f"few images of {self.of} show some classes ({', '.join(few)}): their maps may lie on what surrounds "
                "them; add images, or look at `wilss-masks sheet`."
            )
        if many:
            yield (
                f"half of the {counted(total, 'image')} of {self.of} or more show some classes ({', '.join(many)}): "
                "their maps cannot tell them from what usually surrounds them; add images without them"
                f"{', or those of earlier steps by --set negatives=earlier' if self.has_more else ''}."
            )


def lessons_of(manifest: Manifest, step: int, negatives: Literal["step", "earlier"]) -> Lessons:
    """The training images of a step, whichever split is to be labelled; of `earlier` steps too if they are asked for.

    An image of an earlier step counts as one without the step's classes, unless the step has it as well.
    Raises ManifestError where there is nothing to learn from, or nothing to tell a class from.
    """
    ids = manifest.protocol.new(step)
    records = _usable(manifest, step)
    own = {record.path for record in records}
    before = range(step) if negatives == "earlier" else ()
    others = {record.path: record for earlier in before for record in _usable(manifest, earlier)}
    records += [record for path, record in others.items() if path not in own]
    tags = np.zeros((len(records), len(ids)), np.bool_)
    for row, record in enumerate(records):
        tags[row] = [record.path in own and identity in record.tags for identity in ids]
    names = tuple(manifest.taxonomy.name_of(identity) for identity in ids)
    has_more = step > 0 and negatives == "step"
    lessons = Lessons(records=records, tags=tags, names=names, of=f"step {step}", has_more=has_more)
    _require_contrast(lessons, manifest, step)
    return lessons


def _usable(manifest: Manifest, step: int) -> list[ImageRecord]:
    """Those that can be opened, and of which somebody knows what they show: others are no images without a class."""
    return [record for record in manifest.records(step).records if record.problem is None and not record.tags_unknown]


def _require_contrast(lessons: Lessons, manifest: Manifest, step: int) -> None:
    """ManifestError unless some image shows a class, and for each class that is shown some image does not."""
    if not lessons.tags.any():
        raise ManifestError(
            f"{manifest.path}: no image of step {step} that can be opened is tagged with a class of it, so that a "
            "classifier has nothing to learn from; see `wilss-masks manifest check`."
        )
    everywhere = [lessons.names[place] for place in np.flatnonzero(lessons.counts == len(lessons.records)).tolist()]
    if everywhere:
        earlier = "images of earlier steps can stand against them: say --set negatives=earlier"
        remedy = earlier if lessons.has_more else "add images without it to the step"
        raise ManifestError(
            f"{manifest.path}: all {counted(len(lessons.records), 'image')} of step {step} show {everywhere[0]}, and a "
            f"classifier learns what a class looks like from images without it; {remedy}."
        )
