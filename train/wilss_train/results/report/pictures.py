"""Twelve images of the split: which, and how they are shown."""

import base64
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wilss.data.taxonomy import BACKGROUND, VOID
from wilss.drawing import borders, class_colours, encoded
from wilss.randomness import seed_for

#: How many a report shows.
PICTURES = 12
_LONGEST_SIDE = 340
_QUALITY = 80
_FILL, _EDGE, _VOID_FILL = 150, 255, 200

Labels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image uint8 [H, W, 3] and its label maps uint8 [H, W] of taxonomy ids.

    truth: VOID where nobody labelled, None without pixel labels. old: what the old model said, None without one.
    """

    image_id: str
    image: NDArray[np.uint8]
    predicted: Labels
    truth: Labels | None = None
    old: Labels | None = None


def choose_images(
    classes: Mapping[str, Collection[int]], *, new: Collection[int], old: Collection[int] = (), seed: int = 0
) -> tuple[str, ...]:
    """Up to `PICTURES` image ids that show as many new classes as can be, then as many old ones.

    classes: image id -> taxonomy ids that it holds. Each next image is the one with most new classes not shown yet,
    then most old ones; once all are shown it begins again. Among equals a draw named by the image decides, so the
    choice depends on the images and the seed alone, not on their order.
    """
    waiting = sorted(classes, key=lambda name: (seed_for(seed, "report", name), name))
    wanted, chosen = (set(new), set(old)), list[str]()
    missing = tuple(set(ids) for ids in wanted)
    while waiting and len(chosen) < PICTURES:
        if not any(ids & set(classes[name]) for ids in missing for name in waiting):
            missing = tuple(set(ids) for ids in wanted)
        best = max(waiting, key=lambda name: [len(ids & set(classes[name])) for ids in missing])  # the first of equals
        waiting.remove(best)
        chosen.append(best)
        missing = tuple(ids - set(classes[best]) for ids in missing)
    return tuple(chosen)


def only_seen(labels: Labels, seen: Collection[int]) -> Labels:
    """`labels` with classes that are not in `seen` as background, as the evaluation counts them; VOID stays."""
    table = np.zeros(256, np.uint8)
    kept = [*seen, VOID]
    table[kept] = kept
    return table[labels]


def agreement(truth: Labels, predicted: Labels) -> float | None:
    """Mean IoU over the classes that are in either map of one image, background left out; None if there are none."""
    counted = truth != VOID
    truth, predicted = truth[counted], predicted[counted]
    ids = sorted({*np.unique(truth).tolist(), *np.unique(predicted).tolist()} - {BACKGROUND})
    ious = [((truth == i) & (predicted == i)).sum() / ((truth == i) | (predicted == i)).sum() for i in ids]
    return float(np.mean(ious)) if ious else None


def shown_size(image: NDArray[np.uint8]) -> tuple[int, int]:
    """(width, height) at which an image goes into the page; small ones are not made larger."""
    height, width = image.shape[:2]
    scale = min(1.0, _LONGEST_SIDE / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def photo_uri(image: NDArray[np.uint8]) -> str:
    """The image as a data URI, JPEG."""
    shown = Image.fromarray(image).resize(shown_size(image), Image.Resampling.LANCZOS)
    return _data_uri(shown, "jpeg", quality=_QUALITY, optimize=True)


def labels_uri(labels: Labels, size: tuple[int, int]) -> str:
    """A label map as a data URI, a palette PNG of `size` (width, height) to be laid over the photo.

    Classes have their colours, translucent with a firm edge; background is clear and VOID whitened.
    """
    shown = np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))
    ids = [int(i) for i in np.unique(shown) if i not in (BACKGROUND, VOID)]
    ids = ids[:120]  # a palette has room for 256 colours, and a class takes two
    indices = np.zeros(256, np.uint8)
    indices[ids], indices[VOID] = np.arange(1, len(ids) + 1), 2 * len(ids) + 1
    edged = indices[shown]
    edge = borders(shown) & (edged > 0) & (shown != VOID)
    edged = np.where(edge, edged + len(ids), edged).astype(np.uint8)
    drawn = Image.fromarray(edged)
    drawn.putpalette(_colours(ids))
    alpha = [0, *[_FILL] * len(ids), *[_EDGE] * len(ids), _VOID_FILL]
    return _data_uri(drawn, "png", transparency=bytes(alpha), optimize=True)


def colour_of(identity: int) -> str:
    """The colour of a taxonomy id, as CSS writes it."""
    red, green, blue = class_colours()[identity].tolist()
    return f"#{red:02x}{green:02x}{blue:02x}"


def _colours(ids: Sequence[int]) -> list[int]:
    classes = class_colours()[list(ids)].ravel().tolist()
    return [0, 0, 0, *classes, *classes, 255, 255, 255]


def _data_uri(picture: Image.Image, form: str, **options: object) -> str:
    return f"data:image/{form};base64,{base64.b64encode(encoded(picture, form, **options)).decode()}"
