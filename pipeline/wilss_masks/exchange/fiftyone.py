"""Stores for FiftyOne: its own folder layout with masks by path, and a script that loads it."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wilss.data.annotations.fiftyone import FIELD, IMAGE_ID, SAMPLES
from wilss.data.annotations.runs import cropped
from wilss.data.taxonomy import BACKGROUND, VOID
from wilss.disk import sweep_partials, write_atomically, writing
from wilss.drawing import encoded
from wilss.store import LabelMaps, MaskStore

from .common import Exported, class_names, exportable, exported, make_each, refuse_places, split_of
from .naming import CocoNames
from .pieces import Picture, Piece, PieceOptions, Pieces

#: The field of a whole image's label map.
_LABELS = "label"
#: Media of a field lie in the folder fields/<name of the field>.
_MASKS_FOLDER, _LABELS_FOLDER = f"fields/{FIELD}.detections", f"fields/{_LABELS}"
_METADATA, _SCRIPT = "metadata.json", "load.py"

_LOAD = '''"""Load these masks into FiftyOne: python load.py [NAME], from any folder."""

import sys
from pathlib import Path

import fiftyone as fo

folder = Path(__file__).resolve().parent
dataset = fo.Dataset.from_dir(
    dataset_dir=str(folder),
    dataset_type=fo.types.LegacyFiftyOneDataset,
    name=sys.argv[1] if len(sys.argv) > 1 else folder.name,
    persistent=True,
)
print(dataset)
# Tag a mask or an image "accepted" or "rejected" in the app, then give the tags back:
#   dataset.export(export_dir="judged", dataset_type=fo.types.FiftyOneDataset, export_media=False)
'''


def export_fiftyone(
    store: MaskStore,
    out: Path,
    *,
    names: CocoNames = CocoNames(),  # noqa: B008  frozen
    options: PieceOptions = PieceOptions(),  # noqa: B008  frozen
    overwrite: bool = False,
    threads: int | None = None,
) -> Exported:
    """Write the folder `out`: samples.json and metadata.json, masks as grey PNGs by path, and load.py.

    The field `masks` has a detection for each piece, with its confidence and a PNG of 0 and 255 inside its box; `label`
    has the label map, grey, with the names of its values in metadata.json. A sample's file is where `names` says, else
    data/<id>.jpg in the folder. Raises StoreError when a file is there and `overwrite` is False.
    """
    rows, refused = exportable(store)
    encode = _Sample(store, out, names, options)
    texts = [out / name for name in (_METADATA, _SCRIPT, SAMPLES)]
    pictures = itertools.chain.from_iterable(map(encode.targets, rows))
    refuse_places(itertools.chain(texts, pictures), out, overwrite)
    with writing(out):
        sweep_partials(out)
        made = make_each(store, encode, rows, refused, threads)
        write_atomically(texts[0], json.dumps(_metadata(store), ensure_ascii=False).encode("utf-8"))
        write_atomically(texts[1], _LOAD.encode("utf-8"))
        samples = ",\n".join(text for text, _, _ in made.results)
        write_atomically(texts[2], f'{{"samples": [{samples}]}}\n'.encode())
    missing = [f"Put the images into {out / 'data'}; FiftyOne looks for them there."] if names.path is None else []
    return exported(
        store,
        made,
        annotations=sum(count for _, count, _ in made.results),
        overlapping=sum(both for _, _, both in made.results),
        notes=[*missing, f"Load it with: python {out / _SCRIPT}"],
    )


def _metadata(store: MaskStore) -> dict[str, Any]:
    targets = {str(identity): name for identity, name in enumerate(class_names(store)) if identity != BACKGROUND}
    return {
        "media_type": "image",
        "info": {"classes": {FIELD: list(store.category_names)},
                 "mask_targets": {_LABELS: {**targets, str(VOID): "void"}}},
    }  # fmt: skip


class _Sample:
    """Writes the PNGs of one image; its sample as json text, how many masks it has, and whether its masks overlap."""

    def __init__(self, store: MaskStore, out: Path, names: CocoNames, options: PieceOptions) -> None:
        self._pieces, self._labels, self._out, self._names = Pieces(store, options), LabelMaps(store), out, names
        self._ids, self._split = store.image_ids, split_of(store)

    def targets(self, row: int) -> list[Path]:
        """The label map, and the first mask."""
        name = self._ids[row]
        return [self._out / _LABELS_FOLDER / f"{name}.png", self._out / _MASKS_FOLDER / f"{name}.0.png"]

    def __call__(self, row: int) -> tuple[str, int, bool]:
        picture = self._pieces(row)
        write_atomically(self.targets(row)[0], encoded(Image.fromarray(self._labels(row))))
        detections = [self._detection(picture, piece, number) for number, piece in enumerate(picture.pieces)]
        sample = {
            "filepath": self._filepath(picture.image_id),
            "tags": [self._split],
            "metadata": {"_cls": "ImageMetadata", "width": picture.width, "height": picture.height},
            IMAGE_ID: picture.image_id,
            FIELD: {"_cls": "Detections", "detections": detections},
            _LABELS: {"_cls": "Segmentation", "mask_path": f"{_LABELS_FOLDER}/{picture.image_id}.png"},
        }
        return json.dumps(sample, ensure_ascii=False), len(detections), picture.is_overlapping

    def _filepath(self, image_id: str) -> str:
        if self._names.path is None:
            return f"data/{self._names.file_name(image_id)}"
        return str(self._names.path(image_id).resolve())

    def _detection(self, picture: Picture, piece: Piece, number: int) -> dict[str, Any]:
        crop, top, left = cropped(piece.mask)
        name = f"{_MASKS_FOLDER}/{picture.image_id}.{number}.png"
        write_atomically(self._out / name, encoded(Image.fromarray(crop.astype(np.uint8) * 255)))
        high, wide = crop.shape
        box = [left / picture.width, top / picture.height, wide / picture.width, high / picture.height]
        tags = [] if piece.verdict == "unjudged" else [piece.verdict]
        detection = {"_cls": "Detection", "attributes": {}, "tags": tags, "label": piece.name, "bounding_box": box,
                     "mask_path": name}  # fmt: skip
        return detection if piece.score is None else {**detection, "confidence": piece.score}
