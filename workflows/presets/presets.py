"""Which parameters a new manifest should begin with: chosen on several kinds of pictures, judged on others of each.

    python workflows/presets/presets.py choose      # the best settings over all kinds, on their lists to choose on
    python workflows/presets/presets.py judge       # writes figures/presets.json: paper, recommended, tuned

`choose` compares settings on each kind as `wilss-masks tune` does; what it prints first, by the mean over the kinds of
the mean IoU, is what `wilss_masks.sources.presets` recommends.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from kinds import CHOSEN, JUDGED, KINDS, made

from wilss.data.manifest.manifest import Manifest
from wilss.params import with_values
from wilss_masks.make.options import Options
from wilss_masks.make.request import plan_for
from wilss_masks.sources.fmwiss import FmwissSource
from wilss_masks.sources.fmwiss_params import FmwissParams
from wilss_masks.sources.presets import PAPER, PRESETS, RECOMMENDED
from wilss_masks.tuning.judging import Judge, Tally
from wilss_masks.tuning.sample import draw_sample
from wilss_masks.tuning.scratch import Scratch
from wilss_masks.tuning.settings import Setting

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
#: What the built-in encoders do best with, and no setting may change.
SIZES = {"clip_size": 0, "vit_size": 192}
#: What was recommended before there were stages.
FORMER = {"preset": PAPER, "threshold": 0.2, "keep": "std", "keep_amount": 1.0, "fusion": "seeds", "draws": 5}
#: What was tried in the place of the recommended parameters, one lever at a time.
TRIED: tuple[dict[str, Any], ...] = (
    *({"power": power} for power in (1.5, 2.0, 3.0)),
    *({"passes": passes} for passes in (1, 3)),
    *({"keep_amount": amount} for amount in (0.6, 0.7, 0.9, 1.0, 1.2)),
    *({"balance": balance} for balance in ("symmetric", "sinkhorn")),
    *({"affinity": affinity} for affinity in ("qq+kk", "kk")),
    *({"guided_radius": radius} for radius in (8, 16, 32)),
    *({"guided_eps": eps} for eps in (0.001, 0.00001)),
    *({"boundaries": "pamr", "pamr_rounds": rounds} for rounds in (10, 20)),
    *({"background": "margin", "power": power} for power in (1.0, 2.0)),
    *(
        {"regions": "felzenszwalb"},
        {"boundaries": "none"},
        {"classes": "overlap"},
        {"fusion": "union", "threshold": 0.9},
    ),
)

sys.path.insert(0, str(HERE.parent))
import tables  # noqa: E402


def scores(manifest: Manifest, split: str, candidates: Sequence[Setting], count: int) -> np.ndarray:
    """The mean IoU of the classes of every setting on a split [S]."""
    sample = draw_sample(manifest, 0, split=split, count=count)
    source = FmwissSource.from_manifest(manifest, 0, SIZES).prepare("cpu")
    plan = plan_for(manifest, 0, source, sample.records, Options())
    scratch = Scratch(RESULTS / f"scratch/{manifest.name}-{split}", plan, {"own": source}, "cpu")
    scratch.see(lambda done, total: None)
    judge, total = Judge(candidates, {"own": source}, sample.classes, guesses=False), None
    for number in range(len(scratch.batches)):
        for seen in scratch.read(number):
            tally = judge(seen, sample.truths(seen.task.record))
            total = total or Tally.empty(len(candidates), len(sample.classes))
            total.add(tally)
        print(f"  {manifest.name}, {split}: batch {number + 1} of {len(scratch.batches)}", file=sys.stderr, flush=True)
    assert total is not None
    return total.mean_iou


def all_settings() -> tuple[Setting, ...]:
    """The recommended parameters, and what differs from them by one lever."""
    recommended = with_values(FmwissParams(), {**PRESETS[RECOMMENDED]["fmwiss"], **SIZES}, where="presets")
    return tuple(Setting(params=with_values(recommended, values, where="presets")) for values in ({}, *TRIED))


def choose() -> None:
    """Print the best settings over all kinds, and of each."""
    candidates, found = all_settings(), {}
    for kind in KINDS:
        file = RESULTS / f"choose-{kind}.npy"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, scores(made(kind, RESULTS), "train", candidates, CHOSEN))
        found[kind] = np.load(file)
    mean = np.mean(list(found.values()), axis=0)
    for place in np.argsort(-mean, kind="stable")[:15].tolist():
        shown = "  ".join(f"{100 * found[kind][place]:5.1f}" for kind in KINDS)
        print(f"{100 * mean[place]:5.1f}  {shown}  {candidates[place].name}")
    for kind, score in found.items():
        print(f"{kind:24} {100 * score.max():5.1f}  {candidates[int(score.argmax())].name}")


def judge() -> None:
    """The table: every kind's pictures that nothing was chosen on."""
    candidates, rows = all_settings(), []
    for kind, (title, _, _) in KINDS.items():
        manifest = made(kind, RESULTS)
        best = candidates[int(np.load(RESULTS / f"choose-{kind}.npy").argmax())].params
        presets: tuple[dict[str, Any], ...] = ({"preset": PAPER}, FORMER, {"preset": RECOMMENDED})
        named = [FmwissSource.from_manifest(manifest, 0, {**values, **SIZES}).params for values in presets]
        asked = [Setting(params=params) for params in (*named, best)] + [Setting(params=None, control="whole")]
        score = (100 * scores(manifest, "val", asked, JUDGED)).round(1).tolist()
        rows.append({"key": kind, "name": title, **dict(zip(COLUMNS, score, strict=True))})
    measured = tables.measured_now("python workflows/presets/presets.py judge", seeds=1)
    figures = {"measured": measured, "heading": f"mIoU on {JUDGED} pictures each", "columns": COLUMNS, "rows": rows}
    (HERE / "figures/presets.json").write_text(tables.as_text(figures), encoding="utf-8")
    print(tables.table_of(figures))


COLUMNS = {
    "paper": "`preset: paper`",
    "former": "`recommended` before the stages",
    "recommended": "`preset: recommended`",
    "tuned": "best lever on 40 others of its kind",
    "whole": "control: whole image = tag",
}

if __name__ == "__main__":
    {"choose": choose, "judge": judge}[sys.argv[1]]()
