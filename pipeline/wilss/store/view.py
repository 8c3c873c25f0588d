"""The store as a person looks at it: an xarray dataset with a label map that is computed when asked for."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..taxonomy import BACKGROUND, VOID
from .store import MaskStore

__all__ = ["label_map", "open_masks"]


def label_map(
    masks: NDArray[np.bool_],
    category_ids: NDArray[np.integer[Any]],
    confidence: NDArray[np.floating[Any]],
    void: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """One label per pixel out of masks that may overlap: where they do, the more confident category wins.

    masks: [T, H, W]; category_ids, confidence: [T]; NaN counts as least confident, ties go to the lower id.
    Returns uint8 [H, W]: taxonomy ids, BACKGROUND where no mask is, VOID where `void` is.
    """
    labels = np.full(masks.shape[1:], BACKGROUND, np.uint8)
    rank = np.nan_to_num(np.asarray(confidence, np.float64), nan=-np.inf)
    for position in np.lexsort((-np.asarray(category_ids), rank)):
        labels[masks[position]] = category_ids[position]
    if void is not None:
        labels[void] = VOID
    return labels


def open_masks(path: Path | str, *, allow_partial: bool = False) -> Any:
    """The store at `path` as an `xarray.Dataset`, lazily read, with a `label` map [image, y, x] beside its masks.

    `ds.mask.sel(image="2007_000033", category="sofa").plot()` draws one mask, and
    `ds.label.sel(image="2007_000033").plot()` the resolved labels (taxonomy ids, 255 for void).
    Raises StoreError when there is no store, or it is not complete and `allow_partial` is False.
    """
    import xarray

    store = MaskStore.open(path, allow_partial=allow_partial)
    dataset = xarray.open_zarr(path).set_coords(["height", "width", "status", "category_id"])
    return dataset.assign(label=_lazy_labels(store, dataset))


def _lazy_labels(store: MaskStore, dataset: Any) -> Any:
    import xarray

    whole = dataset.chunk(category=-1)
    inputs = [whole.mask, whole.confidence] + ([whole.void] if store.layout.has_void else [])
    core = [["category", "y", "x"], ["category"], ["y", "x"]][: len(inputs)]
    labels = xarray.apply_ufunc(
        partial(_label_one, store.vector("category_id")),
        *inputs,
        input_core_dims=core,
        output_core_dims=[["y", "x"]],
        vectorize=True,
        dask="parallelized",
        output_dtypes=[np.uint8],
    )
    return labels.assign_attrs(long_name="taxonomy id, 255 is void")


def _label_one(
    category_ids: NDArray[np.integer[Any]],
    masks: NDArray[np.bool_],
    confidence: NDArray[np.floating[Any]],
    void: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    return label_map(masks, category_ids, confidence, void)
