"""The page of a sheet of stages: a row per image, a column per stage, all classes in their colours."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wilss.drawing import font, words

from . import drawing
from .maps_shown import Shown
from .page import INK, PAPER, SOFT_INK, cell_for, class_colour, cut_text, fitted
from .stages_sheet import StagesRow, StagesSheet

_MARGIN, _GAP, _CAPTION, _HEADER, _NOTE = 28, 10, 176, 84, 22
_SUPERSAMPLING = 2
#: Evidence is drawn up to so much; 1 is the cut.
_MOST_EVIDENCE = 3.0
#: Sureness below this is drawn as nothing: a label is the stronger of two.
_LEAST_SURE = 0.5
_FIRST = {"image": ("Image", ""), "score": ("Score", ""), "evidence": ("Evidence", "outline: 1")}
_LAST = {"sureness": ("Sureness", "0.5 to 1"), "labels": ("Masks", "white: void"), "truth": ("Pixel label", "")}
_TITLES = {
    "compete": ("Compete", "greatest evidence"),
    "overlap": ("Cut", "each tag alone"),
    "felzenszwalb": ("Regions", "felzenszwalb"),
    "slic": ("Regions", "slic"),
    "file": ("Regions", "of a file"),
    "pamr": ("PAMR", "boundaries"),
    "guided": ("Guided", "boundaries"),
}


def draw_stages_page(sheet: StagesSheet, cell_width: int = 200) -> Image.Image:
    """The sheet as an RGB picture. cell_width: of one panel in pixels."""
    cell = cell_for((row.image.shape for row in sheet.rows), cell_width)
    columns = _columns(sheet)
    width = 2 * _MARGIN + _CAPTION + len(columns) * (cell[1] + _GAP) - _GAP
    height = _MARGIN + _HEADER + len(sheet.rows) * (cell[0] + _NOTE + _GAP) - _GAP + _MARGIN
    canvas = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((_MARGIN, _MARGIN), cut_text(sheet.title, font(17, bold=True), width - 2 * _MARGIN),
              font=font(17, bold=True), fill=INK, anchor="lt")  # fmt: skip
    for place, kind in enumerate(columns):
        _draw_heading(draw, _left(place, cell), kind, sheet.score)
    for number, row in enumerate(sheet.rows):
        top = _MARGIN + _HEADER + number * (cell[0] + _NOTE + _GAP)
        _draw_caption(draw, top, row)
        for place, kind in enumerate(columns):
            _draw_cell(canvas, draw, (_left(place, cell), top), cell, row, kind)
    return canvas


def _columns(sheet: StagesSheet) -> tuple[str, ...]:
    steps = dict.fromkeys(name for row in sheet.rows for name in row.steps)
    truth = ("truth",) if any(row.truth is not None for row in sheet.rows) else ()
    return (*_FIRST, *steps, "sureness", "labels", *truth)


def _left(column: int, cell: tuple[int, int]) -> int:
    return _MARGIN + _CAPTION + column * (cell[1] + _GAP)


def _draw_heading(draw: ImageDraw.ImageDraw, left: int, kind: str, score: Shown) -> None:
    titles = {**_FIRST, **_TITLES, **_LAST, "score": (score.heading, score.note)}
    heading, note = titles.get(kind, (kind.capitalize(), ""))
    base = _MARGIN + _HEADER - 16
    draw.text((left, base - 20), heading, font=font(16, bold=True), fill=INK, anchor="ls")
    draw.text((left, base), note, font=font(13), fill=SOFT_INK, anchor="ls")


def _draw_caption(draw: ImageDraw.ImageDraw, top: int, row: StagesRow) -> None:
    image, letters = words(row.image_id, 14, bold=True)
    draw.text((_MARGIN, top), cut_text(image, letters, _CAPTION - _GAP), font=letters, fill=INK)
    for number, (identity, name) in enumerate(row.names.items()):
        y = top + 26 + 20 * number
        draw.rounded_rectangle([_MARGIN, y + 2, _MARGIN + 12, y + 14], radius=3, fill=class_colour(identity))
        shown, letters = words(name, 14)
        draw.text((_MARGIN + 19, y), cut_text(shown, letters, _CAPTION - 30), font=letters, fill=SOFT_INK)


def _draw_cell(
    canvas: Image.Image,
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    cell: tuple[int, int],
    row: StagesRow,
    kind: str,
) -> None:
    """A panel, and below it how near its labels are to the pixel label."""
    height, width = fitted(row.image.shape[:2], cell)
    base = drawing.picture(row.image, (height * _SUPERSAMPLING, width * _SUPERSAMPLING))
    canvas.paste(Image.fromarray(_panel(row, kind, base)).reduce(_SUPERSAMPLING), place)
    labels = row.labels if kind == "labels" else row.steps.get(kind)
    iou = float("nan") if labels is None else row.iou(labels)
    if iou == iou:
        draw.text((place[0], place[1] + height + 4), f"IoU {iou:.2f}", font=font(13), fill=SOFT_INK)


def _panel(row: StagesRow, kind: str, base: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if kind == "image":
        return base
    if kind == "score":
        return drawing.heat(base, row.score, row.score_cut, "viridis")
    if kind == "evidence":
        return drawing.heat(base, row.evidence / _MOST_EVIDENCE, 1 / _MOST_EVIDENCE, "magma")
    if kind == "sureness":
        return drawing.heat(base, (row.sureness - _LEAST_SURE) / (1 - _LEAST_SURE), 2.0, "cividis")
    labels = {"labels": row.labels, "truth": row.truth}.get(kind, row.steps.get(kind))
    return base if labels is None else drawing.label_overlay(base, labels)
