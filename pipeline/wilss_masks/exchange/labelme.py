"""Stores as json files for labelme, one for each image."""

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wilss.data.annotations.outlines import outlines_through_pixels
from wilss.data.annotations.runs import box_of, cropped
from wilss.data.taxonomy import VOID
from wilss.disk import UrlPath, sweep_partials, write_atomically, writing
from wilss.drawing import encoded
from wilss.store import MaskStore

from .common import Exported, exportable, exported, make_each, refuse_places
from .naming import CocoNames
from .pieces import Picture, Piece, PieceOptions, Pieces, ShapeKind

_VERSION = "6.3.1"  # of labelme, whose form this is


def export_labelme(
    store: MaskStore,
    out: Path,
    *,
    names: CocoNames = CocoNames(),  # noqa: B008  frozen
    shapes: ShapeKind = "mask",
    options: PieceOptions = PieceOptions(),  # noqa: B008  frozen
    overwrite: bool = False,
    threads: int | None = None,
) -> Exported:
    """Write <id>.json into the folder `out` for every image.

    A part that no polygon of labelme's can hold (one with holes, say) is written as a mask there, too, so that every
    pixel is kept. A later shape is painted over an earlier one: they stand by area, the largest first. Each shape has
    the flags `accepted` and `rejected`. Raises StoreError when a file is there and `overwrite` is False.
    """
    rows, refused = exportable(store)
    encode = _Json(store, out, names, shapes, options)
    refuse_places(map(encode.target, rows), out, overwrite)
    with writing(out):
        sweep_partials(out)
        made = make_each(store, encode, rows, refused, threads)
    as_masks = sum(masks for _, masks, _ in made.results) if shapes == "polygon" else 0
    notes = [f"{as_masks} parts with holes or thin bays are masks, which labelme's polygons cannot hold."]
    return exported(
        store,
        made,
        annotations=sum(count for count, _, _ in made.results),
        overlapping=sum(both for _, _, both in made.results),
        notes=notes if as_masks else (),
    )


class _Json:
    """Writes the json of one image; says how many shapes it has, how many are masks, and whether its masks overlap."""

    def __init__(self, store: MaskStore, out: Path, names: CocoNames, shapes: ShapeKind, options: PieceOptions) -> None:
        self._pieces, self._out, self._names, self._shapes = Pieces(store, options), out, names, shapes
        self._ids = store.image_ids

    def target(self, row: int) -> Path:
        return self._out / f"{self._ids[row]}.json"

    def __call__(self, row: int) -> tuple[int, int, bool]:
        picture = self._pieces(row)
        by_area = sorted(picture.pieces, key=lambda piece: -int(piece.mask.sum()))
        shapes = [shape for piece in by_area for shape in self._of_piece(piece)]
        document: dict[str, Any] = {
            "version": _VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": self._image_path(picture),
            "imageData": None,
            "imageHeight": picture.height,
            "imageWidth": picture.width,
        }
        write_atomically(self.target(row), json.dumps(document, ensure_ascii=False, indent=1).encode("utf-8"))
        return len(shapes), sum(shape["shape_type"] == "mask" for shape in shapes), picture.is_overlapping

    def _image_path(self, picture: Picture) -> str:
        """From the json to its image, where the manifest says where that lies; else a name beside the json."""
        if self._names.path is None:
            return self._names.file_name(picture.image_id).rpartition("/")[2]
        image = self._names.path(picture.image_id).resolve()
        if isinstance(image, UrlPath):  # which labelme does not open
            return image.name
        return Path(os.path.relpath(image, self.target(picture.row).parent.resolve())).as_posix()

    def _of_piece(self, piece: Piece) -> Iterator[dict[str, Any]]:
        flags = {} if piece.identity == VOID else {name: piece.verdict == name for name in ("accepted", "rejected")}
        said = "" if piece.score is None else f"score {piece.score}"
        common = {"label": piece.name, "group_id": None, "description": said, "flags": flags}
        for kind, points, mask in self._places(piece.mask):
            yield {**common, "points": points, "shape_type": kind, "mask": mask}

    def _places(self, mask: np.ndarray[Any, np.dtype[np.bool_]]) -> Iterator[tuple[str, list[list[float]], str | None]]:
        if self._shapes == "box":
            top, left, high, wide = box_of(mask)
            yield "rectangle", _corners(left, top, left + wide - 1, top + high - 1), None
            return
        rest = mask
        if self._shapes == "polygon":
            rest = mask.copy()
            for outline, part in outlines_through_pixels(mask):
                if outline is not None:
                    rest[part] = False
                    yield "polygon", [[float(x), float(y)] for x, y in outline], None
        if rest.any():
            crop, top, left = cropped(rest)
            png = base64.b64encode(encoded(Image.fromarray(crop.astype(np.uint8)))).decode("ascii")
            yield "mask", _corners(left, top, left + crop.shape[1] - 1, top + crop.shape[0] - 1), png


def _corners(left: int, top: int, right: int, bottom: int) -> list[list[float]]:
    return [[float(left), float(top)], [float(right), float(bottom)]]
