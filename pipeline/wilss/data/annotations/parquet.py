"""Datasets of Hugging Face as parquet: columns image_id and mask, a label map whose values metadata name."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from wilss.data.annotations.label_maps import names_of_values, of_label_map
from wilss.data.annotations.records import AnnotatedImage, Annotations
from wilss.data.layouts.records import LabelTable
from wilss.data.taxonomy import BACKGROUND
from wilss.errors import ImageError, ManifestError, first_line

_AT_ONCE = 32


def read_parquet(path: Path, class_names: Sequence[str]) -> Annotations:
    """The rows of a parquet file, or of those of a folder by name; needs pyarrow.

    class_names: by value, where the file itself does not name its classes. Raises ManifestError, also later.
    """
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    return Annotations(form="huggingface", images=_images(files, class_names), is_flat=True)


def _images(files: Sequence[Path], class_names: Sequence[str]) -> Iterator[AnnotatedImage]:
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError:
        raise ManifestError(
            f"{files[0]} is read by pyarrow, which is not there; install it: pip install 'wilss[datasets]'."
        ) from None
    for file in files:
        try:
            opened = pyarrow.parquet.ParquetFile(file)
            names = names_of_values(_class_names(opened.schema_arrow.metadata or {}, class_names))
            for batch in opened.iter_batches(_AT_ONCE, columns=["image_id", "mask"]):
                for row in batch.to_pylist():
                    yield _image(file, row, names)
        except (OSError, pa.ArrowException, KeyError, ValueError) as error:
            raise ManifestError(
                f"{file} cannot be read ({first_line(error)}); it needs the columns image_id and mask, a label map."
            ) from None


def _class_names(metadata: Mapping[bytes, bytes], class_names: Sequence[str]) -> Sequence[str]:
    """Those that our own export has put in, else those that were given."""
    try:
        written = json.loads(metadata[b"wilss"])["classes"]
        return [str(name) for name in written]
    except (KeyError, TypeError, ValueError):
        return class_names


def _image(file: Path, row: Mapping[str, Any], names: Mapping[int, str]) -> AnnotatedImage:
    from wilss.data.images import read_label_bytes

    image_id, mask = str(row.get("image_id")), row.get("mask")
    content = mask.get("bytes") if isinstance(mask, dict) else None
    place = Path(f"{file}: {image_id}")
    try:
        if not isinstance(content, bytes):
            raise ImageError("it has no picture in its column mask")
        values = read_label_bytes(io.BytesIO(content), place).values
        if values is None:
            raise ImageError("its mask is in colours; save label maps as grey PNGs")
        labels = LabelTable.of((value, value) for value in (BACKGROUND, *names)).apply(values, place)
    except ImageError as error:
        return AnnotatedImage(name=image_id, size=None, shapes=(), image_id=image_id, problem=str(error))
    return of_label_map(image_id, labels, names, image_id=image_id)
