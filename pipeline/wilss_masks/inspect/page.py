"""The page of a contact sheet: panels in equal cells, a header, and a caption beside every row."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from wilss.drawing import class_colours, font, words

from . import drawing
from .sheet import Row, Sheet, Truth

INK, SOFT_INK, _RULE, PAPER = (28, 30, 36), (112, 116, 126), (222, 224, 230), (255, 255, 255)
_SCORE_MAP, _ATTENTION_MAP = "viridis", "magma"
_SUPERSAMPLING = 2
_MARGIN, _GAP, _CAPTION, _HEADER = 28, 10, 208, 92
_FACTS_TOP, _FACT = 54, 21
_TITLES = {
    "image": ("Image", ""),
    "before": ("Before", "the present setting"),
    "mask": ("Mask", ""),
    "truth": ("Pixel label", "white: void"),
}


@dataclass(frozen=True, kw_only=True)
class _Page:
    """Sizes in pixels: a cell's (height, width), a row's height; which columns there are, and how they are headed."""

    cell: tuple[int, int]
    row: int
    columns: tuple[str, ...]
    titles: Mapping[str, tuple[str, str]]

    @property
    def width(self) -> int:
        return 2 * _MARGIN + _CAPTION + len(self.columns) * (self.cell[1] + _GAP)

    def left(self, column: int) -> int:
        return _MARGIN + _CAPTION + _GAP + column * (self.cell[1] + _GAP)

    def top(self, row: int) -> int:
        return _MARGIN + _HEADER + row * (self.row + _GAP)

    def height(self, rows: int) -> int:
        return self.top(rows) - _GAP + _MARGIN


def draw_page(sheet: Sheet, cell_width: int = 280) -> Image.Image:
    """The sheet as an RGB picture.

    cell_width: of one panel in pixels; its height follows from the images' own shapes.
    """
    cell = cell_for((row.image.shape for row in sheet.rows), cell_width)
    caption = _FACTS_TOP + _FACT * max(len(_facts(row)) for row in sheet.rows)
    page = _Page(cell=cell, row=max(cell[0], caption), columns=_columns(sheet.rows), titles=_titles(sheet))
    canvas = Image.new("RGB", (page.width, page.height(len(sheet.rows))), PAPER)
    draw = ImageDraw.Draw(canvas)
    _draw_header(canvas, draw, page, sheet.title)
    for number, row in enumerate(sheet.rows):
        _draw_caption(draw, page, number, row)
        for column, kind in enumerate(page.columns):
            _draw_cell(canvas, draw, page, (number, column), _panel(row, kind, page.cell))
    return canvas


def _columns(rows: tuple[Row, ...]) -> tuple[str, ...]:
    kept = [row.soft for row in rows if row.soft is not None]
    attention = ("attention",) if any(maps.attention is not None for maps in kept) else ()
    soft = ("score", *attention) if kept else ()
    truth = ("truth",) if any(row.truth is not None for row in rows) else ()
    before = ("before",) if any(row.before is not None for row in rows) else ()
    return ("image", *soft, *before, "mask", *truth)


def _titles(sheet: Sheet) -> Mapping[str, tuple[str, str]]:
    """Heading and note of every column."""
    maps = {} if sheet.maps is None else {"score": sheet.maps.score, "attention": sheet.maps.attention}
    return {**_TITLES, **{kind: (shown.heading, shown.note) for kind, shown in maps.items() if shown is not None}}


def cell_for(shapes: Iterable[tuple[int, ...]], width: int) -> tuple[int, int]:
    """Cells take the median shape of the images, within bounds, so that little paper stays white."""
    shape = median([shape[0] / shape[1] for shape in shapes] or [1.0])
    return round(width * min(max(shape, 0.6), 1.15)), width


def class_colour(identity: int) -> drawing.Colour:
    """The colour of a taxonomy id."""
    red, green, blue = class_colours()[identity].tolist()
    return red, green, blue


def _panel(row: Row, kind: str, cell: tuple[int, int]) -> NDArray[np.uint8] | None:
    """One panel, not larger than the cell; drawn larger and scaled down, so that lines are smooth."""
    height, width = fitted(row.image.shape[:2], cell)
    size = height * _SUPERSAMPLING, width * _SUPERSAMPLING
    large = _draw_panel(row, kind, drawing.picture(row.image, size))
    if large is None:
        return None
    return np.asarray(Image.fromarray(large).reduce(_SUPERSAMPLING))


def _draw_panel(row: Row, kind: str, base: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    size, colour = base.shape[:2], class_colour(row.identity)
    if kind == "image":
        return base
    if kind in ("mask", "before"):
        mask = row.mask if kind == "mask" else row.before
        return None if mask is None else drawing.overlay(base, drawing.resized_mask(mask, size), colour)
    if kind == "truth":
        return None if row.truth is None else _draw_truth(row.truth, base, colour)
    if row.soft is None:
        return None
    if kind == "score":
        return drawing.heat(base, row.soft.score, row.soft.score_cut, _SCORE_MAP)
    if row.soft.attention is None or row.soft.seeds is None:
        return None
    drawn = drawing.heat(base, row.soft.attention, row.soft.attention_cut, _ATTENTION_MAP)
    points = row.soft.seeds[(row.soft.seeds >= 0).all(axis=1)]
    return drawing.with_dots(drawn, points, row.soft.score.shape, radius=5)


def _draw_truth(truth: Truth, base: NDArray[np.uint8], colour: drawing.Colour) -> NDArray[np.uint8]:
    inside, unknown = (drawing.resized_mask(m, base.shape[:2]) for m in (truth.inside, truth.unknown))
    return drawing.overlay(base, inside, colour, unknown=unknown)


def fitted(shape: tuple[int, ...], cell: tuple[int, int]) -> tuple[int, int]:
    """The largest (height, width) of that shape in the cell; a very thin image keeps a pixel."""
    scale = min(cell[0] / shape[0], cell[1] / shape[1])
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _draw_cell(
    canvas: Image.Image,
    draw: ImageDraw.ImageDraw,
    page: _Page,
    place: tuple[int, int],
    panel: NDArray[np.uint8] | None,
) -> None:
    top, left = page.top(place[0]), page.left(place[1])
    if panel is None:
        middle = (left + page.cell[1] / 2, top + page.cell[0] / 2)
        draw.text(middle, "none", font=font(15), fill=SOFT_INK, anchor="mm")
        return
    canvas.paste(Image.fromarray(panel), (left, top))


def _draw_header(canvas: Image.Image, draw: ImageDraw.ImageDraw, page: _Page, title: str) -> None:
    draw.text((_MARGIN, _MARGIN), title, font=font(17, bold=True), fill=INK, anchor="lt")
    base = _MARGIN + _HEADER - 16
    for column, kind in enumerate(page.columns):
        heading, note = page.titles[kind]
        left = page.left(column)
        draw.text((left, base - 22), heading, font=font(17, bold=True), fill=INK, anchor="ls")
        if note:
            draw.text((left, base - 3), note, font=font(13), fill=SOFT_INK, anchor="ls")
        if kind in ("score", "attention"):
            _draw_bar(canvas, draw, (left + page.cell[1], base - 34), kind)


def _draw_bar(canvas: Image.Image, draw: ImageDraw.ImageDraw, right_top: tuple[int, int], kind: str) -> None:
    """A small scale from 0 to 1, right-aligned above the column."""
    right, top = right_top[0] - 26, right_top[1]
    bar = drawing.colour_bar(_ATTENTION_MAP if kind == "attention" else _SCORE_MAP, (11, 64))
    canvas.paste(Image.fromarray(bar), (right - 64, top))
    draw.text((right - 70, top + 11), "0", font=font(13), fill=SOFT_INK, anchor="rs")
    draw.text((right + 5, top + 11), "1", font=font(13), fill=SOFT_INK, anchor="ls")


def _draw_caption(draw: ImageDraw.ImageDraw, page: _Page, number: int, row: Row) -> None:
    top = page.top(number)
    if number:
        draw.line([(_MARGIN, top - _GAP / 2), (_MARGIN + _CAPTION - _GAP, top - _GAP / 2)], fill=_RULE)
    colour = class_colour(row.identity)
    draw.rounded_rectangle([_MARGIN, top + 5, _MARGIN + 13, top + 18], radius=3, fill=colour)
    name, letters = words(row.name, 17, bold=True)
    draw.text((_MARGIN + 21, top + 3), cut_text(name, letters, _CAPTION - 31), font=letters, fill=INK, anchor="la")
    image, letters = words(row.image_id, 13)
    draw.text((_MARGIN, top + 28), cut_text(image, letters, _CAPTION - 10), font=letters, fill=SOFT_INK)
    for line, (what, value) in enumerate(_facts(row)):
        y = top + _FACTS_TOP + _FACT * line
        draw.text((_MARGIN, y), what, font=font(14), fill=SOFT_INK)
        draw.text((_MARGIN + 150, y), value, font=font(14), fill=INK, anchor="ra")


def _facts(row: Row) -> list[tuple[str, str]]:
    """Label and value per line, without those that are not known."""
    facts = [("confidence", row.confidence), ("agreement", row.agreement), ("IoU with label", row.iou)]
    if row.before is not None and row.truth is not None:
        facts.append(("IoU before", row.truth.iou(row.before)))
    lines = [(what, f"{value:.2f}") for what, value in facts if value == value]
    lines.append(("area", f"{100 * row.share:.1f} %"))
    return [*lines, ("M_init was empty", "")] if row.fell_back else lines


def cut_text(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """`text`, with its middle left out where it is wider than `width` pixels."""
    keep = len(text)
    shown = text
    while keep > 2 and font.getlength(shown) > width:
        keep -= 1
        shown = f"{text[: keep // 2]}…{text[len(text) - (keep - keep // 2) :]}"
    return shown
