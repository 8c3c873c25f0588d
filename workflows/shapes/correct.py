"""What correcting a few masks is worth, chosen by `suggest` or at random: five rounds of 20 corrected masks.

    python workflows/shapes/correct.py           # the masks of step 1; prints the curve, writes figures/correct.json
    python workflows/shapes/correct.py tune      # the rules, on drawings of another seed, which are never reported
    python workflows/shapes/correct.py student   # the student after no, 100 suggested and 100 random corrections
    python workflows/shapes/correct.py plot      # draws correct.png from the figures

A correction takes the true mask for the store's, of every class that the image is tagged with. Random choice is the
mean over 20 orders.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from runs import HERE, RESULTS, ROOT, command  # first, it makes `tables` known

import wilss
from wilss.data.manifest import Manifest
from wilss.data.taxonomy import VOID
from wilss.equations.metrics import Scores, confusion
from wilss.randomness import numpy_generator_for
from wilss.store import LabelMaps, MaskStore, Status
from wilss.store.records import records_for
from wilss_masks import Correction, revise
from wilss_masks.inspect.evaluate import evaluate
from wilss_masks.review.doubt import choose, doubts
from wilss_masks.review.suggest import suggest

ROUNDS, MASKS, ORDERS = 5, 20, 20
MADE = RESULTS / "correct"
#: Of every training run; in fp32, which processors without instructions for bf16 do faster.
FIXED = ("-q", "--threads", "1", "--precision", "fp32", "--resume")
WHEN = datetime(2026, 11, 29, tzinfo=UTC)


class Truth:
    """A store's images with their label maps, and what correcting each would do.

    before, after: int64 [N, C + 1, C + 1], the confusion of an image with its labels; masks: int [N], those to correct.
    """

    def __init__(self, store: MaskStore, manifest: Manifest) -> None:
        self.store, self.names = store, ("background", *store.category_names)
        self._records, self._ids = records_for(store, manifest), store.category_ids
        self.tags = store.vector("tags") & (store.current_status() == Status.DONE)[:, None]
        self.masks, count = self.tags.sum(axis=1), len(self.names)
        self.before, self.after = (np.zeros((len(self.masks), count, count), np.int64) for _ in range(2))
        labels = LabelMaps(store)
        for row in np.flatnonzero(self.masks).tolist():
            truth = self.label(row)
            shown = self._channels(labels(row, void=False))
            held = np.isin(truth, 1 + np.flatnonzero(self.tags[row]))
            self.before[row] = confusion(truth, shown, range(1, count))
            self.after[row] = confusion(truth, np.where(held, truth, 0).astype(np.uint8), range(1, count))

    def label(self, row: int) -> NDArray[np.uint8]:
        """uint8 [H, W]: 0, the place of a class of the step + 1, or VOID."""
        label = self._records[self.store.image_ids[row]].label
        assert label is not None
        return self._channels(label.read())

    def score(self, corrected: Sequence[int]) -> float:
        """Mean IoU of all masks once those of these rows are corrected."""
        matrix = self.before.sum(axis=0)
        for row in corrected:
            matrix = matrix + self.after[row] - self.before[row]
        return float(Scores(names=self.names, matrix=matrix).mean_iou)

    def corrections(self, rows: Sequence[int]) -> Iterator[Correction]:
        """The true masks of these rows."""
        for row in rows:
            label = self.label(row)
            for place in np.flatnonzero(self.tags[row]).tolist():
                yield Correction(
                    image_id=self.store.image_ids[row], category=self._ids[place], verdict="corrected",
                    mask=label == place + 1, author="truth", at=WHEN, origin="labels",
                )  # fmt: skip

    def _channels(self, label: NDArray[np.uint8]) -> NDArray[np.uint8]:
        table = np.zeros(256, np.uint8)
        table[VOID] = VOID
        table[list(self._ids)] = np.arange(1, len(self.names))
        return table[label]


def rounds(truth: Truth, order: Sequence[int]) -> list[list[int]]:
    """The rows that are corrected after each round, none at first: so many of `order` as bring 20 masks more."""
    found: list[list[int]] = [[]]
    masks, done = 0, list[int]()
    for row in order:
        if len(found) > ROUNDS:
            break
        done.append(row)
        masks += int(truth.masks[row])
        if masks >= MASKS * len(found):
            found.append(list(done))
    return found


def suggested(truth: Truth) -> list[int]:
    """All images, as `suggest` orders them."""
    return [truth.store.position(one.image_id) for one in suggest(truth.store, truth.store.layout.num_images)]


def drawn(truth: Truth, number: int) -> list[int]:
    """All images in an order that is drawn."""
    rows = np.flatnonzero(truth.masks)
    order: list[int] = numpy_generator_for(number, "correct at random").permutation(rows).tolist()
    return order


def random_curve(truth: Truth) -> NDArray[np.float64]:
    """Mean IoU after every round, [orders, rounds + 1]."""
    return np.array([[truth.score(rows) for rows in rounds(truth, drawn(truth, n))] for n in range(ORDERS)])


def curve(truth: Truth, order: Sequence[int]) -> list[float]:
    """Mean IoU after every round."""
    return [truth.score(rows) for rows in rounds(truth, order)]


def best(truth: Truth) -> list[int]:
    """What nobody can know: the images whose masks are the worst, by the pixels that a correction sets right."""
    right = [np.trace(truth.after[row]) - np.trace(truth.before[row]) for row in range(len(truth.masks))]
    rows = np.flatnonzero(truth.masks)
    order: list[int] = rows[np.argsort(-np.array(right)[rows], kind="stable")].tolist()
    return order


@cache
def store_of(name: str, *words: str) -> tuple[MaskStore, Manifest]:
    """A store of the walk's masks; made where it is not there."""
    manifest = next((words[i + 1] for i, word in enumerate(words) if word == "--manifest"), "data_manifest.yaml")
    path = RESULTS / "masks" / name
    command("wilss-masks", "generate", *words, "--out", path)
    return MaskStore.open(path), wilss.load_manifest(ROOT / manifest)


def measure() -> None:
    """The curve of step 1's masks; its end is checked on a store that `revise` makes."""
    store, manifest = store_of("step-1.zarr", "--step", "1")
    truth = Truth(store, manifest)
    order, others = suggested(truth), random_curve(truth)
    mine, known = curve(truth, order), curve(truth, best(truth))
    _check(truth, manifest, rounds(truth, order)[-1], mine[-1])
    rows = [
        {
            "key": str(MASKS * number),
            "name": f"{MASKS * number} of {int(truth.masks.sum())}",
            "suggested": 100 * mine[number],
            "random": {"mean": 100 * others[:, number].mean(), "sd": 100 * others[:, number].std(ddof=1)},
            "best": 100 * known[number],
        }
        for number in range(ROUNDS + 1)
    ]
    columns = {"suggested": "`suggest`", "random": "at random", "best": "the worst first, which nobody knows"}
    _keep("correct", "", "corrected masks", columns, rows)


def _check(truth: Truth, manifest: Manifest, rows: Sequence[int], expected: float) -> None:
    revised = revise(
        truth.store, MADE / "suggested.zarr", corrections={"labels": truth.corrections(rows)}, overwrite=True
    )
    score = evaluate(revised.store, manifest).scores["stored"].mean_iou
    assert abs(score - expected) < 1e-9, (score, expected)


def tune() -> None:
    """Rules beside each other on the tuning pictures: the mean over the rounds, and the last one."""
    given = ("--manifest", "workflows/shapes/tuning.yaml", "--step", "0", "--split", "val")
    truth = Truth(*store_of("tuning-val.zarr", *given))
    store, others = truth.store, random_curve(truth)
    confidence, area = store.vector("confidence"), store.vector("area")
    share = area / (store.vector("height") * store.vector("width"))[:, None]
    usual = _usual(share, truth.tags)
    rules: dict[str, Callable[[], list[int]]] = {
        "confidence, classes in turn": lambda: _chosen(truth, [confidence]),
        "area, classes in turn": lambda: _chosen(truth, [usual]),
        "confidence and area, classes in turn": lambda: _chosen(truth, [confidence, usual]),
        "confidence, classes by what they lack": lambda: _apportioned(truth, confidence),
        "confidence, all classes at once": lambda: _at_once(truth, confidence),
        "suggest": lambda: suggested(truth),
        "the worst, which nobody knows": lambda: best(truth),
    }
    curves = {"at random": others.mean(axis=0).tolist()} | {name: curve(truth, rule()) for name, rule in rules.items()}
    rows = [
        {"key": name, "name": name, "mean": 100 * float(np.mean(scores[1:])), "last": 100 * scores[-1]}
        for name, scores in curves.items()
    ]
    columns = {"mean": "mean of five rounds", "last": "after the last"}
    _keep("correct-rules", " tune", "by", columns, rows)


def _usual(share: NDArray[np.floating[Any]], tags: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How usual the area of a mask is in its class: minus |log of share over the median share|, [N, C]."""
    logs = np.log(np.where(tags & (share > 0), share, np.nan))
    return np.asarray(-np.abs(logs - np.nanmedian(logs, axis=0)))


def _chosen(truth: Truth, signals: list[Any]) -> list[int]:
    doubt = doubts(signals, truth.tags, truth.store.vector("area") == 0)
    return [row for row, _ in choose(doubt, len(doubt), names=truth.store.image_ids)]


def _apportioned(truth: Truth, confidence: NDArray[np.floating[Any]]) -> list[int]:
    """Turns in proportion to what the confidences of a class lack to 1 in sum (Sainte-Lague)."""
    lack = np.where(truth.tags, 1 - np.nan_to_num(confidence), -1.0)
    weights, turns, order = np.where(lack > 0, lack, 0).sum(axis=0), np.zeros(lack.shape[1]), list[int]()
    while (lack >= 0).any():
        open_ = (lack >= 0).any(axis=0)
        place = int(np.argmax(np.where(open_, weights / (2 * turns + 1), -1.0)))
        row = int(np.argmax(lack[:, place]))
        order.append(row)
        turns[place] += 1
        lack[row] = -1.0
    return order


def _at_once(truth: Truth, confidence: NDArray[np.floating[Any]]) -> list[int]:
    least = np.where(truth.tags, np.nan_to_num(confidence, nan=-1.0), np.inf).min(axis=1)
    return [row for row in np.argsort(least, kind="stable").tolist() if truth.masks[row]]


def student() -> None:
    """mIoU of a student of each store, one seed, finetuned from the walk's base."""
    store, manifest = store_of("step-1.zarr", "--step", "1")
    truth = Truth(store, manifest)
    stores = {"none": store.path}
    for name, order in (("suggested", suggested(truth)), ("random", drawn(truth, 0))):
        stores[name] = MADE / f"{name}.zarr"
        told = {"labels": truth.corrections(rounds(truth, order)[-1])}
        revise(store, stores[name], corrections=told, overwrite=True)
    base = MADE / "base"
    if not (base / "done.json").exists():
        store_of("step-0.zarr", "--step", "0")
        command("wilss-train", *FIXED, "--masks", RESULTS / "masks/step-0.zarr", "--out", base)
    names = {"none": "none", "random": "100 at random", "suggested": "100 by `suggest`"}
    rows = []
    for name, title in names.items():
        out = MADE / f"student-{name}"
        command("wilss-train", *FIXED, "--masks", stores[name], "--from", base, "--out", out)
        scores = json.loads((out / "report.json").read_text(encoding="utf-8"))["scores"]
        new = float(np.mean([scores["iou"][one] for one in store.category_names]))
        rows.append({"key": name, "name": title, "new": 100 * new, "all": 100 * scores["mean_iou"]})
        print(rows[-1], flush=True)
    _keep("correct-student", " student", "corrected masks", {"new": "new", "all": "all"}, rows, seeds=1)


def _keep(
    name: str, words: str, heading: str, columns: dict[str, str], rows: list[dict[str, Any]], **more: Any
) -> None:
    import tables

    measured = tables.measured_now(f"python workflows/shapes/correct.py{words}", **more)
    figures = {"heading": heading, "measured": measured, "columns": columns, "rows": rows}
    print(tables.table_of(figures))
    (HERE / "figures" / f"{name}.json").write_text(tables.as_text(figures), encoding="utf-8")


def plot() -> None:
    """correct.png: mean IoU of the masks over how many were corrected."""
    import matplotlib.pyplot as plt

    rows = json.loads((HERE / "figures/correct.json").read_text(encoding="utf-8"))["rows"]
    masks = [int(row["key"]) for row in rows]
    mean, sd = (np.array([row["random"][name] for row in rows]) for name in ("mean", "sd"))
    figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
    axes.plot(masks, [row["best"] for row in rows], ":", color="0.5", label="the worst first, which nobody knows")
    axes.plot(masks, [row["suggested"] for row in rows], "o-", color="#c2410c", label="suggest")
    axes.plot(masks, mean, "s--", color="#1d4ed8", label="at random")
    axes.fill_between(masks, mean - sd, mean + sd, color="#1d4ed8", alpha=0.15, linewidth=0)
    axes.set_xlabel("corrected masks")
    axes.set_ylabel("mean IoU of all masks, %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(HERE / "correct.png", dpi=110)


if __name__ == "__main__":
    MADE.mkdir(parents=True, exist_ok=True)
    {"": measure, "tune": tune, "student": student, "plot": plot}[" ".join(sys.argv[1:])]()
