"""Folders of label maps: VOC's and CVAT's SegmentationClass, Cityscapes' gtFine, ADE20K's annotations, plain PNGs."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wilss.data.annotations.records import AnnotatedImage, Annotations, Shape
from wilss.data.annotations.runs import Mask
from wilss.data.layouts.colours import ColourTable, code_of, find_labelmap, read_labelmap
from wilss.data.layouts.records import LabelReader, LabelTable
from wilss.data.taxonomy import BACKGROUND, VOID, meaning_of
from wilss.errors import ImageError, ManifestError

#: Where label maps lie below a folder; the first that is there counts.
_FOLDERS = ("SegmentationClass", "gtFine", "annotations", "labels", "masks")
#: How Cityscapes ends the names of label maps, and of what lies beside them.
_CITYSCAPES = "_gtFine_labelIds"
_BESIDE = ("_gtFine_color", "_gtFine_instanceIds", "_gtFine_labelTrainIds")
_VOID_NAME = "void"


def read_label_maps(root: Path, class_names: Sequence[str]) -> Annotations:
    """The label maps of a folder. class_names: by value, where no labelmap.txt says what values and colours are.

    Raises ManifestError.
    """
    folder = next((root / name for name in _FOLDERS if (root / name).is_dir()), root)
    names, table = _table(root, folder, class_names)
    files = [file for file in sorted(folder.rglob("*.png")) if not file.stem.endswith(_BESIDE)]
    if not files:
        raise ManifestError(f"{folder} holds no label maps; they are PNGs, also in folders below it.")
    return Annotations(form="labelmaps", images=_images(folder, files, names, table), is_flat=True)


def holds_label_maps(root: Path) -> bool:
    """Whether a folder looks as if `read_label_maps` could read it."""
    return any((root / name).is_dir() for name in _FOLDERS) or next(root.rglob("*.png"), None) is not None


def _table(root: Path, folder: Path, class_names: Sequence[str]) -> tuple[Mapping[int, str], LabelReader]:
    """Names by the numbers that stand for them in what is read, and how it is read."""
    path = find_labelmap(root, [folder.name])
    if path is None:
        return names_of_values(class_names), LabelTable.of((value, value) for value in range(len(class_names)))
    rows = read_labelmap(path)
    numbers = [_number(row.name, place) for place, row in enumerate(rows)]
    if len(rows) >= VOID:
        raise ManifestError(f"{path} has {len(rows)} rows; at most {VOID - 1} can be read.")
    names = {number: row.name for number, row in zip(numbers, rows, strict=True) if number != BACKGROUND}
    table = ColourTable(
        colours=tuple((code_of(row.rgb), number) for row, number in zip(rows, numbers, strict=True)),
        by_value=LabelTable.of(enumerate(numbers)),
    )
    return {**names, VOID: _VOID_NAME}, table


def _number(name: str, place: int) -> int:
    meaning = meaning_of(name)
    return place + 1 if meaning is None else meaning


def names_of_values(class_names: Sequence[str]) -> dict[int, str]:
    """What the values of a label map mean that are taxonomy ids, but for background."""
    return {**{value: name for value, name in enumerate(class_names) if value != BACKGROUND}, VOID: _VOID_NAME}


def of_label_map(
    name: str, labels: NDArray[np.uint8], names: Mapping[int, str], *, image_id: str | None = None
) -> AnnotatedImage:
    """The image of a label map uint8 [H, W]. names: of values."""
    height, width = labels.shape
    there = [value for value in np.flatnonzero(np.bincount(labels.ravel())).tolist() if value in names]
    shapes = tuple(Shape(name=names[value], draw=partial(_where, labels, value)) for value in there)
    known = frozenset(names.values())
    return AnnotatedImage(name=name, size=(height, width), shapes=shapes, image_id=image_id, known=known)


def _images(
    folder: Path, files: Sequence[Path], names: Mapping[int, str], table: LabelReader
) -> Iterator[AnnotatedImage]:
    for file in files:
        name = file.relative_to(folder).as_posix().removesuffix(".png").removesuffix(_CITYSCAPES)
        try:
            yield of_label_map(name, table.read(file), names)
        except ImageError as error:
            yield AnnotatedImage(name=name, size=None, shapes=(), problem=str(error))


def _where(labels: NDArray[np.uint8], number: int, size: tuple[int, int]) -> Mask:
    if labels.shape != size:
        raise ValueError(
            f"its label map is {labels.shape[1]} x {labels.shape[0]} pixels, its image {size[1]} x {size[0]}"
        )
    return np.asarray(labels == number)
