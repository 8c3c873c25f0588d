"""Whether the masks of a store are as right as they are sure: the sureness of every pixel against pixel labels.

How sure a label is comes from the maps that a store keeps: its own evidence beside that of its strongest rival, brought
to shares that are right by the calibration that the store was made with, if it has one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from wilss.data.images import to_pixels
from wilss.data.taxonomy import VOID
from wilss.equations import calibration
from wilss.equations.metrics import Scores, or_none
from wilss.errors import StoreError
from wilss.params import divided, with_values
from wilss.store import MaskStore

from ..stages.chain import stage_size
from ..stages.unsure import sureness_of
from .kept_scores import KeptReader, fusion_of, keeps_maps

if TYPE_CHECKING:
    from ..sources.sam3 import Sam3Params

#: Where the masks' pixels could be made void, to show what would be left.
CUTS = (0.0, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@dataclass(frozen=True, kw_only=True, eq=False)
class Kept:
    """What is left where pixels below a sureness are void. share, of_masks: of all pixels, of those of masks."""

    below: float
    share: float
    of_masks: float
    scores: Scores


@dataclass(frozen=True, kw_only=True, eq=False)
class Reliability:
    """Pixels of many images by sureness, true label and label.

    names: background, then the C classes. joint: int64 [B, C + 1, C + 1], by bin, true label, label. confidence:
    float64 [B, C + 1], the sum of the pixels' sureness by bin and label. is_calibrated: whether the store has a curve.
    void: pixels that the store has made void, which take no part.
    """

    names: tuple[str, ...]
    joint: NDArray[np.int64]
    confidence: NDArray[np.float64]
    is_calibrated: bool = False
    void: int = 0

    def sums(self, label: int | None = None) -> NDArray[np.float64]:
        """What `wilss.equations.calibration` takes, [3, B]: of pixels with one label, or of all."""
        count, right = self.joint.sum(axis=1), np.diagonal(self.joint, axis1=1, axis2=2)
        by_label = np.stack([count, self.confidence, right])
        return np.asarray(by_label.sum(axis=2) if label is None else by_label[:, :, label], np.float64)

    def calibrated(self, curve: calibration.Curve) -> "Reliability":
        """The same pixels by what a curve makes of their sureness, bin by bin: each at the mean of its bin."""
        bins = calibration.FINE
        count = self.joint.sum(axis=1)
        means = np.divide(self.confidence, count, out=np.zeros_like(self.confidence), where=count > 0)
        values = calibration.calibrated(means, curve)
        place = np.minimum((values * bins).astype(np.int64), bins - 1)
        joint, confidence = np.zeros_like(self.joint), np.zeros_like(self.confidence)
        for label in range(len(self.names)):
            np.add.at(joint[:, :, label], place[:, label], self.joint[:, :, label])
            np.add.at(confidence[:, label], place[:, label], (values * count)[:, label])
        return replace(self, joint=joint, confidence=confidence, is_calibrated=True)

    @property
    def error(self) -> float:
        """ECE of all pixels; NaN without any."""
        return calibration.expected_error(self.sums())

    def kept(self) -> Iterator[Kept]:
        """What is left, by CUTS; none where next to nothing is."""
        pixels = self.joint.sum()
        masks = self.joint[:, :, 1:].sum()
        for below in CUTS:
            left = self.joint[round(below * calibration.FINE) :].sum(axis=0)
            if not left[:, 1:].any():
                return
            yield Kept(
                below=below,
                share=float(left.sum() / pixels),
                of_masks=float(left[:, 1:].sum() / masks),
                scores=Scores(names=self.names, matrix=left),
            )

    def as_json(self) -> dict[str, Any]:
        """Everything shown as JSON values."""
        diagram = calibration.reliability(self.sums())
        return {
            "calibrated": self.is_calibrated,
            "ece": or_none(self.error),
            "ece_by_label": {
                name: or_none(calibration.expected_error(self.sums(label))) for label, name in enumerate(self.names)
            },
            "pixels": int(self.joint.sum()),
            "void_in_store": self.void,
            "bins": [
                {"sureness": or_none(sure), "right": or_none(right), "pixels": int(count)}
                for sure, right, count in zip(*(part.tolist() for part in diagram), strict=True)
            ],
            "void_below": [
                {
                    "sureness": kept.below,
                    "kept": kept.share,
                    "kept_of_masks": kept.of_masks,
                    "mean_iou": or_none(kept.scores.mean_iou),
                    "mean_iou_without_background": or_none(kept.scores.mean_iou_classes),
                }
                for kept in self.kept()
            ],
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Counted:
    """The pixels of one image: places [K] of the labels that it holds, ascending, and sums of these alone.

    joint: int64 [B, K, K], confidence: float64 [B, K], as in `Reliability`. void: pixels that the store has made void.
    """

    places: NDArray[np.int64]
    joint: NDArray[np.int64]
    confidence: NDArray[np.float64]
    void: int


class Tally:
    """Adds up the pixels of images. labels: how many there are, with the background."""

    def __init__(self, labels: int, *, is_calibrated: bool) -> None:
        self._joint = np.zeros((calibration.FINE, labels, labels), np.int64)
        self._confidence = np.zeros((calibration.FINE, labels))
        self._void, self._is_calibrated = 0, is_calibrated

    def add(self, one: Counted) -> None:
        """Take in an image."""
        self._joint[np.ix_(np.arange(calibration.FINE), one.places, one.places)] += one.joint
        self._confidence[:, one.places] += one.confidence
        self._void += one.void

    def whole(self, names: tuple[str, ...]) -> Reliability:
        """All that was added. names: of the labels."""
        return Reliability(
            names=names,
            joint=self._joint,
            confidence=self._confidence,
            is_calibrated=self._is_calibrated,
            void=self._void,
        )


class SureMaps:
    """How sure the labels of single images are; several threads may ask at once.

    Raises StoreError for a store that says no more of a pixel than its label.
    """

    def __init__(self, store: MaskStore) -> None:
        if store.layout.score_grid is None:
            raise StoreError(_why_nothing(store))
        self._reader = KeptReader(store)
        self._params = fusion_of(store) if keeps_maps(store) else None
        self._ids, self._tags = np.array(store.category_ids), store.vector("tags")
        noted = store.attributes.get("parameters", {})
        self._sam3 = _sam3_of(noted) if store.attributes.get("source") == "sam3" else None
        self.curve: calibration.Curve = [(x, y) for x, y in noted.get("calibration", ())]

    def __call__(self, row: int, labels: NDArray[np.uint8]) -> NDArray[np.floating]:
        """The sureness [H, W] in [0, 1] of `labels` [H, W], taxonomy ids; calibrated where the store has a curve."""
        categories = np.array(self._reader.with_maps(row, np.flatnonzero(self._tags[row])), np.intp)
        place = np.zeros(256, np.uint8)
        place[self._ids[categories]] = np.arange(1, len(categories) + 1)
        sure = self._sureness(row, torch.from_numpy(place[labels])).numpy()
        return calibration.calibrated(sure, self.curve) if self.curve else sure

    def _sureness(self, row: int, labels: torch.Tensor) -> torch.Tensor:
        """labels: uint8 [H, W], t + 1 for tag t."""
        height, width = labels.shape
        if self._sam3 is not None:
            from ..sources import sam3_proposer

            size = stage_size(height, width, self._sam3)
            return sureness_of(sam3_proposer.evidence_of(self._reader.scores(row), size, self._sam3), labels)
        if self._params is None:
            score = to_pixels(self._reader.scores(row).float(), height, width)
            return calibration.sureness(score, labels, (1 - score.sum(dim=0)).clamp_min(1e-6))
        maps = self._reader.read(row)
        size = stage_size(height, width, self._params)
        return sureness_of(maps.evidence(size, self._params), labels)


def _sam3_of(noted: Mapping[str, Any]) -> "Sam3Params":
    from ..sources.sam3 import Sam3Params

    return with_values(Sam3Params(), divided(Sam3Params, noted)[0], where="parameters of the store")


def _why_nothing(store: MaskStore) -> str:
    source = store.attributes.get("source")
    if source == "annotation":
        return (
            f"{store.path} was made from pixel labels (annotation), which say no more of a pixel than its class; there "
            "is nothing to calibrate, so leave out --reliability."
        )
    return (
        f"{store.path} keeps no score maps, so that nobody knows how sure its pixels are; make it with `wilss-masks "
        f"generate --source {source} --keep scores`."
    )


def counted(
    sure: NDArray[np.floating], truth: NDArray[np.uint8], labels: NDArray[np.uint8], ids: Sequence[int]
) -> Counted:
    """The pixels of one image by sureness.

    sure, truth, labels: [H, W]. Pixels that are VOID in either take no part; ids beside `ids` are background.
    """
    channel = np.zeros(256, np.int64)
    channel[list(ids)] = np.arange(1, len(ids) + 1)
    known = (truth != VOID) & (labels != VOID)
    true, label = channel[truth[known]], channel[labels[known]]
    places = np.flatnonzero(np.bincount(true, minlength=len(ids) + 1) + np.bincount(label, minlength=len(ids) + 1))
    local = np.zeros(len(ids) + 1, np.int64)
    local[places] = np.arange(len(places))
    size, bins, values = len(places), calibration.FINE, np.asarray(sure[known], np.float64)
    place = np.minimum((values * bins).astype(np.int64), bins - 1)
    at_both, at_label = (place * size + local[true]) * size + local[label], place * size + local[label]
    return Counted(
        places=places,
        joint=np.bincount(at_both, minlength=bins * size * size).reshape(bins, size, size),
        confidence=np.bincount(at_label, values, minlength=bins * size).reshape(bins, size).astype(np.float64),
        void=int(np.count_nonzero((truth != VOID) & (labels == VOID))),
    )
