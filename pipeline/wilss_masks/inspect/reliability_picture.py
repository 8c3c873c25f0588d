"""The reliability of a store as a picture: how right pixels are by how sure they are, and what void would leave."""

import io
from typing import Any

import numpy as np

from wilss.equations import calibration

from .reliability import Reliability

_DOTS_PER_INCH = 120
#: Where the chart of void begins: hardly a label has less, being the greatest of two.
_LEAST = 0.5
_BARS, _LINE, _SECOND = "#9ecae1", "#08519c", "#d95f02"


def draw_reliability(found: Reliability, title: str) -> bytes:
    """A PNG of two charts: the diagram of Guo et al. with the share of pixels in each bin, and mean IoU by void."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 4.0), dpi=_DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _draw_diagram(left, found)
    _draw_void(right, found)
    how = "calibrated" if found.is_calibrated else "not calibrated"
    figure.suptitle(f"{title}: {how}, ECE {100 * found.error:.1f} %".replace("$", r"\$"), fontsize=10)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw_diagram(axes: Any, found: Reliability) -> None:
    diagram = calibration.reliability(found.sums())
    size = len(diagram.pixels)
    there = diagram.pixels > 0
    centres = (np.arange(size) + 0.5) / size
    axes.bar(
        centres, diagram.pixels / max(diagram.pixels.sum(), 1), 0.9 / size, color=_BARS, label="share of the pixels"
    )
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", label="as right as sure")
    axes.plot(diagram.confidence[there], diagram.right[there], "o-", color=_LINE, markersize=4, label="right")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="sureness", ylabel="share")
    axes.legend(fontsize=8, loc="upper left")


def _draw_void(axes: Any, found: Reliability) -> None:
    kept = list(found.kept())
    below = [max(one.below, _LEAST) for one in kept]
    axes.plot(
        below, [one.scores.mean_iou for one in kept], "o-", color=_LINE, markersize=4, label="mean IoU of the rest"
    )
    axes.plot(below, [one.share for one in kept], "s--", color="0.5", markersize=3, label="pixels left")
    axes.plot(below, [one.of_masks for one in kept], "^--", color=_SECOND, markersize=3, label="pixels of masks left")
    axes.set(xlim=(_LEAST - 0.02, 1), ylim=(0, 1.02), xlabel="void below this sureness (leftmost: none)")
    axes.legend(fontsize=8, loc="lower left")
