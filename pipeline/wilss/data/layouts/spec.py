"""A data set as the manifest describes it, and where it lies on disk."""

import os
import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from wilss.data.images import ALL_BITS, FEWEST_BITS
from wilss.data.layouts.colours import (
    ColourTable,
    LabelmapRow,
    Rgb,
    code_of,
    find_labelmap,
    read_labelmap,
    rgb_of_text,
)
from wilss.data.layouts.records import LabelTable
from wilss.data.taxonomy import BACKGROUND, VOID, Taxonomy, closest, meaning_of
from wilss.errors import ManifestError

#: Folders in which a labelmap.txt is looked for, beside the root.
_LABEL_FOLDERS = ("SegmentationClassAug", "SegmentationClass", "labels", "masks")
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def expand(text: str) -> str:
    """`text` with ${NAME} and ${NAME:-default} from the environment, and ~ for the home folder. Raises ValueError."""

    def value(match: re.Match[str]) -> str:
        known = os.environ.get(match[1]) or match[2]
        if known is None:
            sentence = f"the variable {match[1]} is not set; set it, or write ${{{match[1]}:-default}}."
            raise PydanticCustomError("sentence", "{sentence}", {"sentence": sentence})
        return known

    return os.path.expanduser(_VARIABLE.sub(value, text))


#: Text of a manifest in which variables are filled in.
Text = Annotated[str, AfterValidator(expand)]


def _colours_of(written: Any) -> Any:
    """One colour or several, each as [r, g, b], "r, g, b" or "#rrggbb". Raises ValueError."""
    several = isinstance(written, list) and any(isinstance(one, list | str) for one in written)
    colours = written if several else [written]
    try:
        return [rgb_of_text(one if isinstance(one, str) else ",".join(map(str, one))) for one in colours]
    except (TypeError, ValueError):
        sentence = f'is {written!r}; a colour is [128, 0, 0] or "#800000"; several are a list of those.'
        raise PydanticCustomError("sentence", "{sentence}", {"sentence": sentence}) from None


def _bits_of(written: Any) -> int:
    """How many bits of 16 hold values. Raises ValueError."""
    if isinstance(written, int) and not isinstance(written, bool) and FEWEST_BITS <= written <= ALL_BITS:
        return written
    sentence = (
        f"is {written!r}; it is how many bits of 16-bit images hold values, a whole number from {FEWEST_BITS} to "
        f"{ALL_BITS}, as in `bits: 12` where they go from 0 to 4095."
    )
    raise PydanticCustomError("sentence", "{sentence}", {"sentence": sentence})


#: A value of a label file.
_Value = Annotated[int, Field(ge=0, le=VOID)]


class Part(BaseModel):
    """A part of a manifest: no key that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NameModel(Part):
    """A class: its name, and what the text encoder is asked for it."""

    name: str
    prompts: list[str] | None = Field(default=None, min_length=1)


class SplitSpec(Part):
    """Which images a split holds.

    list: name of a list of the layout, or an existing txt or npy file. into: the list that an npy of
    indices points into. images: the folder of this split's images, under the root. labels: that of its label files;
    annotations: COCO's json, likewise.
    """

    list: Text = ""
    into: Text = "train_aug"
    images: Text | None = None
    labels: Text | None = None
    annotations: Text | None = None


class TagsSpec(Part):
    """Where tags come from.

    file: the csv, npy or COCO json. separator: between the columns of a csv, between: between tags in one cell. image,
    columns, mask: the headings of its columns of image names, tags and label files.
    list: the list whose order the rows of an npy follow.
    difficult: whether VOC's flag 0 (present but difficult) counts as a tag. ignore: names that are no classes
    here and are passed over in silence.
    complete: whether what an image is not tagged with is known not to be on it, so that images without a tag of a
    step's classes are pictures without these classes, and not ones of which nothing is known.
    """

    kind: Literal["voc-main", "voc-xml", "masks", "csv", "npy", "coco", "folders"] = Field(alias="from")
    file: Text | None = None
    separator: Literal[",", ";", "\t", "|"] | None = None
    between: str | None = Field(default=None, min_length=1)
    image: str | None = None
    columns: tuple[str, ...] = ()
    mask: str | None = None
    list: str | None = None
    difficult: bool = True
    ignore: tuple[str, ...] = ()
    complete: bool = False


class GenerateSpec(Part):
    """How much built-in data is drawn, and its seed."""

    what: Literal["shapes"] = Field(alias="with")
    train: int = Field(ge=1, le=10_000_000)
    val: int = Field(default=0, ge=0, le=10_000_000)
    test: int = Field(default=0, ge=0, le=10_000_000)
    tune: int = Field(default=0, ge=0, le=10_000_000)
    seed: int = Field(default=0, ge=0, le=2**62)


class DataModel(Part):
    """A data set as it is written down. labels, images: folders under the root, None for the layout's own choice.

    bits: of images of 16 bits a channel those that hold values; see `read_image`.
    crowd: what COCO's annotations with iscrowd 1 are, None to decide it by image: see `layouts.coco`.
    values: what single values of label files are, a class by its name, `background` or `void`; over `names`.
    void: values of label files that are void, beside 255. reduce_zero_label: as mmsegmentation means it, value 0 is
    void and every other one the class of the value below. colors: the colours of RGB label files, by class name.
    """

    path: Text | None = None
    layout: Literal["voc", "coco", "folder"] = "voc"
    generate: GenerateSpec | None = None
    names: dict[int, NameModel] | None = None
    splits: dict[str, SplitSpec] | None = Field(default=None, min_length=1)
    tags: TagsSpec | None = None
    labels: Text | None = None
    images: Text | None = None
    bits: Annotated[int, BeforeValidator(_bits_of)] = ALL_BITS
    crowd: Literal["void", "mask"] | None = None
    values: dict[_Value, str] | None = None
    void: list[_Value] | None = None
    reduce_zero_label: bool = False
    colors: dict[str, Annotated[list[Rgb], BeforeValidator(_colours_of)]] | None = Field(default=None, min_length=1)


class DataSpec(DataModel):
    """A data set on disk.

    name: how steps and evaluations call it. root: its folder, absolute. base: the manifest's folder, which
    paths of lists may start from. file, key: the manifest and the key path of this data set in it, for
    errors.
    taxonomy: the manifest's classes. own: the data set's own (values in label files, names of tags).
    """

    splits: dict[str, SplitSpec]
    tags: TagsSpec
    name: str
    root: Path
    base: Path
    file: Path
    key: str
    taxonomy: Taxonomy
    own: Taxonomy

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

    @property
    def reading(self) -> dict[str, Any]:
        """What decides how images, labels and tags are read, for the digest; nothing where it is as always."""
        facts: dict[str, Any] = {
            "coco": ["large to small by drawn pixels", self.crowd] if self.layout == "coco" else None,
            "values": sorted(self.values.items()) if self.values else None,
            "void": sorted(set(self.void)) if self.void else None,
            "zero": self._meaning(self.own.class_names[0]) or None,
            "reduce_zero_label": self.reduce_zero_label or None,
            "colors": sorted(self.colors.items()) if self.colors else None,
            "labelmap": [list(row) for row in self.labelmap] or None,
            "bits": self.bits if self.bits != ALL_BITS else None,
            "table": [self.tags.between, self.tags.columns, self.tags.mask] if self._table_is_described else None,
            "complete": self.tags.complete or None,
        }
        return {name: fact for name, fact in facts.items() if fact is not None}

    @property
    def _table_is_described(self) -> bool:
        return bool(self.tags.between or self.tags.columns or self.tags.mask)

    @property
    def tags_are_labels(self) -> bool:
        """Whether the tags come from the pixel labels themselves, so that these hold no class more."""
        return self.tags.kind == "masks" or (self.tags.kind == "coco" and self.tags.file is None)

    @cached_property
    def label_table(self) -> LabelTable | ColourTable:
        """How this data set's label files become ids of the manifest's taxonomy, by class name."""
        written = {value: self._meant(word, f"values.{value}") for value, word in (self.values or {}).items()}
        written |= dict.fromkeys(self.void or (), VOID)
        by_value = LabelTable.of([*self._named_values().items(), *written.items()])
        if not self.colors and not self.labelmap:
            return by_value
        colours: dict[int, int | str] = {code_of(row.rgb): self._or_word(row.name) for row in self.labelmap}
        for word, several in (self.colors or {}).items():
            colours |= dict.fromkeys(map(code_of, several), self._meant(word, f"colors.{word}"))
        return ColourTable(
            colours=tuple((code, -1 if isinstance(known, str) else known) for code, known in colours.items()),
            by_value=by_value,
            written=tuple(written.items()),
            strangers=tuple((code, known) for code, known in colours.items() if isinstance(known, str)),
        )

    @property
    def _label_folders(self) -> tuple[str, ...]:
        return (*_LABEL_FOLDERS, self.labels or "", *(split.labels or "" for split in self.splits.values()))

    @cached_property
    def labelmap(self) -> tuple[LabelmapRow, ...]:
        """The rows of the data set's labelmap.txt; none where it has no such file, or the data are COCO's."""
        path = None if self.layout == "coco" else find_labelmap(self.root, self._label_folders)
        rows = () if path is None else read_labelmap(path)
        for value, row in enumerate(rows if self.own is not self.taxonomy else ()):
            name = self.own.class_names[value] if value < len(self.own.class_names) else None
            if name is not None and self._or_word(name) != self._or_word(row.name):
                raise ManifestError(
                    f"{self.at(f'names.{value}')}: is {name!r}, but row {value} of {path} (counted from 0) is "
                    f"{row.name!r}; leave `names` out here, since the file says them, or correct one of the two."
                )
        return rows

    def _named_values(self) -> dict[int, int]:
        """What values mean by the rows of labelmap.txt, else by `names`."""
        if self.labelmap and not self.reduce_zero_label:
            if meaning_of(self.labelmap[0].name) is None:
                return {}  # no row for background, so that nobody knows which row is value 0
            ids = {value: self._meaning(row.name) for value, row in enumerate(self.labelmap)}
            return {value: identity for value, identity in ids.items() if identity is not None}
        ids_by_place = {value: self._meant(name, f"names.{value}") for value, name in enumerate(self.own.class_names)}
        if not self.reduce_zero_label:
            return ids_by_place
        return {0: VOID, **{value + 1: identity for value, identity in ids_by_place.items() if value + 1 < VOID}}

    def _or_word(self, word: str) -> int | str:
        identity = self._meaning(word)
        return word if identity is None else identity

    @property
    def tag_names(self) -> tuple[str, ...]:
        """The data set's own names of classes, in its order: no background and no void."""
        return tuple(name for name in self.own.class_names if self._meaning(name) not in (BACKGROUND, VOID))

    def _meaning(self, word: str) -> int | None:
        """The id of a class of the manifest, BACKGROUND or VOID, by its name; None for a word that is none of them."""
        identity = self.taxonomy.find(word)
        return meaning_of(word) if identity is None else identity

    def _meant(self, word: str, key: str) -> int:
        identity = self._meaning(word)
        if identity is None:
            raise ManifestError(
                f"{self.at(key)}: {word!r} is not a class of "
                f"{self.taxonomy.name}{closest(word, (*self.taxonomy.class_names, 'void'))}."
            )
        return identity

    def ids_of(self, names: tuple[str, ...]) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """Taxonomy ids of tag names, ascending and once each, and the names that are no classes here."""
        ids = {name: self.taxonomy.find(name) for name in names if name not in self.tags.ignore}
        known = {identity for identity in ids.values() if identity}
        strange = [name for name, identity in ids.items() if identity is None]
        return tuple(sorted(known)), tuple(strange)
