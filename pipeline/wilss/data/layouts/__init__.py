"""Readers of what lies on disk: VOC folders, COCO json, plain folders; a function each, by the layout's name."""

from typing import Protocol

from wilss.data.layouts.causes import odd_looks, why_no_pixel
from wilss.data.layouts.coco import CocoNumbers, annotation_file, coco_numbers, read_coco
from wilss.data.layouts.coco_json import CocoLabel
from wilss.data.layouts.listing import Listing, read_folder, read_voc
from wilss.data.layouts.records import ImageRecord, Label, LabelTable, PngLabel, Selection, read_label_of, require_size
from wilss.data.layouts.spec import DataSpec
from wilss.data.layouts.table import Records, RecordsById

__all__ = [
    "READERS",
    "CocoLabel",
    "CocoNumbers",
    "DataSpec",
    "ImageRecord",
    "Label",
    "LabelTable",
    "Listing",
    "PngLabel",
    "Records",
    "RecordsById",
    "Selection",
    "annotation_file",
    "coco_numbers",
    "odd_looks",
    "read_label_of",
    "require_size",
    "why_no_pixel",
]


class _Reader(Protocol):
    def __call__(self, spec: DataSpec, split: str, *, lenient: bool = False) -> Listing:
        """All images of a split, with a sentence for each that cannot be used."""


READERS: dict[str, _Reader] = {"voc": read_voc, "coco": read_coco, "folder": read_folder}
