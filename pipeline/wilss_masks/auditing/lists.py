"""The lists of a manifest as an audit sees them: which are trained on, which are judged on, and who stands in both."""

from collections.abc import Iterator
from typing import NamedTuple

from wilss.data.layouts import ImageRecord, Records
from wilss.data.manifest import Manifest
from wilss.errors import ManifestError

#: Splits that are judged on wherever a data set has them.
_JUDGED = ("val", "test")


class ImageList(NamedTuple):
    """A split of a data set. steps: those that train on it, none of a list that is judged on."""

    data: str
    split: str
    steps: tuple[int, ...]
    records: Records

    @property
    def name(self) -> str:
        """As it is told: "voc, train"."""
        return f"{self.data}, {self.split}"


def lists_of(manifest: Manifest) -> list[ImageList]:
    """Every list that a step trains on, then those that are judged on and on which no step trains.

    Raises ManifestError where one cannot be read, or none has an image.
    """
    trained: dict[tuple[str, str], list[int]] = {}
    for step, source in enumerate(manifest.steps):
        trained.setdefault((source.data, source.split), []).append(step)
    judged = dict.fromkeys(_judged(manifest))
    pairs = {**trained, **{pair: [] for pair in judged if pair not in trained}}
    lists = []
    for (data, split), steps in pairs.items():
        records = Records.of(manifest.listing(data, split, lenient=True).records)
        lists.append(ImageList(data, split, tuple(steps), records))
    if not any(len(one.records) for one in lists):
        raise ManifestError(f"{manifest.path} has no images in any list; `wilss-masks manifest check` says why.")
    return lists


def trained_and_judged(manifest: Manifest, lists: list[ImageList]) -> list[ImageList]:
    """Lists that a step trains on and that are judged on as a whole."""
    judged = set(_judged(manifest))
    return [one for one in lists if one.steps and (one.data, one.split) in judged]


def _judged(manifest: Manifest) -> Iterator[tuple[str, str]]:
    for parts in manifest.parts.values():
        yield from parts
    for source in manifest.steps:
        yield from ((source.data, split) for split in _JUDGED if split in manifest.data[source.data].splits)


class Picture(NamedTuple):
    """An image file, and the lists that it stands in, by their places."""

    record: ImageRecord
    lists: tuple[int, ...]


def pictures_of(lists: list[ImageList]) -> list[Picture]:
    """Every image file once, in the order of the lists."""
    at: dict[str, int] = {}
    pictures: list[Picture] = []
    for place, one in enumerate(lists):
        for record in one.records:
            path = str(record.path)
            if path in at:
                known = pictures[at[path]]
                if place not in known.lists:
                    pictures[at[path]] = known._replace(lists=(*known.lists, place))
                continue
            at[path] = len(pictures)
            pictures.append(Picture(record, (place,)))
    return pictures
