"""Stores as folders of label maps: VOC's, Cityscapes' and ADE20K's layouts."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from wilss.data.layouts.colours import LABELMAP, voc_colour
from wilss.data.taxonomy import VOID, voc_palette
from wilss.disk import sweep_partials, write_atomically, writing
from wilss.drawing import encoded
from wilss.store import LabelMaps, MaskStore

from .common import Exported, class_names, exportable, exported, holds_void, make_each, overlap, refuse_places, split_of

#: What ADE20K calls its splits; other splits keep their names.
_ADE20K_SPLITS = {"train": "training", "val": "validation"}


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Where files go, below the folder that is written.

    labels: folder of the label maps; ending: after an image's id. colours: ending of a picture in colours beside it.
    has_palette: whether label maps have VOC's palette. texts: about the classes, by file name. list_of_ids: the name of
    the list of images, written last, as it holds those alone whose label maps are there.
    """

    labels: str
    ending: str = ".png"
    colours: str | None = None
    has_palette: bool = False
    texts: tuple[tuple[str, bytes], ...] = ()
    list_of_ids: str | None = None


def export_voc(
    store: MaskStore, out: Path, *, grey: bool = False, overwrite: bool = False, threads: int | None = None
) -> Exported:
    """Write label maps in the VOC layout into the folder `out`, the list last.

    SegmentationClass/<id>.png: PNG in the image's true size, taxonomy ids, 255 void, overlaps resolved by confidence;
    with VOC's palette, or grey for readers that turn a palette into colours. ImageSets/Segmentation/<split>.txt: ids.
    classes.txt: all class names, one per line, from id 0; labelmap.txt: the same with their colours, as CVAT writes it.
    Raises StoreError when a file is there already and `overwrite` is False; nothing is then written.
    """
    split, names = split_of(store), class_names(store)
    layout = _Layout(
        labels="SegmentationClass",
        has_palette=not grey,
        texts=(("classes.txt", _lines(names)), (LABELMAP, _lines(_labelmap(names, void=holds_void(store))))),
        list_of_ids=f"ImageSets/Segmentation/{split}.txt",
    )
    return _export(store, out, layout, overwrite, threads)


def export_cityscapes(store: MaskStore, out: Path, *, overwrite: bool = False, threads: int | None = None) -> Exported:
    """Write label maps in Cityscapes' layout into the folder `out`.

    gtFine/<split>/<id>_gtFine_labelIds.png: grey, taxonomy ids, 255 void; <id>_gtFine_color.png: the same in VOC's
    colours; labelmap.txt: names and colours. Raises StoreError as `export_voc` does.
    """
    names = class_names(store)
    layout = _Layout(
        labels=f"gtFine/{split_of(store)}",
        ending="_gtFine_labelIds.png",
        colours="_gtFine_color.png",
        texts=((LABELMAP, _lines(_labelmap(names, void=holds_void(store)))),),
    )
    return _export(store, out, layout, overwrite, threads)


def export_ade20k(store: MaskStore, out: Path, *, overwrite: bool = False, threads: int | None = None) -> Exported:
    """Write label maps in the layout of ADE20K's scene parsing into the folder `out`.

    annotations/training/<id>.png (validation for the split val): grey, 0 background, taxonomy ids, 255 void.
    objectInfo.txt: a row for each class, as in ADE20K's objectInfo150.txt; labelmap.txt, too. Raises StoreError as
    `export_voc` does.
    """
    names, split = class_names(store), split_of(store)
    head = "Idx\tRatio\tTrain\tVal\tStuff\tName"
    counts = ((number, name) for number, name in enumerate(names) if number)
    rows = [head, *(f"{number}\t0\t0\t0\t0\t{name}" for number, name in counts)]
    layout = _Layout(
        labels=f"annotations/{_ADE20K_SPLITS.get(split, split)}",
        texts=(("objectInfo.txt", _lines(rows)), (LABELMAP, _lines(_labelmap(names, void=holds_void(store))))),
    )
    return _export(store, out, layout, overwrite, threads)


def _export(store: MaskStore, out: Path, layout: _Layout, overwrite: bool, threads: int | None) -> Exported:
    rows, refused = exportable(store)
    draw = _LabelPng(store, out / layout.labels, layout)
    texts = [(out / name, content) for name, content in layout.texts]
    pictures = itertools.chain.from_iterable(map(draw.targets, rows))
    listed = [] if layout.list_of_ids is None else [out / layout.list_of_ids]
    refuse_places(itertools.chain((path for path, _ in texts), listed, pictures), out, overwrite)
    with writing(out):
        sweep_partials(out)
        made = make_each(store, draw, rows, refused, threads)
        for path, content in texts:
            write_atomically(path, content)
        if layout.list_of_ids is not None:
            write_atomically(out / layout.list_of_ids, _lines(store.image_ids[row] for row in made.rows))
    return exported(store, made, annotations=len(made.rows), overlapping=sum(made.results))


class _LabelPng:
    """Writes the label map of one image, and says whether masks of it overlapped."""

    def __init__(self, store: MaskStore, folder: Path, layout: _Layout) -> None:
        self._store, self._folder, self._layout = store, folder, layout
        self._palette, self._labels = voc_palette(), LabelMaps(store)

    def targets(self, row: int) -> list[Path]:
        endings = [self._layout.ending, *([self._layout.colours] if self._layout.colours else [])]
        return [self._folder / f"{self._store.image_ids[row]}{ending}" for ending in endings]

    def __call__(self, row: int) -> bool:
        masks, labels = self._labels.with_masks(row)
        grey, coloured = Image.fromarray(labels), Image.fromarray(labels)
        coloured.putpalette(self._palette)
        targets = self.targets(row)
        write_atomically(targets[0], encoded(coloured if self._layout.has_palette else grey))
        for target in targets[1:]:
            write_atomically(target, encoded(coloured.convert("RGB")))
        return overlap(masks)


def _labelmap(names: Sequence[str], *, void: bool) -> list[str]:
    """CVAT's rows. A colon would end a name, so that it is written as a dash."""
    rows = [(name.replace(":", "-"), voc_colour(identity)) for identity, name in enumerate(names)]
    rows += [("void", voc_colour(VOID))] if void else []
    return ["# label:color_rgb:parts:actions", *(f"{name}:{red},{green},{blue}::" for name, (red, green, blue) in rows)]


def _lines(words: Iterable[str]) -> bytes:
    return "".join(f"{word}\n" for word in words).encode("utf-8")
