"""FiftyOne's own layout: samples.json beside the folders of its media; detections with masks, and tags."""

import base64
import binascii
import io
import math
import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wilss.data.annotations.json_files import read_json
from wilss.data.annotations.outlines import drawn_box
from wilss.data.annotations.records import AnnotatedImage, Annotations, Shape, size_of, verdict_of
from wilss.data.annotations.runs import Mask, placed
from wilss.errors import ImageError, ManifestError

SAMPLES = "samples.json"
#: The field of a sample that our own export fills, and the one that keeps our image id.
FIELD, IMAGE_ID = "masks", "wilss_image"

_MOST = 64_000_000 + 4096  # bytes of a mask of an image as large as any that is read


def read_fiftyone(path: Path) -> Annotations:
    """The samples of an exported dataset (FiftyOneDataset), its folder or samples.json. Raises ManifestError."""
    file = path / SAMPLES if path.is_dir() else path
    content = read_json(file)
    samples = content.get("samples") if isinstance(content, dict) else None
    if not isinstance(samples, list) or not all(isinstance(sample, dict) for sample in samples):
        raise ManifestError(f"{file} has no list of samples; export the dataset as fiftyone.types.FiftyOneDataset.")
    field = _field(samples, file)
    images = (AnnotatedImage.read(_name(sample), _image, sample, field, file.parent) for sample in samples)
    return Annotations(form="fiftyone", images=images)


def _field(samples: Sequence[Mapping[str, Any]], file: Path) -> str:
    """Which field holds the masks. Raises ManifestError where that cannot be known."""
    found = {
        name
        for sample in samples
        for name, value in sample.items()
        if isinstance(value, dict) and value.get("_cls") == "Detections"
    }
    if FIELD in found or not found:
        return FIELD
    if len(found) > 1:
        raise ManifestError(
            f"{file} has detections in the fields {', '.join(sorted(found))}; rename the one that counts to {FIELD!r}, "
            f"with `dataset.rename_sample_field`."
        )
    return found.pop()


def _name(sample: Mapping[str, Any]) -> str:
    return str(sample.get("filepath") or "").replace("\\", "/")


def _image(sample: Mapping[str, Any], field: str, folder: Path) -> AnnotatedImage:
    value, about = sample.get(field), sample.get("metadata")
    rows = value.get("detections") if isinstance(value, dict) else []
    about = about if isinstance(about, dict) else {}
    image_id = sample.get(IMAGE_ID)
    return AnnotatedImage(
        name=_name(sample),
        size=size_of(about.get("height"), about.get("width")),
        shapes=tuple(_shape(row, folder) for row in rows or [] if isinstance(row, dict)),
        image_id=image_id if isinstance(image_id, str) else None,
        verdict=_verdict(sample.get("tags")),
    )


def _verdict(tags: Any) -> str | None:
    return verdict_of(tags) if isinstance(tags, list) else None


def _shape(row: Mapping[str, Any], folder: Path) -> Shape:
    name, verdict, box = str(row.get("label") or ""), _verdict(row.get("tags")), row.get("bounding_box")
    path, inline = row.get("mask_path"), row.get("mask")
    if isinstance(path, str):
        return Shape(name=name, draw=partial(_draw_file, folder / path, box), verdict=verdict)
    if isinstance(inline, dict):
        return Shape(name=name, draw=partial(_draw_inline, inline, box), verdict=verdict)
    return Shape(name=name, kind="box", draw=partial(_draw_box, box), verdict=verdict)


def _draw_file(path: Path, box: Any, size: tuple[int, int]) -> Mask:
    """The grey PNG of a mask inside its box: where it is not 0."""
    from wilss.data.images import read_label_pixels

    values = read_label_pixels(path).values
    if values is None:
        raise ImageError(f"{path} holds colours; a mask is a grey PNG.")
    return _in_box(values != 0, box, size)


def _draw_inline(coded: Mapping[str, Any], box: Any, size: tuple[int, int]) -> Mask:
    """An array of numpy, packed by zlib, as bson writes bytes."""
    try:
        packed = base64.b64decode(coded["$binary"]["base64"], validate=True)
        unpacking = zlib.decompressobj()
        values = _array_of(unpacking.decompress(packed, _MOST))
    except (KeyError, TypeError, ValueError, EOFError, OSError, binascii.Error, zlib.error):
        raise ValueError("its mask cannot be unpacked") from None
    return _in_box(values != 0, box, size)


def _array_of(data: bytes) -> NDArray[Any]:
    """An array [height, width] of numbers in the form of npy; its size is held against its bytes. Raises ValueError."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    reads = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = reads(file)
    if len(shape) != 2 or dtype.kind not in "bui" or math.prod(shape) * dtype.itemsize > len(data) - file.tell():
        raise ValueError("no array [height, width] of numbers")
    values = np.frombuffer(data, dtype, math.prod(shape), file.tell())
    return values.reshape(shape, order="F" if is_fortran else "C")


def _in_box(crop: Mask, box: Any, size: tuple[int, int]) -> Mask:
    """A mask at the upper left corner of its box, whose sides it must have to a pixel."""
    left, top, wide, high = _sides(box, size)
    if abs(crop.shape[0] - high) > 1 or abs(crop.shape[1] - wide) > 1:
        raise ValueError("its mask has another size than its box")
    return placed(crop, round(top), round(left), size)


def _draw_box(box: Any, size: tuple[int, int]) -> Mask:
    left, top, wide, high = _sides(box, size)
    return drawn_box(left, top, left + wide, top + high, size)


def _sides(box: Any, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Left, top, width and height in pixels of shares of the image's sides."""
    if not isinstance(box, list) or len(box) != 4:
        raise ValueError("its bounding_box is no list of four numbers")
    left, top, wide, high = map(float, box)
    return left * size[1], top * size[0], wide * size[1], high * size[0]
