"""One image of a store at its own size: `wilss.open_masks(path).wilss.image("id")`."""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import StoreError
from .schema import Status


class ImageAccessor:
    """What `dataset.wilss` offers of a dataset that `open_masks` gave."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def image(self, image_id: str) -> Any:
        """Everything of one image as an `xarray.Dataset` in memory, at the image's own height and width.

        label: uint8 [y, x], taxonomy ids, 255 void. mask: bool [category, y, x], of the classes that it is tagged with.
        void: bool [y, x], where the store has it. score, attention: float32 [category, y, x], where the store keeps
        them, brought from their patch grids to pixels. Raises StoreError where the store has no masks of the image.
        """
        dataset = self._dataset
        if image_id not in dataset.indexes["image"]:
            raise StoreError(f"the store has no image {image_id!r}; `wilss-masks info` shows what it holds.")
        one = dataset.sel(image=image_id)
        if int(one.status) != Status.DONE:
            why = str(one.error.values) or f"its status is {Status(int(one.status)).name.lower()}"
            raise StoreError(f"the store holds no masks of {image_id}: {why}")
        height, width = int(one.height), int(one.width)
        one = one.isel(y=slice(height), x=slice(width), category=np.flatnonzero(one.tags.values))
        soft = {name: one[name] for name in ("score", "attention") if name in one}
        kept = one[[name for name in ("label", "mask", "void", "confidence", "area") if name in one]].load()
        return kept.assign({name: _at_pixels(maps, height, width) for name, maps in soft.items()})


@functools.cache
def register() -> None:
    """Give every `xarray.Dataset` the attribute `wilss`."""
    import xarray

    accessor: Any = xarray.register_dataset_accessor
    accessor("wilss")(ImageAccessor)


def extent(maps: NDArray[np.floating[Any]]) -> tuple[int, int]:
    """(h, w) of the patch grid of maps [T, yp, xp], which lie top-left and are NaN beyond their grid."""
    there = ~np.isnan(maps).all(axis=0)
    rows, columns = np.flatnonzero(there.any(axis=1)), np.flatnonzero(there.any(axis=0))
    return (int(rows[-1]) + 1, int(columns[-1]) + 1) if rows.size else (0, 0)


def _at_pixels(maps: Any, height: int, width: int) -> Any:
    """Maps [category, yp, xp] on a patch grid as [category, y, x]; NaN where there are none."""
    import torch
    import xarray

    from ..data.images import to_pixels

    values = np.asarray(maps.values, np.float32)
    h, w = extent(values)
    pixels = np.full((len(values), height, width), np.nan, np.float32)
    if h and w:
        pixels = to_pixels(torch.from_numpy(values[:, :h, :w].copy()), height, width).numpy()
    return xarray.DataArray(pixels, dims=("category", "y", "x"), attrs=maps.attrs)
