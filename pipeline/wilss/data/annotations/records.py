"""What a file of an annotation tool says, whichever tool it is: images, and shapes of classes on them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from wilss.data.annotations.runs import Mask

#: Whether a shape says which pixels are the class's, a box around it, or where a line on it runs.
Kind = Literal["mask", "box", "scribble"]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One shape. name: its class as the file has it.

    draw: (height, width) of the upright image -> its pixels, bool [H, W]; raises ValueError for what cannot be drawn,
    and ImageError. Boxes are drawn filled, lines as no pixel. points: column and row of a line's points.
    verdict: what somebody said of it beside drawing it: "accepted" or "rejected".
    """

    name: str
    draw: Callable[[tuple[int, int]], Mask]
    kind: Kind = "mask"
    points: tuple[tuple[int, int], ...] = ()
    verdict: str | None = None


@dataclass(frozen=True, kw_only=True)
class AnnotatedImage:
    """One image of a file.

    name: as the file calls it, with folders; image_id: our own id, where the file has kept it. size: (height, width),
    None where the file does not say it. known: the classes that the file could have shapes of; None for all.
    is_judged: whether somebody said that the image is done. verdict: what somebody said of all its masks.
    problem: why its shapes cannot be used, as the end of a sentence.
    """

    name: str
    size: tuple[int, int] | None
    shapes: tuple[Shape, ...]
    image_id: str | None = None
    known: frozenset[str] | None = None
    is_judged: bool = False
    verdict: str | None = None
    author: str = ""
    at: datetime | None = None
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """The images of a file, one after the other as they are read.

    form: which tool's file it is. is_flat: whether every pixel is of one class only, as in a label map.
    """

    form: str
    images: Iterator[AnnotatedImage]
    is_flat: bool = False
