"""A store's sharded arrays as xarray reads them; apart, since whoever wants no xarray should not wait for it."""

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from .schema import ArraySpec
from .store import MaskStore


class Planes(BackendArray):
    """One sharded array of a store; it can be pickled, as for worker processes of a `DataLoader` that are spawned."""

    def __init__(self, store: MaskStore, spec: ArraySpec) -> None:
        self.store, self.spec = store, spec
        # Sums and counts of float16 overflow at 65,504: xarray's mean of a few shards would be 0 or infinite.
        self.shape, self.dtype = spec.shape, np.dtype("float32" if spec.dtype == "float16" else spec.dtype)

    def __getitem__(self, asked: Any) -> Any:
        return indexing.explicit_indexing_adapter(asked, self.shape, indexing.IndexingSupport.BASIC, self._part)

    def _part(self, asked: tuple[Any, ...]) -> NDArray[Any]:
        """What integers and slices name, one of them for every axis."""
        name, shape, plane = self.spec.name, self.spec.shape, self.spec.plane
        lead = len(shape) - len(plane)
        places = [np.arange(size)[key] for size, key in zip(shape[:lead], asked[:lead], strict=True)]
        wanted = itertools.product(*(np.atleast_1d(some).tolist() for some in places))
        parts = [self.store.plane(name, *position)[asked[lead:]] for position in wanted]
        empty = np.empty((0, *np.empty(plane, np.bool_)[asked[lead:]].shape), self.dtype)
        planes = np.stack(parts).astype(self.dtype, copy=False) if parts else empty
        return planes.reshape(*itertools.chain.from_iterable(some.shape for some in places), *planes.shape[1:])
