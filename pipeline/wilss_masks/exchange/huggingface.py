"""Stores as datasets of Hugging Face: parquet files that `datasets.load_dataset` reads, pictures included."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from wilss.disk import sweep_partials, write_atomically, writing
from wilss.drawing import encoded
from wilss.errors import ImageError, OneImageError, StoreError
from wilss.process import map_in_threads
from wilss.store import LabelMaps, MaskStore

from .common import Exported, Made, class_names, exportable, exported, overlap, refuse_places, split_of
from .naming import CocoNames

_ROWS_PER_FILE = 500


def export_huggingface(
    store: MaskStore,
    out: Path,
    *,
    names: CocoNames = CocoNames(),  # noqa: B008  frozen
    overwrite: bool = False,
    threads: int | None = None,
) -> Exported:
    """Write the folder `out`: data/<split>-00000-of-00001.parquet and so on, 500 images each; needs pyarrow.

    Columns: image_id; image, the file as it is, where `names` says where it lies; mask, a grey PNG of taxonomy ids with
    255 for void, overlaps resolved by confidence; tags, the names of the classes that the image is tagged with;
    confidence, of each of them. Raises StoreError when a file is there and `overwrite` is False, or pyarrow is missing.
    """
    _require_pyarrow()
    rows, refused = exportable(store)
    split = split_of(store)
    parts = [rows[first : first + _ROWS_PER_FILE] for first in range(0, len(rows), _ROWS_PER_FILE)] or [rows]
    files = [out / "data" / f"{split}-{number:05}-of-{len(parts):05}.parquet" for number in range(len(parts))]
    refuse_places(files, out, overwrite)
    encode, both = _Row(store, names), 0
    unreadable: dict[str, str] = {}
    with writing(out):
        sweep_partials(out)
        for file, part in zip(files, parts, strict=True):
            done = list(map_in_threads(encode, part, threads))
            unreadable |= {row["image_id"]: why for row, _, why in done if why}
            both += sum(is_overlapping for _, is_overlapping, _ in done)
            write_atomically(file, _parquet([row for row, _, why in done if not why], store, names))
    done_rows = [row for row in rows if store.image_ids[row] not in unreadable]
    made = Made(rows=done_rows, results=done_rows, refused={**refused, **unreadable})
    return exported(store, made, annotations=len(done_rows), overlapping=both)


def _require_pyarrow() -> None:
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise StoreError(
            "export huggingface needs pyarrow, which is not there; install it: pip install 'wilss[datasets]'."
        ) from None


class _Row:
    """One image as the values of its columns; whether its masks overlap; and why its file cannot be read, else ""."""

    def __init__(self, store: MaskStore, names: CocoNames) -> None:
        self._store, self._names, self._labels = store, names, LabelMaps(store)
        self._confidence = store.vector("confidence")

    def __call__(self, row: int) -> tuple[dict[str, Any], bool, str]:
        image_id = self._store.image_ids[row]
        try:
            return *self._columns(row, image_id), ""
        except OneImageError as error:
            return {"image_id": image_id}, False, str(error)

    def _columns(self, row: int, image_id: str) -> tuple[dict[str, Any], bool]:
        masks, labels = self._labels.with_masks(row)
        found: dict[str, Any] = {
            "image_id": image_id,
            "mask": {"bytes": encoded(Image.fromarray(labels)), "path": f"{image_id}.png"},
            "tags": [self._store.category_names[category] for category in masks.categories],
            "confidence": [float(self._confidence[row, category]) for category in masks.categories],
        }
        if self._names.path is not None:
            name = self._names.file_name(image_id)
            found["image"] = {"bytes": _whole(self._names.path(image_id)), "path": name}
        return found, overlap(masks)


def _whole(path: Path) -> bytes:
    """The bytes of an image file that can be opened. Raises ImageError."""
    from wilss.data.images import read_size

    read_size(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read ({error.strerror}); check its permissions.") from None


def _parquet(rows: Sequence[dict[str, Any]], store: MaskStore, names: CocoNames) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet

    picture, text, number = pa.struct([("bytes", pa.binary()), ("path", pa.string())]), pa.string(), pa.float32()
    image = [("image", picture)] if names.path is not None else []
    columns = [
        ("image_id", text),
        *image,
        ("mask", picture),
        ("tags", pa.list_(text)),
        ("confidence", pa.list_(number)),
    ]
    metadata = {
        "huggingface": json.dumps({"info": {"features": {name: _feature(name) for name, _ in columns}}}),
        "wilss": json.dumps({"classes": class_names(store), "step": store.attributes.get("step")}, ensure_ascii=False),
    }
    table = pa.Table.from_pylist(list(rows), schema=pa.schema(columns, metadata=metadata))
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _feature(name: str) -> dict[str, Any]:
    """A column in the words of `datasets`."""
    if name in ("image", "mask"):
        return {"_type": "Image"}
    value = {"dtype": "float32" if name == "confidence" else "string", "_type": "Value"}
    return value if name == "image_id" else {"feature": value, "_type": "List"}
