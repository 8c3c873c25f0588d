"""What a sheet of the stages shows: for every image its evidence, the labels after each stage, how sure they are."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wilss.data.images import read_image
from wilss.data.layouts import ImageRecord
from wilss.data.manifest import Manifest
from wilss.data.taxonomy import VOID
from wilss.equations.metrics import Scores, confusion
from wilss.errors import ImageError, OneImageError, StoreError
from wilss.store import LabelMaps, MaskStore
from wilss.store.records import records_for

from ..stages.chain import stage_size
from ..stages.regions import NETWORKS
from ..stages.unsure import labels_of
from .kept_scores import KeptReader, fusion_of
from .maps_shown import Shown, maps_shown
from .pictures import StagePictures
from .reliability import SureMaps


@dataclass(frozen=True, kw_only=True, eq=False)
class StagesRow:
    """One image: all maps are those of the tag that has most of it.

    image: uint8 [H, W, 3]. score: float [h, w] in [0, 1]; score_cut: its cut, or infinite. evidence: float [h, w], 1
    where a mask is cut. steps: by stage, taxonomy ids uint8 [h, w]. sureness: float [H, W], calibrated where the store
    has a curve. labels: uint8 [H, W], the stored masks with void. truth: the same of pixel labels, None without. names:
    of the tags, by id.
    """

    image_id: str
    names: Mapping[int, str]
    image: NDArray[np.uint8]
    score: NDArray[np.floating]
    score_cut: float
    evidence: NDArray[np.floating]
    steps: Mapping[str, NDArray[np.uint8]]
    sureness: NDArray[np.floating]
    labels: NDArray[np.uint8]
    truth: NDArray[np.uint8] | None

    def iou(self, labels: NDArray[np.uint8]) -> float:
        """Mean IoU of the tags with the pixel label, void left out; NaN without one. labels: [h, w] of any size."""
        if self.truth is None:
            return float("nan")
        here = _nearest(labels, self.truth.shape)
        names = ("background", *self.names.values())
        return Scores(names=names, matrix=confusion(self.truth, here, tuple(self.names))).mean_iou_classes


@dataclass(frozen=True, kw_only=True, eq=False)
class StagesSheet:
    """Rows to be drawn, and why others could not be: image id -> sentence. score: how that map is headed."""

    title: str
    rows: tuple[StagesRow, ...]
    failed: Mapping[str, str]
    score: Shown


def collect_stages(store: MaskStore, manifest: Manifest, images: Sequence[int]) -> StagesSheet:
    """Everything of the images at these rows of a store; those that cannot be read are left out and named.

    Raises StoreError for a store without maps, of another manifest, or where no image is left.
    """
    reader = _Reader(store, records_for(store, manifest))
    rows, failed = [], {}
    for row in images:
        try:
            rows.append(reader.read(row))
        except OneImageError as error:
            failed[store.image_ids[row]] = str(error)
    if not rows:
        why = next(iter(failed.values()), "it has no mask on them")
        raise StoreError(f"none of the chosen images of {store.path} can be shown: {why}")
    attributes = store.attributes
    title = f"{attributes.get('manifest')}  ·  step {attributes.get('step')}, {attributes.get('split')}  ·  stages"
    return StagesSheet(title=title, rows=tuple(rows), failed=failed, score=maps_shown(store).score)


class _Reader:
    """Gathers one image's row."""

    def __init__(self, store: MaskStore, records: Mapping[str, ImageRecord]) -> None:
        self._store, self._records = store, records
        self._params = fusion_of(store)
        if self._params.regions in ("patches", *NETWORKS):
            raise StoreError(
                f"{store.path} was made with regions: {self._params.regions}, which only networks make, so that its "
                "stages cannot be shown; leave out --stages."
            )
        self._pictures = StagePictures(store, records, self._params)
        self._maps, self._sure, self._labels = KeptReader(store), SureMaps(store), LabelMaps(store)

    def read(self, row: int) -> StagesRow:
        store, record = self._store, self._records[self._store.image_ids[row]]
        picture, maps = self._pictures(row), self._maps.read(row)
        # Without void, whose pixels have lost the labels that they were not sure of.
        plain, regions = dataclasses.replace(self._params, unsure=0.0), self._pictures.regions(row, picture)
        refined = maps.refine(plain, picture, regions=regions, trace=True)
        size = stage_size(maps.height, maps.width, self._params)
        evidence = maps.evidence(size, self._params)
        ids = np.array([0, *(store.category_ids[category] for category in maps.categories)], np.uint8)
        image, labels = read_image(record.path, record.bits), self._labels(row)
        if image.shape[:2] != labels.shape:
            raise ImageError(f"{record.path} has another size than its masks; make the masks again.")
        return StagesRow(
            image_id=record.image_id,
            names={store.category_ids[category]: store.category_names[category] for category in maps.categories},
            image=image,
            score=maps.score.float().amax(dim=0).numpy(),
            score_cut=maps.cuts(self._params)[0] if maps_shown(store).score.is_cut else math.inf,
            evidence=evidence.amax(dim=0).numpy(),
            steps={name: ids[step.numpy()] for name, step in refined.steps.items()},
            sureness=self._sure(row, ids[labels_of(evidence, refined.fused).numpy()]),
            labels=labels,
            truth=_truth(record, tuple(ids[1:].tolist()), labels.shape),
        )


def _truth(record: ImageRecord, ids: tuple[int, ...], shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """The pixel label with the image's tags alone, the rest background; None without one of its size."""
    if record.label is None:
        return None
    labels = record.label.read()
    return np.where(np.isin(labels, (*ids, VOID)), labels, np.uint8(0)) if labels.shape == shape else None


def _nearest(labels: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    rows, columns = (
        ((np.arange(size) + 0.5) * labels.shape[axis] / size).astype(np.int64) for axis, size in enumerate(shape[:2])
    )
    return np.asarray(labels[rows[:, None], columns])
