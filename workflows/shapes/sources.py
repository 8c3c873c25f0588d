"""How good the masks are that other tables learn from: stores of few_or_all.py and semi.py, judged by pixel labels.

python workflows/shapes/sources.py        # into figures/sources.json, once those stores are there
"""

from few_or_all import FIVE_MASKS, WAYS, quality
from runs import SEEDS, Cell, keep_figures, spread
from semi import EPOCHS, FUSED, PARTS, place_of, soft_scores


def main() -> None:
    """Mean IoU of the stores of all seeds; FMWISS' has one."""
    ways = {way.key: way for way in (*WAYS, *FIVE_MASKS) if not way.least}
    cells: dict[str, dict[str, Cell]] = {
        key: {"mean_iou": spread([quality(way, seed) for seed in (SEEDS if way.kind else SEEDS[:1])])}
        for key, way in ways.items()
    }
    place = place_of(epochs=EPOCHS, tuning=False)
    for part in PARTS:
        cells[f"pseudoseg-{part}"] = {"mean_iou": spread(soft_scores(place, part, len(SEEDS)))}
    keep_figures("sources", cells, trained=[place.run(part, FUSED.key, seed) for part in PARTS for seed in SEEDS])


if __name__ == "__main__":
    main()
