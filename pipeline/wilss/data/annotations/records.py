"""What a file of an annotation tool says, whichever tool it is: images, and shapes of classes on them."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from wilss.data.annotations.runs import Mask
from wilss.errors import first_line

#: Whether a shape says which pixels are the class's, a box around it, or where a line on it runs.
Kind = Literal["mask", "box", "scribble"]

#: What people may say of a shape or an image, in any tool.
VERDICTS = ("accepted", "rejected")

#: What reading a file raises where a tool's own words are of another kind than the tool writes: null for a number, say.
_OTHER_WORDS = (TypeError, KeyError, AttributeError, IndexError, OverflowError, ValueError)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One shape. name: its class as the file has it.

    draw: how its reader draws it, for `drawn`. points: column and row of a line's points.
    verdict: what somebody said of it beside drawing it: "accepted" or "rejected".
    """

    name: str
    draw: Callable[[tuple[int, int]], Mask]
    kind: Kind = "mask"
    points: tuple[tuple[int, int], ...] = ()
    verdict: str | None = None

    def drawn(self, size: tuple[int, int]) -> Mask:
        """Its pixels, bool [H, W]. size: (height, width) of the upright image.

        Boxes are drawn filled. Raises ValueError for what cannot be drawn, which lines are, too; and ImageError.
        """
        try:
            return self.draw(size)
        except ValueError:
            raise
        except _OTHER_WORDS as error:
            raise ValueError(f"what it says of its pixels is not understood: {first_line(error)}") from None


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

    @classmethod
    def read(cls, name: str, reader: Callable[..., "AnnotatedImage"], *given: Any) -> "AnnotatedImage":
        """`reader(*given)`; the image `name` with a problem where that fails on what the tool does not write."""
        try:
            return reader(*given)
        except _OTHER_WORDS as error:
            problem = f"is not as the tool writes it: {first_line(error)}"
            return cls(name=name, size=None, shapes=(), problem=problem)


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """The images of a file, one after the other as they are read.

    form: which tool's file it is. is_flat: whether every pixel is of one class only, as in a label map.
    """

    form: str
    images: Iterator[AnnotatedImage]
    is_flat: bool = False


def verdict_of(said: Collection[str]) -> str | None:
    """The verdict among words that somebody gave; None where it is none of `VERDICTS`, or both."""
    found = [verdict for verdict in VERDICTS if verdict in said]
    return found[0] if len(found) == 1 else None


def size_of(height: Any, width: Any) -> tuple[int, int] | None:
    """(height, width) as a file has them; None where they are no numbers of pixels."""
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def time_of(text: str) -> datetime | None:
    """A time in ISO 8601, which is UTC where it does not say another zone; None where it is none."""
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def no_area(what: str, size: tuple[int, int]) -> Mask:
    """For shapes without an area of their own. Raises ValueError."""
    raise ValueError(f"it is a shape of the kind {what!r}, which does not say which pixels are the class's")
