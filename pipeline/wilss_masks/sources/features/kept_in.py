"""Stores whose features stand for images: which they are, and whether they are of what is asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wilss.disk import Location
from wilss.errors import StoreError
from wilss.store import MaskStore, Status

from .identity import differences_of_features


@dataclass(frozen=True, kw_only=True)
class KeptIn:
    """A complete store with features. digest: of all its bytes."""

    path: Location
    digest: str


def kept_in(paths: Sequence[Location], asked: Mapping[str, Any], models: Mapping[str, Any]) -> tuple[KeptIn, ...]:
    """The stores at `paths`, in the order in which they are asked.

    asked, models: see `differences_of_features`. Raises StoreError for a store that is not complete, has no features,
    or those of other networks or inputs.
    """
    found = []
    for path in paths:
        store = MaskStore.open(path)
        if lines := differences_of_features(asked, models, store):
            told = "\n".join(f"  {line}" for line in lines)
            raise StoreError(
                f"{path} has no features that these masks could be made of:\n{told}\nLeave it out of --features-from, "
                "or make it again with --keep features and these values."
            )
        found.append(KeptIn(path=store.path.absolute(), digest=store.digest))
    return tuple(found)


def without_features(stores: Sequence[KeptIn], image_ids: Sequence[str]) -> int:
    """How many of these images have features in none of the stores."""
    missing = np.ones(len(image_ids), np.bool_)
    for one in stores:
        store = MaskStore.open(one.path)
        status = store.vector("status")
        rows = [store.find(name) for name in image_ids]
        missing &= np.array([row is None or status[row] != Status.DONE for row in rows], np.bool_)
    return int(np.count_nonzero(missing))
