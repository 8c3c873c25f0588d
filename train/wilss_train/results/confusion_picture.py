"""The confusion matrix as a picture: which class is taken for which."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wilss.drawing import font_path, words
from wilss.equations.metrics import Scores

from .report.figures import row_shares

_DOTS_PER_INCH = 120
#: With more classes than this the figures in the cells could not be read, and colour alone must do.
_MOST_WITH_FIGURES = 30
_SMALLEST_FIGURE = 0.005


def draw_confusion(scores: Scores, *, title: str, rules: Sequence[int] = ()) -> bytes:
    """A PNG with a row per true class and a column per predicted one, normalised by rows.

    rules: the classes, by their place, before which a line is drawn. The colours are those of the square root, so
    that a confusion of one pixel in a hundred can be seen.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = len(scores.names)
    cell = 0.42 if size <= _MOST_WITH_FIGURES else 0.19
    side = max(cell * size, 2.5)
    figure = Figure(figsize=(side + 3.0, side + 2.2), dpi=_DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _draw_cells(figure, axes, row_shares(scores.matrix))
    _draw_words(axes, scores.names, title)
    for place in rules:
        axes.axhline(place - 0.5, color="0.25", linewidth=0.9)
        axes.axvline(place - 0.5, color="0.25", linewidth=0.9)
    if size <= _MOST_WITH_FIGURES:
        _draw_figures(axes, row_shares(scores.matrix))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight", pad_inches=0.15)  # whole, however long names are
    return buffer.getvalue()


def _draw_cells(figure: Any, axes: Any, values: NDArray[np.float64]) -> None:
    from matplotlib import colormaps
    from matplotlib.colors import PowerNorm

    colours = colormaps["Blues"].with_extremes(bad="0.85")
    drawn = axes.imshow(np.ma.masked_invalid(values), cmap=colours, norm=PowerNorm(0.5, vmin=0, vmax=1))
    bar = figure.colorbar(drawn, ax=axes, fraction=0.04, pad=0.02, ticks=[0, 0.01, 0.05, 0.2, 0.5, 1])
    bar.ax.set_yticklabels(["0", "1", "5", "20", "50", "100"])
    bar.set_label("% of the true class's pixels (grey: it has none)", fontsize=8)
    bar.ax.tick_params(labelsize=7)


def _draw_words(axes: Any, names: Sequence[str], title: str) -> None:
    from matplotlib.font_manager import FontProperties

    places = np.arange(len(names))
    small = 8 if len(names) <= _MOST_WITH_FIGURES else 7
    shown = [words(name, small)[0].replace("$", r"\$") for name in names]  # a dollar sign would begin a formula
    axes.set_xticks(places, shown, rotation=90, fontsize=small)
    axes.set_yticks(places, shown, fontsize=small)
    for label, name in zip((*axes.get_xticklabels(), *axes.get_yticklabels()), (*names, *names), strict=True):
        label.set_fontproperties(FontProperties(fname=font_path(name), size=small))
    axes.tick_params(length=2, pad=2)
    axes.set_xlabel("predicted", fontsize=9)
    axes.set_ylabel("true", fontsize=9)
    axes.set_title(title.replace("$", r"\$"), fontsize=10)


def _draw_figures(axes: Any, values: NDArray[np.float64]) -> None:
    """Percentages of at least half a per cent, dark on light cells and light on dark ones."""
    for row, column in np.argwhere(values >= _SMALLEST_FIGURE).tolist():
        share = values[row, column]
        ink = "white" if share > 0.35 else "0.15"
        axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=6.5, color=ink)
