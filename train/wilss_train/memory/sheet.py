"""A bank as a picture: a row per class, its first instances cut out on a checkerboard."""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from wilss.drawing import font, words
from wilss.errors import OneImageError, StoreError

from .bank import MemoryBank
from .writing import Instance, InstanceInfo

_INK, _SOFT_INK, _RULE, _PAPER = (28, 30, 36), (112, 116, 126), (222, 224, 230), (255, 255, 255)
_BOARD = (250, 250, 252), (231, 233, 238)
#: Bright, told apart from ink also by the colour-blind (Okabe and Ito).
_WEAK = (230, 130, 0)
_MARGIN, _GAP, _CAPTION, _HEADER, _SQUARE, _PAD = 28, 8, 168, 76, 8, 6
#: A tiny instance is shown larger, but not so much that nobody sees how little of it there is.
_MOST_GROWTH = 3.0


@dataclass(frozen=True, kw_only=True)
class _Page:
    """Sizes in pixels: cell is the side of a square; rows, columns count cells."""

    cell: int
    rows: int
    columns: int

    @property
    def size(self) -> tuple[int, int]:
        return self.left(self.columns) - _GAP + _MARGIN, self.top(self.rows) - _GAP + _MARGIN

    def left(self, column: int) -> int:
        return _MARGIN + _CAPTION + column * (self.cell + _GAP)

    def top(self, row: int) -> int:
        return _MARGIN + _HEADER + row * (self.cell + _GAP)


class Sheet(NamedTuple):
    """A bank as an RGB picture. failed: the instances that could not be read, and why; their squares are empty."""

    picture: Image.Image
    failed: dict[str, str]


def draw_sheet(bank: MemoryBank, *, count: int = 12, cell: int = 96) -> Sheet:
    """The first `count` instances of every class of a bank, by priority.

    cell: side of an instance's square in pixels. A weak instance, whose mask was made from tags, has an orange frame.
    Raises StoreError for a bank without instances, and where none of them can be read.
    """
    if not len(bank):
        raise StoreError(f"{bank.path} holds no instance, so there is nothing to draw; train with per_class above 0.")
    most = max(len(bank.instances(identity)) for identity in bank.category_ids)
    page = _Page(cell=cell, rows=len(bank.category_ids), columns=max(min(count, most), 4))
    canvas = Image.new("RGB", page.size, _PAPER)
    draw = ImageDraw.Draw(canvas)
    _draw_header(draw, page, bank)
    failed: dict[str, str] = {}
    for row, identity in enumerate(bank.category_ids):
        infos = bank.instances(identity)
        _draw_caption(draw, page, row, bank.taxonomy.name_of(identity), infos)
        for column, info in enumerate(infos[:count]):
            square = (page.left(column), page.top(row))
            try:
                canvas.paste(_cut_out(bank.read(info.index), cell), square)
            except OneImageError as error:
                failed[f"{bank.taxonomy.name_of(identity)} of {info.image_id}"] = str(error)
                continue
            if info.weak:
                box = [*square, square[0] + cell - 1, square[1] + cell - 1]
                draw.rectangle(box, outline=_WEAK, width=2)
    if len(failed) == shown_instances(bank, count):
        raise StoreError(next(iter(failed.values())))
    return Sheet(canvas, failed)


def shown_instances(bank: MemoryBank, count: int) -> int:
    """How many squares a sheet of `count` instances of every class has."""
    return sum(min(len(bank.instances(identity)), count) for identity in bank.category_ids)


def _cut_out(instance: Instance, cell: int) -> Image.Image:
    """The instance in the middle of a square of checkerboard; what is outside its mask is clear."""
    room = cell - 2 * _PAD
    factor = min(room / instance.height, room / instance.width, _MOST_GROWTH)
    size = (max(round(instance.width * factor), 1), max(round(instance.height * factor), 1))
    opaque = (instance.mask * np.uint8(255))[..., None]
    pixels = Image.fromarray(np.concatenate([instance.image, opaque], axis=2))
    shown = pixels.resize(size, Image.Resampling.BICUBIC)
    board = _checkerboard(cell).copy()
    board.paste(shown, ((cell - size[0]) // 2, (cell - size[1]) // 2), shown)
    return board


@lru_cache(maxsize=2)
def _checkerboard(cell: int) -> Image.Image:
    place = np.arange(cell) // _SQUARE
    dark = (place[:, None] + place) % 2
    return Image.fromarray(np.array(_BOARD, np.uint8)[dark])


def _draw_header(draw: ImageDraw.ImageDraw, page: _Page, bank: MemoryBank) -> None:
    attributes, room = bank.attributes, page.size[0] - 2 * _MARGIN
    title = f"Memory of {attributes.get('protocol')} after step {attributes.get('step')}"
    draw.text((_MARGIN, _MARGIN), title, font=font(18, bold=True), fill=_INK, anchor="lt")
    facts = f"{len(bank)} instances of {len(bank.category_ids)} classes, at most {attributes.get('per_class')} of each"
    note = _cut(f"{facts}; digest {bank.digest[:12]}", font(13), room)
    draw.text((_MARGIN, _MARGIN + 28), note, font=font(13), fill=_SOFT_INK, anchor="lt")
    if any(info.weak for info in bank.infos):
        top = _MARGIN + 47
        draw.rectangle([_MARGIN, top, _MARGIN + 12, top + 12], outline=_WEAK, width=2)
        draw.text((_MARGIN + 20, top), "weak: mask made from image tags", font=font(13), fill=_SOFT_INK, anchor="lt")


def _draw_caption(draw: ImageDraw.ImageDraw, page: _Page, row: int, name: str, infos: tuple[InstanceInfo, ...]) -> None:
    top = page.top(row)
    if row:
        draw.line([(_MARGIN, top - _GAP / 2), (_MARGIN + _CAPTION - _GAP, top - _GAP / 2)], fill=_RULE)
    (name, bold), plain = words(name, 16, bold=True), font(13)
    draw.text((_MARGIN, top + 2), _cut(name, bold, _CAPTION - _GAP), font=bold, fill=_INK)
    facts = f"{len(infos)} from step {', '.join(map(str, sorted({info.step for info in infos})))}"
    draw.text((_MARGIN, top + 26), facts, font=plain, fill=_SOFT_INK)
    weak = sum(info.weak for info in infos)
    if weak:
        draw.text((_MARGIN, top + 45), "weak" if weak == len(infos) else f"{weak} weak", font=plain, fill=_SOFT_INK)


def _cut(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """`text`, ended by an ellipsis where it is wider than `width` pixels."""
    shown = text
    while len(text) > 1 and font.getlength(shown) > width:
        text = text[:-1]
        shown = f"{text}…"
    return shown
