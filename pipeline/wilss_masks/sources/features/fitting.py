"""Bases for features: fitted on images that are drawn by name, before the first shard is made."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from wilss.errors import ImageError, StoreError
from wilss.randomness import generator_for, seed_for
from wilss.store import FeatureLayout

from ..base import Grids, ImageTask

if TYPE_CHECKING:
    from torch import Tensor

    from wilss.equations.features import Basis, Moments

    from ..fmwiss_proposer import FmwissProposer
    from .rows import BlockForm

#: How features are projected: along the directions in which they differ most, or along random ones.
Projection = Literal["pca", "random"]
#: Images that a basis is fitted on.
SAMPLE = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedFeatures:
    """What a store is begun with. layouts: by encoder; bases: the small arrays of these by name."""

    layouts: tuple[FeatureLayout, ...]
    bases: dict[str, NDArray[np.float32]]


def drawn(tasks: Iterable[ImageTask], seed: int) -> list[ImageTask]:
    """The tasks in the order in which they are taken for the sample, which their names alone decide."""
    return sorted(tasks, key=lambda task: seed_for(seed, "features", task.record.image_id))


def fitted(
    proposer: "FmwissProposer",
    tasks: Sequence[ImageTask],
    grids: Sequence[Grids],
    *,
    dims: int,
    projection: Projection,
    seed: int,
) -> FittedFeatures:
    """Bases of both encoders. tasks: all images of the plan that can be used; grids: of all of them.

    Of `dims` dimensions, or as many as there are. Images that cannot be decoded, and those of which a network gives NaN
    or infinity, are passed over. Raises StoreError where no other is there.
    """
    moments, form = _moments(proposer, drawn(tasks, seed), SAMPLE if projection == "pca" else 1)
    bases = {name: _basis(name, own, dims, projection, seed) for name, own in moments.items()}
    most, prefix = most_patches(grids), {"clip": 0, "vit": form.prefix}
    notes = {"clip": {"logit_scale": proposer.logit_scale}, "vit": form.notes}
    layouts = tuple(
        FeatureLayout(
            name=name,
            tokens=prefix[name] + most[name],
            dims=len(basis.rows),
            width=len(basis.mean),
            prefix=prefix[name],
            notes=notes[name],
        )
        for name, basis in bases.items()
    )
    arrays = {
        array: values.numpy()
        for layout in layouts
        for array, values in zip(layout.vectors, (bases[layout.name].mean, bases[layout.name].rows), strict=True)
    }
    return FittedFeatures(layouts=layouts, bases=arrays)


def most_patches(grids: Iterable[Grids]) -> dict[str, int]:
    """By encoder the patches of the image with the most."""
    listed = list(grids)
    return {
        "clip": max(math.prod(grid.score or (0, 0)) for grid in listed),
        "vit": max(math.prod(grid.attention or (0, 0)) for grid in listed),
    }


def _moments(
    proposer: "FmwissProposer", tasks: Sequence[ImageTask], count: int
) -> "tuple[dict[str, Moments], BlockForm]":
    """Moments by encoder of the first `count` images that can be used, and the form of the ViT's rows."""
    from wilss.equations.features import Moments

    moments: dict[str, Moments] = {}
    form = None
    for by_encoder, own_form in _encoded(proposer, tasks, count):
        form = own_form
        for name, rows in by_encoder.items():
            own = Moments.of(rows.cpu())
            moments[name] = own if name not in moments else moments[name] + own
    if form is None:
        raise StoreError(
            "no image can be decoded and encoded to fit a projection of features on; make the masks without --keep "
            "features, which tells what is wrong with each."
        )
    return moments, form


def _basis(name: str, moments: "Moments", dims: int, projection: Projection, seed: int) -> "Basis":
    from wilss.equations.features import principal_basis, random_basis

    if projection == "pca":
        return principal_basis(moments, dims)
    return random_basis(len(moments.total), dims, generator_for(seed, "features", name))


def _encoded(
    proposer: "FmwissProposer", tasks: Sequence[ImageTask], count: int
) -> "Iterator[tuple[dict[str, Tensor], BlockForm]]":
    """Rows [L, D] by encoder of the first `count` images that can be used, each encoded by itself."""
    import torch

    from .rows import BlockForm, block_rows, patch_rows

    done = 0
    for task in tasks:
        try:
            loaded = proposer.load(task)
        except ImageError:
            continue
        with torch.inference_mode():
            told, blocks = proposer.forward([loaded])
            assert isinstance(told, torch.Tensor)
            rows = {"clip": patch_rows(told)[0], "vit": block_rows(blocks[0])[0]}
            if not all(own.isfinite().all() for own in rows.values()):
                continue
            yield rows, BlockForm.of(blocks[0])
        done += 1
        if done == count:
            return
