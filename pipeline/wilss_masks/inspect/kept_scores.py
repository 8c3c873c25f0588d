"""Soft layers that a store was told to keep, as the last part of the method takes them: no network needed."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wilss.equations import fmwiss
from wilss.errors import MasksError, StoreError
from wilss.params import divided, with_values
from wilss.store import MaskStore
from wilss.store.verdicts import CORRECTED, verdicts_of
from wilss.store.view import extent

from ..sources.cam.masks import evidence_of_cam, refine_cam
from ..sources.cam.params import CutParams
from ..sources.fmwiss_params import FusionParams
from ..sources.fusion import Refined, evidence_of, refine

#: Parameters that turn kept maps into masks, by the kind of maps.
CutOrFusion = FusionParams | CutParams


@dataclass(frozen=True, kw_only=True)
class KeptMaps:
    """The soft layers of one image, cut to its own patch grids.

    categories: positions on the store's axis, T of them. score: float16 [T, h, w]; attention: float16
    [T, ha, wa]; seeds: int16 [T, S, 2] (row, column) on the grid of `score`. height, width: of the image.
    """

    categories: tuple[int, ...]
    score: Tensor
    attention: Tensor
    seeds: Tensor
    height: int
    width: int

    def refine(
        self,
        params: CutOrFusion,
        picture: Tensor | None = None,
        *,
        regions: Tensor | None = None,
        trace: bool = False,
    ) -> Refined:
        """The masks that these maps give. picture, regions, trace: see `sources.fusion.refine`."""
        size = self.height, self.width
        if isinstance(params, CutParams):
            return refine_cam(self.score, self.attention, *size, params, picture, regions=regions, trace=trace)
        return refine(self.score, self.attention, *size, params, picture, regions=regions, trace=trace)

    def evidence(self, size: tuple[int, int], params: CutOrFusion) -> Tensor:
        """How strongly pixels belong to each tag, float32 [T, *size], 1 where a mask is cut."""
        if isinstance(params, CutParams):
            return evidence_of_cam(self.attention, size, params)
        return evidence_of(self.score, self.attention, size, params)

    def cuts(self, params: CutOrFusion) -> tuple[float, Tensor]:
        """Where the score maps are cut, and where each attention map is, [T]."""
        if isinstance(params, CutParams):
            return params.cut, torch.full((len(self.attention),), params.cut)
        return params.threshold, fmwiss.keep_top(self.attention.float(), params.keep_amount, params.keep)


def keeps_maps(store: MaskStore) -> bool:
    """Whether the store keeps score and attention maps."""
    return store.layout.score_grid is not None and store.layout.attention_grid is not None


def fusion_of(store: MaskStore) -> CutOrFusion:
    """The parameters with which the store's maps became masks, those of its source.

    Raises StoreError when the store keeps no maps to fuse.
    """
    parameters = store.attributes.get("parameters", {})
    if not isinstance(parameters, dict):
        raise StoreError(
            f"{store.path}: its attribute `parameters` is not a mapping; fetch another copy, or make it again."
        )
    if not keeps_maps(store):
        raise StoreError(_why_not_fused(store, "fusion" in parameters or "cut" in parameters))
    params: CutOrFusion = CutParams() if store.attributes.get("source") == "cam" else FusionParams()
    stored, _ = divided(type(params), parameters)
    return with_values(params, stored, where=f"{store.path}: parameters")


def _why_not_fused(store: MaskStore, fuses: bool) -> str:
    if fuses:
        return f"{store.path} keeps no score and attention maps; make it with `wilss-masks generate --keep scores`."
    return (
        f"{store.path} was made by {store.attributes.get('source')}, whose masks are not fused from a score and an "
        "attention map; give a store made by fmwiss or cam with --keep scores."
    )


class KeptReader:
    """Reads the soft layers of a store image by image; safe to use from several threads."""

    def __init__(self, store: MaskStore) -> None:
        self.store = store

    def read(self, row: int) -> KeptMaps:
        """The soft layers of the image at `row`, for every category that it is tagged with and has some of."""
        tags, heights, widths = self._vectors
        categories = self.with_maps(row, np.flatnonzero(tags[row]).tolist())
        return KeptMaps(
            categories=categories,
            score=torch.from_numpy(self._maps("score", row, categories)),
            attention=torch.from_numpy(self._maps("attention", row, categories)),
            seeds=torch.from_numpy(self._seeds(row, categories)),
            height=int(heights[row]),
            width=int(widths[row]),
        )

    def score(self, row: int, category: int) -> NDArray[np.float16]:
        """The score map [h, w] of one category, also where the store keeps no attention."""
        score_map: NDArray[np.float16] = self._maps("score", row, (category,))[0]
        return score_map

    def scores(self, row: int) -> Tensor:
        """The score maps float16 [T, h, w] of all T categories that the image is tagged with, without attention."""
        return torch.from_numpy(self._maps("score", row, self.with_maps(row, self._vectors[0][row].nonzero()[0])))

    def has_maps(self, row: int, category: int) -> bool:
        """Whether there are maps of a category that the image is tagged with: of a class that a person added, none."""
        judged = self._verdicts[row, category] == CORRECTED
        return not judged or not np.isnan(self.store.plane("score", row, category)).all()

    def with_maps(self, row: int, categories: Iterable[int]) -> tuple[int, ...]:
        """Of these categories those that have maps."""
        return tuple(int(category) for category in categories if self.has_maps(row, category))

    @cached_property
    def _verdicts(self) -> NDArray[np.int8]:
        return verdicts_of(self.store)

    @cached_property
    def _vectors(self) -> tuple[NDArray[np.bool_], NDArray[np.int32], NDArray[np.int32]]:
        return self.store.vector("tags"), self.store.vector("height"), self.store.vector("width")

    def _maps(self, name: str, row: int, categories: tuple[int, ...]) -> NDArray[np.float16]:
        if not categories:
            raise MasksError(f"{self.store.path} has no map of {self.store.image_ids[row]}; leave the image out.")
        maps = np.stack([self.store.plane(name, row, category) for category in categories])
        h, w = extent(maps)
        if not h or np.isnan(maps[:, :h, :w]).any():
            raise MasksError(
                f"{self.store.path} has no whole {name} map of {self.store.image_ids[row]}; `wilss-masks "
                "verify` finds what is damaged."
            )
        return np.ascontiguousarray(maps[:, :h, :w])

    def _seeds(self, row: int, categories: tuple[int, ...]) -> NDArray[np.int16]:
        if not self.store.layout.num_seeds:
            return np.zeros((len(categories), 0, 2), np.int16)
        return np.stack([self.store.plane("seeds", row, category) for category in categories])
