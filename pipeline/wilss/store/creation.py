"""An empty store: the metadata of all arrays, and the vectors that are known before any mask is made.

zarr looks on disk for every array whether there is one, and writes each file in a thread, which takes longer than all
else that a run of few images does. Its metadata are put together in memory, and the vectors are written by `arrays`.
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import MemoryStore

from ..disk.folder import LocalFolder
from .arrays import write_rows
from .schema import FORMAT, FORMAT_VERSION, StoreHeader, StoreLayout, consolidate, create_sharded, create_vector

#: The file of the group, which holds its attributes and what all of its arrays are.
_GROUP = "zarr.json"


def create_group(place: Path, header: StoreHeader) -> None:
    """Write the metadata of every array and the vectors known beforehand into the empty folder `place`.

    Nothing is synced: a store is built under another name, and whoever gives it its own syncs all of it at once.
    """
    folder = LocalFolder(place, lasting=False)
    for name, content in _metadata(header).items():
        folder.write(name, content)
    known = _known(header)
    for name in header.layout.vectors:
        count, step = header.layout.vector_shape(name)[0], header.layout.chunk_rows(name)
        if name in known and all(header.layout.vector_shape(name)):
            for first in range(0, count, step):  # a million names at once would be a hundred megabytes
                values = np.array(known[name][first : first + step], dtype=header.layout.vectors[name].dtype)
                write_rows(folder, header.layout, name, [(slice(first, first + len(values)), values)])


def _metadata(header: StoreHeader) -> dict[str, bytes]:
    """The files that describe the group and its arrays, by name."""
    files = dict(_described(header.layout))
    attributes = {"format": FORMAT, "format_version": FORMAT_VERSION, **header.attributes}
    group = {**json.loads(files[_GROUP]), "attributes": attributes}
    return {**files, _GROUP: json.dumps(group, indent=2).encode()}


@lru_cache(maxsize=32)
def _described(layout: StoreLayout) -> Mapping[str, bytes]:
    """The same of a group without attributes. zarr takes 20 ms for it, and many stores may have the same sizes."""
    files: dict[str, Any] = {}
    group = zarr.create_group(MemoryStore(files), zarr_format=3)
    for spec in layout.arrays:
        create_sharded(group, spec, layout.shard_size)
    for vector in layout.vectors.values():
        create_vector(group, vector, layout.vector_shape(vector.name), layout.chunk_rows(vector.name))
    consolidate(group)
    return {name: content.to_bytes() for name, content in files.items()}


def _known(header: StoreHeader) -> dict[str, Sequence[Any] | NDArray[Any]]:
    """The values of vectors that the header holds, by name."""
    return {
        "image": header.image_ids,
        "height": header.heights,
        "width": header.widths,
        "tags": header.tags,
        "status": header.status,
        "error": header.errors,
        "category": header.category_names,
        "category_id": header.category_ids,
        **(vars(header.review) if header.review is not None else {}),
        **header.bases,
    }
