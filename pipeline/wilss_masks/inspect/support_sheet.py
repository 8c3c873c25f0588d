"""A sheet of supports: a row per class, a picture per support, so that a person sees what was annotated."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wilss.data.images import read_image
from wilss.data.supports.maps import BACKGROUND, FOREGROUND
from wilss.data.supports.reading import Support, SupportSet
from wilss.drawing import font, words
from wilss.errors import counted

from . import drawing
from .page import INK, PAPER, SOFT_INK, cell_for, class_colour, cut_text, fitted

_MARGIN, _GAP, _CAPTION, _NOTE, _HEADER = 28, 10, 150, 24, 62
_SUPERSAMPLING = 2
_TINT, _GREY = 0.45, 0.75
_BACKGROUND_LINE = (235, 235, 240)
#: What covers less than this share of the picture was drawn as a line, and is shown as one, thick enough to be seen.
_THIN = 0.1
_LINE_GROWTH = 2


def draw_supports_page(supports: SupportSet, cell_width: int = 220) -> Image.Image:
    """The sheet as an RGB picture. The class is coloured, its background grey; what is unknown keeps its colours.

    Every map must be readable, see `problems_of`.
    """
    rows = [(identity, name, supports.of(identity)) for identity, name in supports.classes.items()]
    cell = cell_for((support.map.shape for support in supports.supports), cell_width)
    columns = max(1, *(len(row) for _, _, row in rows))
    width = 2 * _MARGIN + _CAPTION + columns * (cell[1] + _GAP) - _GAP
    canvas = Image.new("RGB", (width, _MARGIN + _HEADER + len(rows) * (cell[0] + _NOTE + _GAP) + _MARGIN), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((_MARGIN, _MARGIN), cut_text(supports.title, font(15), width - 2 * _MARGIN), font=font(15), fill=INK)
    legend = "coloured: the class, grey: its background, as it is: unknown"
    draw.text((_MARGIN, _MARGIN + 22), cut_text(legend, font(13), width - 2 * _MARGIN), font=font(13), fill=SOFT_INK)
    for number, (identity, name, row) in enumerate(rows):
        top = _MARGIN + _HEADER + number * (cell[0] + _NOTE + _GAP)
        shown, letters = words(name, 17, bold=True)
        draw.text((_MARGIN, top), cut_text(shown, letters, _CAPTION - _GAP), font=letters, fill=INK)
        draw.text((_MARGIN, top + 24), _counted(row), font=font(13), fill=SOFT_INK)
        for column, support in enumerate(row):
            left = _MARGIN + _CAPTION + column * (cell[1] + _GAP)
            canvas.paste(_panel(support, cell, class_colour(identity)), (left, top))
            note, letters = words(f"{support.spec.kind}, {support.spec.image_id}", 13)
            draw.text((left, top + cell[0] + 4), cut_text(note, letters, cell[1]), font=letters, fill=SOFT_INK)
    return canvas


def _panel(support: Support, cell: tuple[int, int], colour: drawing.Colour) -> Image.Image:
    """One picture, drawn larger and scaled down, so that lines are smooth."""
    image, regions = read_image(support.record.path, support.record.bits), support.map
    height, width = (side * _SUPERSAMPLING for side in fitted(image.shape, cell))
    base = drawing.picture(image, (height, width))
    nearest = Image.fromarray(regions).resize((width, height), Image.Resampling.NEAREST)
    return Image.fromarray(_annotated(base, np.asarray(nearest), colour)).reduce(_SUPERSAMPLING)


def _annotated(base: NDArray[np.uint8], regions: NDArray[np.uint8], colour: drawing.Colour) -> NDArray[np.uint8]:
    """base: uint8 [h, w, 3]; found: a support map [h, w]."""
    inside, outside = _shown(regions == FOREGROUND), _shown(regions == BACKGROUND)
    mixed = base.astype(np.float32)
    if outside.mean() >= _THIN:
        mixed[outside] = _GREY * mixed[outside].mean(axis=1, keepdims=True) + (1 - _GREY) * 128
    mixed[inside] = _TINT * np.array(colour, np.float32) + (1 - _TINT) * mixed[inside]
    drawn = mixed.round().astype(np.uint8)
    if outside.mean() < _THIN:
        drawn = drawing.contour(drawn, outside, _BACKGROUND_LINE, line=4)
    return drawing.contour(drawn, inside, colour, line=4)


def _shown(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """`region` [h, w]; a thin one grown, so that a pixel's line is seen."""
    if region.mean() >= _THIN / 4:
        return region
    return drawing.grown(region, _LINE_GROWTH)


def _counted(row: Sequence[Support]) -> str:
    return counted(len(row), "support")
