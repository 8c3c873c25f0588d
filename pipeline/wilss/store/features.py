"""What a store keeps of features, without networks: as it is, for another store, and as a vector for every image."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .schema import FEATURE_ARRAYS, Status
from .store import MaskStore


def kept_bases(store: MaskStore) -> dict[str, NDArray[np.float32]]:
    """The small arrays of a store's features by name, for the header of a store that takes them over."""
    return {name: store.vector(name) for layout in store.layout.features for name in layout.vectors}


def kept_planes(store: MaskStore, row: int) -> dict[str, dict[int, NDArray[Any]]]:
    """What is kept of the features of the image at `row`, by array, as `ImageContent` takes it."""
    names = [spec.name for spec in store.layout.arrays if spec.name in FEATURE_ARRAYS]
    return {name: {0: store.plane(name, row)} for name in names}


def image_vectors(store: MaskStore) -> NDArray[np.float32] | None:
    """The mean over its patches of CLIP's kept features, float32 [N, K]; zero for an image without any.

    None for a store that keeps no features.
    """
    layout = next((one for one in store.layout.features if one.name == "clip"), None)
    if layout is None:
        return None
    vectors = np.zeros((store.layout.num_images, layout.dims), np.float32)
    for row in np.flatnonzero(store.current_status() == Status.DONE).tolist():
        whole = store.plane("clip_features", row)
        tokens = max(int(whole.any(axis=1).sum()), 1)  # the rest is room for larger images
        vectors[row] = store.plane("clip_scale", row) * whole.sum(axis=0, dtype=np.int64) / tokens
    return vectors
