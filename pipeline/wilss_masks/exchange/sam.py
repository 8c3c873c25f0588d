"""Stores as class-agnostic masks, a json for each image as in SA-1B, which SAM's automatic masks have, too."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from wilss.disk import sweep_partials, write_atomically, writing
from wilss.store import MaskStore

from .coco import CocoNumbering, coco_rle, require_pycocotools
from .common import Exported, exportable, exported, make_each, refuse_places
from .naming import CocoNames
from .pieces import PieceOptions, Pieces


def export_sam(
    store: MaskStore,
    out: Path,
    *,
    names: CocoNames = CocoNames(),  # noqa: B008  frozen
    options: PieceOptions = PieceOptions(instances="connected"),  # noqa: B008  frozen
    overwrite: bool = False,
    threads: int | None = None,
) -> Exported:
    """Write <id>.json into the folder `out` for every image: masks with run lengths and a score, without classes.

    `predicted_iou` is the mean score inside the class's mask, and so is `stability_score`, which readers expect to be
    there. Overlaps are kept and void is left out, whatever `options` say. Raises StoreError when pycocotools is
    missing, or a file is there and `overwrite` is False.
    """
    require_pycocotools("sam")
    rows, refused = exportable(store)
    encode = _Json(store, out, names, replace(options, overlaps=True, void=False))
    refuse_places(map(encode.target, rows), out, overwrite)
    with writing(out):
        sweep_partials(out)
        made = make_each(store, encode, rows, refused, threads)
    return exported(store, made, annotations=sum(made.results), overlapping=0)


class _Json:
    """Writes the json of one image, and says how many masks it has."""

    def __init__(self, store: MaskStore, out: Path, names: CocoNames, options: PieceOptions) -> None:
        self._pieces, self._out, self._ids = Pieces(store, options), out, store.image_ids
        self._numbers = CocoNumbering(store, names)

    def target(self, row: int) -> Path:
        return self._out / f"{self._ids[row]}.json"

    def __call__(self, row: int) -> int:
        picture, image = self._pieces(row), self._numbers.image(row)
        whole = [0.0, 0.0, float(picture.width), float(picture.height)]
        annotations: list[dict[str, Any]] = [
            {"id": number, **coco_rle(piece.mask), "predicted_iou": piece.score, "stability_score": piece.score,
             "crop_box": whole, "point_coords": []}
            for number, piece in enumerate(picture.pieces, start=1)
        ]  # fmt: skip
        about = {"image_id": image.pop("id"), **image}
        document = {"image": about, "annotations": annotations}
        write_atomically(self.target(row), json.dumps(document, ensure_ascii=False).encode("utf-8"))
        return len(annotations)
