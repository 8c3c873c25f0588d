"""The store as a person looks at it: an xarray dataset with a label map that is computed when asked for."""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.images import to_pixels
from ..data.taxonomy import BACKGROUND, VOID
from ..disk import Location
from ..errors import MasksError, StoreError
from .arrays import refused
from .schema import ArraySpec, Status
from .store import ImageMasks, MaskStore

_LABEL_NAME = "taxonomy id, 255 is void"


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


class LabelMaps:
    """The masks of single images of a store as one label map each, see `label_map`; several threads may ask at once."""

    def __init__(self, store: MaskStore) -> None:
        self._store, self._ids, self._confidence = store, np.array(store.category_ids), store.vector("confidence")

    def __call__(self, image: str | int, *, void: bool = True) -> NDArray[np.uint8]:
        """uint8 [H, W] of taxonomy ids. void: whether what the store knows to be void is VOID. Raises StoreError."""
        return self._of(self._store.read(image), self._store.position(image), void)

    def with_masks(self, image: str | int, *, void: bool = True) -> tuple[ImageMasks, NDArray[np.uint8]]:
        """The masks of an image as they are stored, and their label map, uint8 [H, W]. Raises StoreError."""
        masks = self._store.read(image)
        return masks, self._of(masks, self._store.position(image), void)

    def _of(self, masks: ImageMasks, row: int, void: bool) -> NDArray[np.uint8]:
        wanted = list(masks.categories)
        return label_map(masks.masks, self._ids[wanted], self._confidence[row, wanted], masks.void if void else None)


def open_masks(path: Location | str, *, allow_partial: bool = False) -> Any:
    """The store at `path` as an `xarray.Dataset`, lazily read, with a `label` map [image, y, x] beside its masks.

    `ds.wilss.image("2007_000033")` is one image at its own size, see `ImageAccessor`. In the whole,
    `ds.mask.sel(image="2007_000033", category="sofa")` is one mask and `ds.label.sel(image="2007_000033")` the resolved
    labels (taxonomy ids, 255 for void and for the canvas beyond the image).
    Of a store that is being written, `ds.status` says which images were there when it was opened; the others read as
    background. Masks that are read while others replace them are a consistent snapshot, or there is a StoreError.
    Worker processes of a `DataLoader` must be spawned, since dask's threads do not live on in forked ones.
    Raises StoreError when there is no store, or it is not complete and `allow_partial` is False.
    """
    import xarray

    _register()
    store = MaskStore.open(path, allow_partial=allow_partial)
    status = store.current_status()  # before anything else is read: what is done now is on disk
    try:
        dataset = xarray.open_zarr(store.folder.for_zarr(), zarr_format=3).set_coords(
            ["height", "width", "status", "category_id"]
        )
    except PermissionError as error:
        raise refused(path, error) from None
    except OSError as error:  # somebody has just thrown it away
        raise StoreError(f"{path} was removed or replaced while it was opened; open it again.") from error
    dataset = dataset.assign({spec.name: _lazy_planes(store, spec, dataset) for spec in store.layout.arrays})
    # In memory: wherever two arrays meet, xarray compares their coordinates, and computes lazy ones to do so.
    known = {name: dataset[name].copy(data=store.vector(name)) for name in ("height", "width", "category_id")}
    dataset = dataset.assign_coords(status=dataset.status.copy(data=status), **known)
    # As objects, which xarray can fill where datasets are joined; shards differ from store to store.
    dataset = dataset.drop_vars("shard_digest").assign(error=dataset.error.astype(object))
    return dataset.assign(label=_lazy_labels(store, dataset))


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
        if one.status.ndim:
            raise StoreError(
                f"{one.status.size} images are called {image_id!r}; ask one of the stores that were joined."
            )
        if int(one.status) != Status.DONE:
            why = str(one.error.values) or f"its status is {Status(int(one.status)).name.lower()}"
            raise MasksError(f"the store holds no masks of {image_id}: {why}")
        height, width = int(one.height), int(one.width)
        # Where stores of several steps were joined, what one of them does not know is NaN.
        one = one.isel(y=slice(height), x=slice(width), category=np.flatnonzero(one.tags.values == 1))
        soft = {name: one[name] for name in ("score", "attention") if name in one}
        kept = one[[name for name in ("mask", "void", "confidence", "area") if name in one]].load()
        known = {name: kept[name].copy(data=kept[name].values == 1) for name in ("mask", "void") if name in kept}
        kept = kept.assign(known)
        kept = kept.assign(label=_label_of(kept))[["label", *kept.data_vars]]
        return kept.assign({name: _at_pixels(maps, height, width) for name, maps in soft.items()})


def _label_of(one: Any) -> Any:
    """The label map of an image of which all is in memory; `dataset.label` would make those of its whole shard."""
    import xarray

    void = one.void.values if "void" in one else None
    labels = label_map(one.mask.values, one.category_id.values, one.confidence.values, void)
    return xarray.DataArray(labels, dims=("y", "x"), attrs={"long_name": _LABEL_NAME})


def extent(maps: NDArray[np.floating[Any]]) -> tuple[int, int]:
    """(h, w) of the patch grid of maps [T, yp, xp], which lie top-left and are NaN beyond their grid."""
    there = ~np.isnan(maps).all(axis=0)
    rows, columns = np.flatnonzero(there.any(axis=1)), np.flatnonzero(there.any(axis=0))
    return (int(rows[-1]) + 1, int(columns[-1]) + 1) if rows.size else (0, 0)


@functools.cache
def _register() -> None:
    """Give every `xarray.Dataset` the attribute `wilss`."""
    import xarray

    accessor: Any = xarray.register_dataset_accessor
    accessor("wilss")(ImageAccessor)


def _at_pixels(maps: Any, height: int, width: int) -> Any:
    """Maps [category, yp, xp] on a patch grid as [category, y, x]; NaN where there are none."""
    import torch
    import xarray

    values = np.asarray(maps.values, np.float32)
    h, w = extent(values)
    pixels = np.full((len(values), height, width), np.nan, np.float32)
    if h and w:
        pixels = to_pixels(torch.from_numpy(values[:, :h, :w].copy()), height, width).numpy()
    return xarray.DataArray(pixels, dims=("category", "y", "x"), attrs=maps.attrs)


def _lazy_planes(store: MaskStore, spec: ArraySpec, dataset: Any) -> Any:
    """One of a store's sharded arrays, every plane of which the store itself reads when somebody asks for it."""
    from xarray.core import indexing

    from .lazy_planes import Planes

    lazy = dataset[spec.name].variable.copy(data=indexing.LazilyIndexedArray(Planes(store, spec)))
    return lazy.chunk(dict(zip(spec.dims, (store.layout.shard_size, *spec.shape[1:]), strict=True)))


def _lazy_labels(store: MaskStore, dataset: Any) -> Any:
    import xarray

    whole = dataset.chunk(category=-1)
    inputs = [whole.mask, whole.confidence] + ([whole.void] if store.layout.has_void else [])
    core = [["category", "y", "x"], ["category"], ["y", "x"]][: len(inputs)]
    labels = xarray.apply_ufunc(
        functools.partial(_label_one, store.vector("category_id")),
        *inputs,
        input_core_dims=core,
        output_core_dims=[["y", "x"]],
        vectorize=True,
        dask="parallelized",
        output_dtypes=[np.uint8],
    )
    rows, columns = (xarray.Variable(axis, np.arange(dataset.sizes[axis])) for axis in ("y", "x"))
    height, width = (dataset[name].variable.chunk(image=store.layout.shard_size) for name in ("height", "width"))
    inside = (rows < height) & (columns < width)
    labels = labels.copy(data=labels.variable.where(inside, np.uint8(VOID)).transpose("image", "y", "x").data)
    return labels.assign_attrs(long_name=_LABEL_NAME)


def _label_one(
    category_ids: NDArray[np.integer[Any]],
    masks: NDArray[np.bool_],
    confidence: NDArray[np.floating[Any]],
    void: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    return label_map(masks, category_ids, confidence, void)
