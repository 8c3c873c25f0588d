"""Stores as COCO panoptic: a json, and a PNG for each image whose colours are the numbers of its segments."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wilss.data.annotations.runs import box_of
from wilss.data.taxonomy import VOID
from wilss.disk import refuse_existing, sweep_partials, write_atomically, write_output, writing
from wilss.drawing import encoded
from wilss.errors import StoreError
from wilss.store import MaskStore

from .coco import CocoNumbering
from .common import Exported, exportable, exported, make_each, refuse_places
from .naming import CocoNames
from .pieces import Piece, PieceOptions, Pieces


def export_panoptic(
    store: MaskStore,
    out: Path,
    *,
    names: CocoNames = CocoNames(),  # noqa: B008  frozen
    options: PieceOptions = PieceOptions(),  # noqa: B008  frozen
    overwrite: bool = False,
    threads: int | None = None,
) -> Exported:
    """Write the file `out`, .json, and <id>.png into the folder beside it that has its name without the ending.

    A pixel is in one segment at most: overlaps go to the more confident class, whatever `options` say. Pixels of no
    segment are 0. Void is a segment of a category `void` with iscrowd 1. Raises StoreError when a file is there and
    `overwrite` is False.
    """
    if out.suffix.lower() != ".json":
        raise StoreError(f"{out} is no .json; give it this ending: the PNGs go into a folder with its name without it.")
    rows, refused = exportable(store)
    folder = out.with_suffix("")
    encode = _Png(store, folder, names, replace(options, overlaps=False))
    refuse_existing(out, overwrite)
    refuse_places(map(encode.target, rows), folder, overwrite)
    with writing(folder):
        sweep_partials(folder)
        made = make_each(store, encode, rows, refused, threads)
    used = {segment["category_id"] for annotation, _ in made.results for segment in annotation["segments_info"]}
    numbers = encode.numbers
    document = {
        "info": {"description": f"masks of step {store.attributes.get('step')}, made by wilss-masks"},
        "images": [numbers.image(row) for row in made.rows],
        "annotations": [annotation for annotation, _ in made.results],
        "categories": [{**category, "isthing": 1} for category in numbers.categories(used)],
    }
    write_output(out, json.dumps(document, ensure_ascii=False).encode("utf-8"))
    count = sum(len(annotation["segments_info"]) for annotation, _ in made.results)
    return exported(store, made, annotations=count, overlapping=sum(both for _, both in made.results))


class _Png:
    """Writes the PNG of one image; returns its annotation, and whether masks of it overlapped."""

    def __init__(self, store: MaskStore, folder: Path, names: CocoNames, options: PieceOptions) -> None:
        self.numbers = CocoNumbering(store, names)
        self._pieces, self._folder, self._ids = Pieces(store, options), folder, store.image_ids

    def target(self, row: int) -> Path:
        return self._folder / f"{self._ids[row]}.png"

    def __call__(self, row: int) -> tuple[dict[str, Any], bool]:
        picture = self._pieces(row)
        segments = np.zeros((picture.height, picture.width), np.uint32)
        for number, piece in enumerate(picture.pieces, start=1):
            segments[piece.mask] = number
        colours = np.stack([segments >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)
        write_atomically(self.target(row), encoded(Image.fromarray(colours)))
        annotation = {
            "image_id": self.numbers.of_image(row),
            "file_name": f"{picture.image_id}.png",
            "segments_info": list(itertools.starmap(self._segment, enumerate(picture.pieces, start=1))),
        }
        return annotation, picture.is_overlapping

    def _segment(self, number: int, piece: Piece) -> dict[str, Any]:
        top, left, high, wide = box_of(piece.mask)
        score = {} if piece.score is None else {"score": piece.score}
        return {
            "id": number,
            "category_id": self.numbers.of_class(piece.identity),
            "area": int(piece.mask.sum()),
            "bbox": [left, top, wide, high],
            "iscrowd": int(piece.identity == VOID),
            **score,
        }
