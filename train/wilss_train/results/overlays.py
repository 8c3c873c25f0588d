"""Label maps drawn for people: class colours over the image, outlined, with the names of the classes."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wilss.data.taxonomy import BACKGROUND, VOID
from wilss.drawing import borders, class_colours, words

_COLOUR_SHARE = 0.5
_INK, _PAPER = (20, 20, 24), (255, 255, 255)


def draw_overlay(image: NDArray[np.uint8], labels: NDArray[np.uint8], names: Mapping[int, str]) -> NDArray[np.uint8]:
    """`labels` uint8 [H, W] over `image` uint8 [H, W, 3], in the image's own size.

    Background stays as it is. names: what the key in the upper left corner calls the ids that are there.
    """
    drawn = image.copy()
    shown = (labels != BACKGROUND) & (labels != VOID)
    mixed = _COLOUR_SHARE * class_colours()[labels[shown]] + (1 - _COLOUR_SHARE) * image[shown]
    drawn[shown] = mixed.round().astype(np.uint8)
    drawn[borders(labels)] = _PAPER
    present = [identity for identity in np.unique(labels[shown]).tolist() if identity in names]
    return _with_key(drawn, {identity: names[identity] for identity in present})


def _with_key(drawn: NDArray[np.uint8], names: Mapping[int, str]) -> NDArray[np.uint8]:
    """Swatch and name per class; those that do not fit below one another are left out."""
    picture = Image.fromarray(drawn)
    pen = ImageDraw.Draw(picture)
    size = max(9, min(drawn.shape[:2]) // 24)
    for row, (identity, name) in enumerate(names.items()):
        top, high = 4 + row * (size + 6), size + 4
        if top + high > drawn.shape[0]:
            break
        red, green, blue = class_colours()[identity].tolist()
        shown, letters = words(name, size)
        wide = high + round(letters.getlength(shown)) + 4
        pen.rectangle((4, top, 4 + wide, top + high), fill=_PAPER)
        pen.rectangle((6, top + 2, 2 + high, top + high - 2), fill=(red, green, blue))
        pen.text((6 + high, top + high / 2), shown, font=letters, fill=_INK, anchor="lm")
    return np.array(picture)
