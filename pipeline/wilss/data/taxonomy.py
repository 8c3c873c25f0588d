"""Class names and their ids, and the two taxonomies of the field.

An id is a place in `Taxonomy.class_names`: 0 is background, 255 is void (a pixel nobody labelled). How ids
become the channels of a network is the protocol's business alone.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from wilss.data.names import composed
from wilss.errors import ManifestError

BACKGROUND = 0
VOID = 255

_BACKGROUND_WORDS = frozenset({"background", "bg", "none", "nothing", "other", "others", "rest"})
_VOID_WORDS = frozenset(
    {
        "void",
        "ignore",
        "ignored",
        "ignorelabel",
        "unlabeled",
        "unlabelled",
        "unknown",
        "undefined",
        "dontcare",
        "boundary",
    }
)
#: Words of the two that may be a class as well, of which people have pictures.
_PERHAPS_CLASSES = frozenset({"none", "nothing", "other", "others", "rest", "unknown", "undefined", "boundary"})

#: Names that mean the same class in VOC and in COCO.
_SAME = (
    ("aeroplane", "airplane"),
    ("diningtable", "dining table"),
    ("motorbike", "motorcycle"),
    ("pottedplant", "potted plant"),
    ("sofa", "couch"),
    ("tvmonitor", "tv", "tv monitor"),
)


@dataclass(frozen=True, kw_only=True)
class Taxonomy:
    """The classes that a data set tells apart.

    class_names: name of every id, index = id; the first is background. At most 255 names, all different.
    Raises ManifestError where that does not hold.
    """

    name: str
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse names that could not be told apart."""
        if len(self.class_names) < 2 or len(self.class_names) > VOID:
            raise ManifestError(
                f"{self.name} has {len(self.class_names)} names with background; name 1 to {VOID - 1} classes."
            )
        blank = [i for i, name in enumerate(self.class_names) if not name.strip()]
        if blank:
            raise ManifestError(f"class {blank[0]} of {self.name} has no name; give it one.")
        twice = sorted({name for name in self.class_names if self.class_names.count(name) > 1})
        if twice:
            raise ManifestError(f"{self.name} names {twice[0]!r} twice; each class needs a name of its own.")

    def name_of(self, identity: int) -> str:
        """The name of an id; VOID and ids beyond the last are refused."""
        if not 0 <= identity < len(self.class_names):
            last = len(self.class_names) - 1
            raise ManifestError(f"{identity} is not a class of {self.name}; its ids are 0 to {last}.")
        return self.class_names[identity]

    def find(self, name: str) -> int | None:
        """The id of a class by its own name or by the name that VOC or COCO gives it; None if there is none."""
        return self._ids.get(name, self._ids_by_key.get(same_class(name)))

    @property
    def class_ids(self) -> tuple[int, ...]:
        """All ids but background."""
        return tuple(range(1, len(self.class_names)))

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {name: identity for identity, name in enumerate(self.class_names)}

    @cached_property
    def _ids_by_key(self) -> dict[str, int]:
        return {same_class(name): identity for identity, name in reversed(list(enumerate(self.class_names)))}


def same_class(name: str) -> str:
    """One spelling for all names of a class: case, blanks, `_` and `-` aside, and VOC's names for COCO's."""
    plain = _plain(name)
    return _FIRST_NAMES.get(plain, plain)


def meaning_of(word: str) -> int | None:
    """BACKGROUND or VOID for the words that data sets have for them (`_background_`, `__ignore__`); None for a name."""
    plain = _letters(word)
    return BACKGROUND if plain in _BACKGROUND_WORDS else VOID if plain in _VOID_WORDS else None


def may_be_class(word: str) -> bool:
    """Whether a word that `meaning_of` has for background or void may be the name of a class: `other`, `unknown`."""
    return _letters(word) in _PERHAPS_CLASSES


def closest(name: str, known: Iterable[str], *, or_all: bool = True) -> str:
    """The words "; did you mean ..." for a misspelt name, else which names there are; without a full stop.

    or_all: False for nothing instead, of names too many to be of use.
    """
    names = [str(one) for one in known]
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}"
    if not or_all:
        return ""
    listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"; there are {listed}" if names else ""


def _letters(word: str) -> str:
    return "".join(letter for letter in word.casefold() if letter.isalnum())


def _plain(name: str) -> str:
    return "".join(letter for letter in composed(name).casefold() if letter not in " _-")


_FIRST_NAMES = {_plain(name): _plain(names[0]) for names in _SAME for name in names}

VOC = Taxonomy(
    name="voc",
    class_names=(
        "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
        "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
    ),
)  # fmt: skip

COCO = Taxonomy(
    name="coco",
    class_names=(
        "background", "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
        "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse",
        "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie",
        "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove",
        "skateboard", "surfboard", "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon",
        "bowl", "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut",
        "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse",
        "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book",
        "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
    ),
)  # fmt: skip

#: COCO's own category ids leave gaps: the id in its json files of taxonomy id i is COCO_CATEGORY_IDS[i] (0
#: for background).
COCO_CATEGORY_IDS: tuple[int, ...] = (
    0,
    *(i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)),
)


def voc_palette() -> list[int]:
    """VOC's colour map, 256 x RGB in one list: an id's bits are dealt to the channels, low bits high."""
    return [
        sum((identity >> (3 * level + channel) & 1) << (7 - level) for level in range(8))
        for identity in range(256)
        for channel in range(3)
    ]
