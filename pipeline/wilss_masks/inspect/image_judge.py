"""The masks of single images against their pixel labels, counted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wilss.data.layouts import ImageRecord
from wilss.data.taxonomy import VOID
from wilss.equations.metrics import confusion
from wilss.errors import ImageError, OneImageError
from wilss.store import LabelMaps, MaskStore, label_map, shows_none
from wilss.store.verdicts import UNJUDGED, verdicts_of

from ..stages.params import without_stages

if TYPE_CHECKING:
    from .kept_scores import CutOrFusion, KeptReader
    from .reliability import Counted

STORED = "stored"
#: The stored masks once more, without the pixels that the store has made void.
KNOWN = "known"
#: What `--ablation` recomputes from the kept maps, in the order of the table.
ABLATION = ("init", "seeds", "intersection", "union")


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """Confusion matrices of one image by name, and its pixels by sureness where that was asked for."""

    matrices: Mapping[str, NDArray[np.int64]]
    sure: "Counted | None" = None


class ImageJudge:
    """Reads masks and labels of single images and compares them; used by several threads.

    names: of the matrices. tally: where pixels are counted by sureness; None where nobody asked.
    """

    def __init__(
        self, store: MaskStore, records: Mapping[str, ImageRecord], ablation: bool, reliability: bool = False
    ) -> None:
        self.store, self.records = store, records
        self._ids = np.array(store.category_ids)
        self._stored = LabelMaps(store)
        self._kept = _kept_of(store) if ablation else None
        self._said, self._shows_none = (verdicts_of(store) != UNJUDGED).any(axis=1), shows_none(store)
        has_void = store.layout.has_void and store.attributes.get("source") != "annotation"
        self.names = (STORED, *((KNOWN,) if has_void else ()), *(ABLATION if ablation else ()))
        self.tally, self._sure = None, None
        if reliability:
            from .reliability import SureMaps, Tally

            self._sure = SureMaps(store)
            self.tally = Tally(len(self._ids) + 1, is_calibrated=bool(self._sure.curve))

    def __call__(self, row: int) -> Judged | OneImageError:
        """What is found of an image; or why its labels cannot be used."""
        try:
            return self._judged(row)
        except OneImageError as error:
            return error

    def _judged(self, row: int) -> Judged:
        masks, labels = self._stored.with_masks(row, void=False)
        truth, ids = self._truth(row, labels.shape), self.store.category_ids
        matrices = {STORED: confusion(truth, labels, ids)}
        known = labels if masks.void is None else np.where(masks.void, np.uint8(VOID), labels)
        if KNOWN in self.names:
            matrices[KNOWN] = confusion(np.where(known == VOID, np.uint8(VOID), truth), labels, ids)
        if self._said[row]:  # what people said of it has nothing to do with its maps
            return Judged(matrices=matrices)
        if self._shows_none[row]:  # by its tags, so that no map was made of it: background, however maps are fused
            return Judged(matrices={**dict.fromkeys(self.names, matrices[STORED]), **matrices})
        if self._kept is not None:
            ablated = _ablated(*self._kept, row, self._ids)
            matrices.update({name: confusion(truth, one, ids) for name, one in ablated.items()})
        if self._sure is None:
            return Judged(matrices=matrices)
        from .reliability import counted

        return Judged(matrices=matrices, sure=counted(self._sure(row, labels), truth, known, ids))

    def _truth(self, row: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        record = self.records[self.store.image_ids[row]]
        assert record.label is not None
        labels = record.label.read()
        if labels.shape != shape:
            raise ImageError(
                f"the labels of {record.image_id} are {labels.shape[1]} x {labels.shape[0]} pixels, its "
                f"masks {shape[1]} x {shape[0]}; fix the label file."
            )
        return labels


def _kept_of(store: MaskStore) -> "tuple[KeptReader, CutOrFusion]":
    from .kept_scores import KeptReader, fusion_of

    return KeptReader(store), fusion_of(store)


def _ablated(
    reader: "KeptReader", params: "CutOrFusion", row: int, ids: NDArray[np.int64]
) -> dict[str, NDArray[np.uint8]]:
    """Label maps of the ablation, each resolved by the confidence of its own masks."""
    from wilss.equations import fmwiss

    maps = reader.read(row)
    refined = maps.refine(without_stages(params))
    labels = {}
    for name in ABLATION:
        masks = fmwiss.fuse(refined.init, refined.seeds, name)  # type: ignore[arg-type]
        confidence = fmwiss.confidence(refined.score, masks)
        labels[name] = label_map(masks.numpy(), ids[list(maps.categories)], confidence.numpy())
    return labels
