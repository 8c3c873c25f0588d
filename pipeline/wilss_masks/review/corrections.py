"""`Correction`: what somebody says of one mask, as the page, the readers of other tools' files and `revise` take it."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from wilss.data.taxonomy import BACKGROUND, VOID
from wilss.errors import ImageError
from wilss.store.verdicts import VERDICTS, Verdict

#: When a correction was made, where its file does not say it.
TIME_UNKNOWN = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True, eq=False)
class Correction:
    """What somebody says of the mask of one class in one image.

    A later one takes the place of an earlier one, whole; but "accepted" after "corrected" leaves the correction.

    category: taxonomy id; VOID for the pixels that count for nothing, which can only be corrected.
    verdict: "unjudged" takes back all that was said before, but not what a revised store says itself.
    mask: bool [H, W], at the size of the image as a viewer shows it (EXIF applied), which is the store's; with
        "corrected" alone.
    tag: True where the image holds the class though it was not tagged with it, False where it does not though it was;
        None leaves the tag as it is, but for a mask, which brings its tag.
    author, origin: any text; origin is where it comes from ("page", "cvat", "labelstudio", ...).
    at: when, in UTC.

    Raises ImageError, naming the image, where these contradict each other.
    """

    image_id: str
    category: int
    verdict: Verdict
    mask: NDArray[np.bool_] | None = None
    tag: bool | None = None
    author: str
    at: datetime
    origin: str

    def __post_init__(self) -> None:
        if problem := self._problem():
            raise ImageError(f"{self.image_id!r}, class {self.category}: {problem}")

    def _problem(self) -> str | None:
        if self.verdict not in VERDICTS:
            return f"the verdict is {self.verdict!r}; known are {', '.join(VERDICTS)}."
        if not BACKGROUND < self.category <= VOID:
            return f"a class has a number from 1 to {VOID - 1}, or {VOID} for void."
        if self.category == VOID and (self.tag is not None or self.verdict in ("accepted", "rejected")):
            return "void has no tag and is not judged; it can only be corrected."
        if self.at.tzinfo is None:
            return "the time has no time zone; give it in UTC."
        if self.mask is not None and (self.mask.ndim != 2 or self.mask.dtype != np.bool_):
            return f"the mask is {self.mask.dtype} {list(self.mask.shape)}; give booleans [height, width]."
        if self.verdict != "corrected" and (self.mask is not None or self.tag is not None):
            return f"it is {self.verdict}, and brings a mask or tag; a new mask or tag is a correction."
        if self.verdict == "corrected" and self.mask is None and self.tag is None:
            return "it is corrected without a mask or tag; give one."
        if self.tag is False and self.mask is not None:
            return "it brings a mask of a class that the image is said not to hold; leave one of them out."
        return None
