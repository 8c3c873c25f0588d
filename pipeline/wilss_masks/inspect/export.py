"""Stores as label maps in the layout of VOC, and what all exports share; `export_coco` writes the other form.

Image ids come from a store that somebody else may have made, so none is joined to a path before it was looked
at. An image whose id is refused is left out and named; the others are written.
"""

import itertools
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from wilss.data.layouts.colours import LABELMAP, voc_colour
from wilss.data.taxonomy import VOID, voc_palette
from wilss.disk import refuse_existing, sweep_partials, write_atomically, writing
from wilss.drawing import encoded
from wilss.errors import StoreError
from wilss.store import ImageMasks, LabelMaps, MaskStore, Status
from wilss.threads import map_in_threads

#: Room for an ending and for the name of an unfinished file below the 255 bytes that file systems allow.
_LONGEST_NAME = 200


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written. refused: image id -> why it was left out. without_masks: images that had none.

    overlapping: images with pixels in the masks of two classes, which the more confident class got.
    """

    images: int
    annotations: int
    overlapping: int
    refused: Mapping[str, str]
    without_masks: int


def holds_void(store: MaskStore) -> bool:
    """Whether any pixel of the store is void: planes without one are not on disk."""
    return any(path.is_file() for path in (store.path / "void/c").rglob("*"))


def export_voc(
    store: MaskStore, out: Path, *, grey: bool = False, overwrite: bool = False, threads: int | None = None
) -> Exported:
    """Write label maps in the VOC layout into the folder `out`, the list last.

    SegmentationClass/<id>.png: PNG in the image's true size, taxonomy ids, 255 void, overlaps resolved by confidence;
    with VOC's palette, or grey for readers that turn a palette into colours. ImageSets/Segmentation/<split>.txt: ids.
    classes.txt: all class names, one per line, from id 0; labelmap.txt: the same with their colours, as CVAT writes it.
    Raises StoreError when a file is there already and `overwrite` is False; nothing is then written.
    """
    rows, refused = exportable(store)
    split = _safe_split(store)
    lists = (out / "classes.txt", out / "ImageSets" / "Segmentation" / f"{split}.txt", out / LABELMAP)
    draw = _LabelPng(store, out / "SegmentationClass", grey)
    names = [str(name) for name in store.attributes.get("classes", store.category_names)]
    for path in itertools.chain(lists, map(draw.target, rows)):
        _refuse_outside(path, out)
        refuse_existing(path, overwrite)
    with writing(out):
        sweep_partials(out)
        overlapping = sum(map_in_threads(draw, rows, threads))
        write_atomically(lists[0], _lines(names))
        write_atomically(lists[2], _lines(_labelmap(names, void=holds_void(store))))
        write_atomically(lists[1], _lines(store.image_ids[row] for row in rows))
    return exported(store, rows, refused, annotations=len(rows), overlapping=overlapping)


def problem_with_id(image_id: str) -> str | None:
    """Why an image id cannot be part of a path below a folder; None when it can.

    Ids may name folders, as in "cats/001"; they may not leave the folder that they are joined to.
    """
    parts = image_id.split("/")
    if image_id.startswith("/") or "\\" in image_id or (len(image_id) > 1 and image_id[1] == ":"):
        return "is not a plain relative name"
    if any(part in ("", ".", "..") for part in parts):
        return "has an empty part or a dot as a part, which leads elsewhere"
    if not image_id.isprintable():
        return "has characters that cannot be printed"
    if any(len(part.encode("utf-8", "replace")) > _LONGEST_NAME for part in parts):
        return f"is longer than {_LONGEST_NAME} bytes"
    return None


class _LabelPng:
    """Writes the label map of one image as a PNG, and says whether masks of it overlapped."""

    def __init__(self, store: MaskStore, folder: Path, grey: bool) -> None:
        self._store, self._folder, self._palette = store, folder, None if grey else voc_palette()
        self._labels = LabelMaps(store)

    def target(self, row: int) -> Path:
        return self._folder / f"{self._store.image_ids[row]}.png"

    def __call__(self, row: int) -> bool:
        masks, labels = self._labels.with_masks(row)
        image = Image.fromarray(labels)
        if self._palette is not None:
            image.putpalette(self._palette)
        write_atomically(self.target(row), encoded(image))
        return overlap(masks)


def exportable(store: MaskStore) -> tuple[Sequence[int], dict[str, str]]:
    """Rows with masks and an id that can be trusted; and the ids with masks that cannot, with the reason."""
    rows, refused = array("q"), {}
    for row in map(int, np.flatnonzero(store.vector("status") == Status.DONE)):
        problem = problem_with_id(store.image_ids[row])
        if problem is None:
            rows.append(row)
        else:
            refused[store.image_ids[row]] = f"the id {problem}; rename the image and make its masks again."
    return rows, refused


def exported(
    store: MaskStore, rows: Sequence[int], refused: Mapping[str, str], *, annotations: int, overlapping: int
) -> Exported:
    """What was written of a store's rows."""
    return Exported(
        images=len(rows),
        annotations=annotations,
        overlapping=overlapping,
        refused=refused,
        without_masks=store.layout.num_images - len(rows) - len(refused),
    )


def overlap(masks: ImageMasks) -> bool:
    """Whether any pixel is in the masks of two classes."""
    return bool((masks.masks.sum(axis=0) > 1).any())


def _refuse_outside(path: Path, folder: Path) -> None:
    """A link inside the folder could still lead out of it."""
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise StoreError(f"{path} leads out of {folder} through a link; export into an empty folder.")


def _safe_split(store: MaskStore) -> str:
    split = str(store.attributes.get("split", "train"))
    problem = "names a folder" if "/" in split else problem_with_id(split)
    if problem:
        raise StoreError(f"the split {split!r} of {store.path} {problem}; give it a plain name in the manifest.")
    return split


def _labelmap(names: Sequence[str], *, void: bool) -> list[str]:
    """CVAT's rows. A colon would end a name, so that it is written as a dash."""
    rows = [(name.replace(":", "-"), voc_colour(identity)) for identity, name in enumerate(names)]
    rows += [("void", voc_colour(VOID))] if void else []
    return ["# label:color_rgb:parts:actions", *(f"{name}:{red},{green},{blue}::" for name, (red, green, blue) in rows)]


def _lines(words: Iterable[str]) -> bytes:
    return "".join(f"{word}\n" for word in words).encode("utf-8")
