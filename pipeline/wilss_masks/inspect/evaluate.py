"""A store's masks against pixel labels of the same images: how good is the supervision that we made?

The masks of an image become one label map, overlaps resolved by confidence (`wilss.store.label_map`). The
labels are restricted to the step's classes: pixels of any other class are background for this step, as they
are for whoever trains on the store. VOID in the labels is left out of every count. Void that the store itself
knows is no excuse: there is no mask there, so it counts as background.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wilss.data.layouts import ImageRecord, why_no_pixel
from wilss.data.layouts.files import read_lines, without_suffix
from wilss.data.manifest import Manifest
from wilss.data.names import composed
from wilss.equations.metrics import Scores
from wilss.errors import ManifestError, OneImageError
from wilss.process import map_in_threads
from wilss.store import MaskStore, Status, empty_masks, shows_none
from wilss.store.records import records_for

from .image_judge import ABLATION, KNOWN, STORED, ImageJudge

if TYPE_CHECKING:
    from .reliability import Reliability


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores of the stored masks and, if asked for, of the ablation's; and which images they rest on.

    scores: "stored", "known" where the store has void of its own, then the names in ABLATION. reliability: where it was
    asked for. failed: image id -> why its labels could not be used.
    left_out: why -> how many images of the store were not counted. without: of those that were, the images that are
    known to show none of the step's classes. warnings: about classes that are tagged and that no
    label or no mask shows, whose figures say nothing.
    """

    store: MaskStore
    scores: Mapping[str, Scores]
    counted: int
    failed: Mapping[str, str]
    left_out: Mapping[str, int]
    without: int = 0
    warnings: tuple[str, ...] = ()
    reliability: "Reliability | None" = None

    @property
    def void(self) -> float:
        """The share of the judged pixels that the store has made void."""
        if KNOWN not in self.scores:
            return 0.0
        return 1 - float(self.scores[KNOWN].matrix.sum() / max(self.scores[STORED].matrix.sum(), 1))

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON values; ratios in [0, 1], null where there is none."""
        attributes, stored = self.store.attributes, self.scores[STORED]
        shown = ("manifest", "protocol", "setting", "step", "split", "source", "parameters", "manifest_sha256")
        ablation = {name: scores.as_json() for name, scores in self.scores.items() if name in ABLATION}
        known = {"void": self.void, "without_void": self.scores[KNOWN].as_json()} if KNOWN in self.scores else {}
        return {
            **{key: attributes.get(key) for key in shown},
            "images": {
                "in_store": self.store.layout.num_images,
                "counted": self.counted,
                "failed": dict(self.failed),
                "left_out": dict(self.left_out),
                **({"without_the_classes": self.without} if self.without else {}),
            },
            **stored.as_json(),
            "confusion": stored.matrix_as_json(),
            **known,
            **({"ablation": ablation} if ablation else {}),
            **({"reliability": self.reliability.as_json()} if self.reliability else {}),
        }


def evaluate(
    store: MaskStore,
    manifest: Manifest,
    *,
    ablation: bool = False,
    reliability: bool = False,
    threads: int | None = None,
) -> Evaluation:
    """Compare the masks of every finished image with its pixel labels; images are streamed, never all held.

    ablation: also judge M_init, M_seeds, their intersection and union, from the kept maps with the store's
    thresholds. reliability: also whether pixels are as right as the kept maps are sure of them.
    Raises StoreError when store and manifest do not belong together or the maps were not kept; ManifestError
    when no image has pixel labels.
    """
    judge = ImageJudge(store, records_for(store, manifest), ablation, reliability)
    rows, left_out = _countable(store, judge.records)
    rows, biased, told = _unbiased(store, manifest, rows)
    left_out |= biased
    if not rows.size:
        raise ManifestError(
            f"{manifest.path} has no pixel labels of the images in {store.path}, so there is nothing to "
            "compare with; add the label files that its layout looks for."
        )
    names = ("background", *store.category_names)
    matrices, failed = _judged(judge, rows, len(names), threads)
    counted = [row for row in rows.tolist() if store.image_ids[row] not in failed]
    return Evaluation(
        store=store,
        scores={name: Scores(names=names, matrix=matrix) for name, matrix in matrices.items()},
        counted=len(counted),
        failed=failed,
        left_out=left_out,
        without=int(shows_none(store)[counted].sum()),
        warnings=(*told, *_unseen(judge, manifest, counted, matrices[STORED]), *empty_masks(store)),
        reliability=None if judge.tally is None else judge.tally.whole(names),
    )


def _judged(
    judge: ImageJudge, rows: NDArray[np.intp], labels: int, threads: int | None
) -> tuple[dict[str, NDArray[np.int64]], dict[str, str]]:
    """Sums of the confusion matrices int64 [labels, labels] of the images at `rows`; and why some have none, by id."""
    matrices = {name: np.zeros((labels, labels), np.int64) for name in judge.names}
    failed: dict[str, str] = {}
    for row, judged in zip(rows, map_in_threads(judge, rows.tolist(), threads), strict=True):
        if isinstance(judged, OneImageError):
            failed[judge.store.image_ids[row]] = str(judged)
            continue
        for name, matrix in judged.matrices.items():
            matrices[name] += matrix
        if judge.tally is not None and judged.sure is not None:
            judge.tally.add(judged.sure)
    return matrices, failed


def _unbiased(
    store: MaskStore, manifest: Manifest, rows: NDArray[np.intp]
) -> tuple[NDArray[np.intp], dict[str, int], tuple[str, ...]]:
    """The rows on whose images neither the store's settings were chosen nor masks are what a person drew.

    And how many are left out, by reason; sentences where that would leave none, so that they count all the same, and
    where nobody knows which they are.
    """
    left_out: dict[str, int] = {}
    told: list[str] = []
    for names, why in _told_before(store, manifest, told):
        with_name = np.fromiter((composed(store.image_ids[row]) in names for row in rows.tolist()), np.bool_, len(rows))
        if not with_name.any():
            continue
        if with_name.all():
            told.append(f"all images that can be judged are {why}: the figures are better than on others.")
            continue
        rows, left_out[why] = rows[~with_name], int(with_name.sum())
    return rows, left_out, tuple(told)


def _told_before(store: MaskStore, manifest: Manifest, told: list[str]) -> Iterator[tuple[set[str], str]]:
    """Ids of images, composed, and what they are; what is not known goes to `told`."""
    made_from = store.attributes.get("made_from")
    first = made_from.get("source") if isinstance(made_from, dict) else None
    if "fmwiss" in (store.attributes.get("source"), first) and manifest.chosen_on is not None:
        if manifest.chosen_on.exists():
            why = f"images that masks.fmwiss was chosen on ({manifest.chosen_on.name})"
            lines = read_lines(manifest.chosen_on)
            yield {composed(name) for line in lines for name in (line, without_suffix(line))}, why
        else:
            told.append(
                f"{manifest.chosen_on} is not there, so that nobody knows which images the settings were chosen on; "
                "they may count here."
            )
    if store.attributes.get("source") == "annotation":
        told.append(
            f"{store.path} was made from pixel labels (annotation): the figures say whether these are still the "
            "labels, and nothing of masks that are made without them."
        )
    if store.attributes.get("source") in ("panet", "insid3") and store.attributes.get("parameters", {}).get(
        "keep_masks"
    ):
        own = store.attributes.get("own_masks")
        if isinstance(own, list):
            yield set(map(composed, map(str, own))), "supports, whose masks are what a person drew"
        else:
            told.append(
                f"{store.path} was made by an older wilss, which did not note the supports; those that keep the mask "
                "that a person drew count as right. Make it again with --overwrite to leave them out."
            )


def _unseen(judge: ImageJudge, manifest: Manifest, rows: Sequence[int], matrix: NDArray[np.int64]) -> tuple[str, ...]:
    """A sentence for every class that counted images are tagged with, and that no label or no mask of theirs shows."""
    store, sentences = judge.store, []
    if store.attributes.get("uses_tags") is False:
        return ()
    tagged = store.vector("tags")[rows].sum(axis=0)
    for place, name in enumerate(store.category_names):
        if not tagged[place] or (matrix[place + 1].sum() and matrix[:, place + 1].sum()):
            continue
        why = "no mask shows it"
        if not matrix[place + 1].sum():
            records = (judge.records[store.image_ids[row]] for row in rows)
            why = f"labelled in none: {why_no_pixel(records, store.category_ids[place], manifest.taxonomy)}"
        sentences.append(f"{name!r} is tagged in {tagged[place]} of the counted images, and {why}.")
    return tuple(sentences)


def _countable(store: MaskStore, records: Mapping[str, ImageRecord]) -> tuple[NDArray[np.intp], dict[str, int]]:
    """Rows [n] whose masks and labels are both there; and how many are not, by reason."""
    status = store.vector("status")
    reasons = {
        "failed when the masks were made": status == Status.FAILED,
        "without a tag of this step": status == Status.UNTAGGED,
        "not made yet": status == Status.PENDING,
        "without pixel labels when the masks were made": status == Status.UNLABELLED,
    }
    unlabelled = np.fromiter((records[name].label is None for name in store.image_ids), np.bool_, len(status))
    reasons["without pixel labels"] = unlabelled & (status == Status.DONE)
    rows = np.flatnonzero((status == Status.DONE) & ~unlabelled)
    return rows, {why: int(which.sum()) for why, which in reasons.items() if which.any()}
