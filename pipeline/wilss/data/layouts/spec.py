"""What a reader needs to know of a data set; the manifest makes these from its text."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from wilss.data.layouts.records import LabelTable
from wilss.data.taxonomy import BACKGROUND, Taxonomy, closest
from wilss.errors import ManifestError

__all__ = ["DataSpec", "SplitSpec", "TagKind", "TagsSpec"]

Layout = Literal["voc", "coco", "folder"]
TagKind = Literal["voc-main", "voc-xml", "masks", "csv", "npy", "coco"]


@dataclass(frozen=True, kw_only=True)
class SplitSpec:
    """Which images a split holds.

    list: name of a list of the layout, or an existing txt or npy file. into: the list that an npy of
    indices points into. images, annotations: COCO's folder and json of this split, under the root.
    """

    list: str = ""
    into: str = "train_aug"
    images: str | None = None
    annotations: str | None = None


@dataclass(frozen=True, kw_only=True)
class TagsSpec:
    """Where tags come from.

    file: the csv, npy or COCO json. list: the list whose order the rows of an npy follow.
    difficult: whether VOC's flag 0 (present but difficult) counts as a tag. ignore: names that are no classes
    here and are passed over in silence.
    """

    kind: TagKind
    file: str | None = None
    list: str | None = None
    difficult: bool = True
    ignore: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """A data set on disk.

    name: how steps and evaluations call it. root: its folder, absolute. base: the manifest's folder, which
    paths of lists may start from. file, key: the manifest and the key path of this data set in it, for
    errors.
    taxonomy: the manifest's classes. own: the data set's own (values in label files, names of tags).
    labels, images: folders under the root, None for the layout's own choice.
    """

    name: str
    root: Path
    base: Path
    file: Path
    key: str
    layout: Layout
    taxonomy: Taxonomy
    own: Taxonomy
    splits: Mapping[str, SplitSpec]
    tags: TagsSpec
    labels: str | None = None
    images: str | None = None
    generate: Mapping[str, int] | None = field(default=None)

    def at(self, key: str) -> str:
        """The manifest's file and a key path below this data set: "data_manifest.yaml, data.voc.splits"."""
        return f"{self.file}, {self.key}{'.' if self.key else ''}{key}"

    def split(self, name: str) -> SplitSpec:
        """A split by its name. Raises ManifestError with the names there are."""
        if name not in self.splits:
            raise ManifestError(
                f"{self.at('splits')}: {self.name} has no split {name!r}{closest(name, self.splits)}; add it to "
                "`splits`."
            )
        return self.splits[name]

    @cached_property
    def label_table(self) -> LabelTable:
        """Values of this data set's label files to ids of the manifest's taxonomy, by class name."""
        pairs = [(BACKGROUND, BACKGROUND)]
        for value in self.own.class_ids:
            identity = self.taxonomy.find(self.own.name_of(value))
            if identity is None:
                raise ManifestError(
                    f"{self.at(f'names.{value}')}: {self.own.name_of(value)!r} is not a class of "
                    f"{self.taxonomy.name}{closest(self.own.name_of(value), self.taxonomy.class_names)}."
                )
            pairs.append((value, identity))
        return LabelTable.of(pairs)

    def ids_of(self, names: tuple[str, ...]) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """Taxonomy ids of tag names, ascending and once each, and the names that are no classes here."""
        found = {name: self.taxonomy.find(name) for name in names if name not in self.tags.ignore}
        known = {identity for identity in found.values() if identity}
        strange = [name for name, identity in found.items() if identity is None]
        return tuple(sorted(known)), tuple(strange)
