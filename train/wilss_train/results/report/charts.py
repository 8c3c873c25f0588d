"""The charts of the page: inline SVG whose colours come from the page's style, so that they follow its light or dark.

Blue stands for what was known or is right, orange for what is new or wrong: told apart by the colour-blind too.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from . import svg
from .figures import row_shares

_BUCKETS = 120
_LEAST_SHARE = 0.005  # a cell below it would be as good as white
_MOST_POINTS = 24  # so many are drawn as points; more would be a thick line
_CURVE_WIDTH, _CURVE_HEIGHT = 320.0, 150.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 40.0, 8.0, 10.0, 20.0


def class_bar(label: str, value: float | None, before: float | None, *, is_new: bool) -> str:
    """A bar from 0 to 1 that is as wide as the page lets it; a thin mark where the old model was."""
    grid = [svg.line(f"{x}%", 0, f"{x}%", 16, class_="grid") for x in (0, 25, 50, 75, 100)]
    drawn = []
    if value is not None:
        drawn.append(svg.rect(0, 3, _percent(value), 10, class_="new" if is_new else "old"))
    if before is not None:
        drawn.append(svg.line(_percent(before), 0, _percent(before), 16, class_="before"))
    return svg.picture(label, *grid, *drawn, class_="bar", width="100%", height=16)


def curve(label: str, steps: Sequence[int], values: Sequence[float], *, last_step: int, log_scale: bool = False) -> str:
    """One quantity over the steps: the mean of short stretches, in a band from their least to their largest.

    Few values, of a short run, are points with lines between them.

    values: not finite ones are gaps. log_scale: for positive values that span decades.
    """
    stretches = _stretches(np.asarray(steps, np.float64), np.asarray(values, np.float64))
    if not len(stretches):
        return svg.picture(f"{label}: no values", class_="curve", viewBox=f"0 0 {_CURVE_WIDTH:g} {_CURVE_HEIGHT:g}")
    ticks = _decades(stretches) if log_scale else nice_ticks(min(0.0, stretches[:, 2].min()), stretches[:, 3].max())
    places = _placed(stretches, ticks, last_step, log_scale=log_scale)
    marked = places if len(places) <= _MOST_POINTS else places[-1:]
    band = [*zip(places[:, 0], places[:, 2], strict=True), *zip(places[::-1, 0], places[::-1, 3], strict=True)]
    return svg.picture(
        label,
        *_axes(ticks, last_step, log_scale=log_scale),
        svg.element("polygon", points=_points(band), class_="band"),
        svg.element("polyline", points=_points(places[:, :2].tolist()), class_="mean"),
        *(svg.element("circle", cx=x, cy=y, r=2.6, class_="point") for x, y in marked[:, :2].tolist()),
        class_="curve",
        viewBox=f"0 0 {_CURVE_WIDTH:g} {_CURVE_HEIGHT:g}",
    )


def confusion_map(names: Sequence[str], matrix: NDArray[np.int64], *, first_new: int) -> str:
    """Shares of each true class (row) by the class that its pixels were given (column).

    names, matrix: in the order of the channels. first_new: the channel before which a line parts old from new; 0
    draws none. Shades go with the square root, so that small confusions show. Few classes have figures in the cells.
    """
    cell, size, labels = _cell_size(names)
    side = cell * len(names)
    shares = np.nan_to_num(row_shares(matrix))
    drawn = [*_cells(shares, cell), *_names(names, cell, size)]
    if 0 < first_new < len(names):
        at = first_new * cell
        drawn += [svg.line(0, at, side, at, class_="part"), svg.line(at, 0, at, side, class_="part")]
    drawn += [svg.rect(0, 0, side, side, class_="frame"), *_figures(shares, cell), *_tips(names, shares, cell)]
    box = f"{svg.number(-labels)} {svg.number(-labels)} {svg.number(side + labels + 2)} {svg.number(side + labels + 2)}"
    return svg.picture("Confusion matrix", *drawn, class_="matrix", viewBox=box, style=f"--side:{side + labels:.0f}px")


def nice_ticks(least: float, largest: float) -> list[float]:
    """Three to six round numbers that span [least, largest]."""
    span = largest - least
    if span <= 1e-9 * max(abs(least), abs(largest), 1e-200):  # equal but for rounding
        largest = least + (abs(least) if abs(least) > 1e-200 else 1.0)
        span = largest - least
    rough = 10.0 ** math.floor(math.log10(span / 4))
    step = next(rough * factor for factor in (1, 2, 2.5, 5, 10, 20) if span / (rough * factor) <= 4.5)
    first, last = math.floor(least / step + 1e-9), math.ceil(largest / step - 1e-9)
    return [float(f"{place * step:.12g}") for place in range(first, last + 1)]


def _percent(share: float) -> str:
    return f"{svg.number(100 * min(max(share, 0.0), 1.0))}%"


def _stretches(steps: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """[n, 4]: last step, mean, least and largest value of at most `_BUCKETS` equal stretches."""
    known = np.isfinite(values)
    steps, values = steps[known], values[known]
    parts = [part for part in np.array_split(np.arange(len(values)), min(_BUCKETS, max(len(values), 1))) if len(part)]
    rows = [(steps[part[-1]], values[part].mean(), values[part].min(), values[part].max()) for part in parts]
    return np.array(rows, np.float64).reshape(-1, 4)


def _decades(stretches: NDArray[np.float64]) -> list[float]:
    positive = stretches[:, 2:][stretches[:, 2:] > 0]
    if not positive.size:
        return [0.1, 1.0]
    first, last = math.floor(math.log10(positive.min()) + 1e-9), math.ceil(math.log10(positive.max()) - 1e-9)
    return [10.0**power for power in range(first, max(last, first + 1) + 1)]


def _placed(
    stretches: NDArray[np.float64], ticks: Sequence[float], last_step: int, *, log_scale: bool
) -> NDArray[np.float64]:
    """Stretches as coordinates: x, and y of mean, least and largest."""
    placed = stretches.copy()
    placed[:, 0] = _LEFT + (_CURVE_WIDTH - _LEFT - _RIGHT) * stretches[:, 0] / max(last_step, 1)
    placed[:, 1:] = _height(stretches[:, 1:], ticks, log_scale=log_scale)
    return placed


def _height(values: NDArray[np.float64], ticks: Sequence[float], *, log_scale: bool) -> NDArray[np.float64]:
    least, largest = ticks[0], ticks[-1]
    if log_scale:
        values, least, largest = np.log10(values.clip(ticks[0])), math.log10(least), math.log10(largest)
    return _CURVE_HEIGHT - _BOTTOM - (_CURVE_HEIGHT - _TOP - _BOTTOM) * (values - least) / (largest - least)


def _axes(ticks: Sequence[float], last_step: int, *, log_scale: bool) -> list[svg.Element]:
    drawn = []
    for tick in ticks:
        y = float(_height(np.array(tick), ticks, log_scale=log_scale))
        drawn.append(svg.line(_LEFT, y, _CURVE_WIDTH - _RIGHT, y, class_="grid"))
        drawn.append(svg.text(f"{tick:g}", x=_LEFT - 6, y=y + 3.5, text_anchor="end"))
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        x = _LEFT + share * (_CURVE_WIDTH - _LEFT - _RIGHT)
        drawn.append(svg.text(f"{round(share * last_step):,}", x=x, y=_CURVE_HEIGHT - 5, text_anchor=anchor))
    return drawn


def _points(places: Sequence[Sequence[float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _cell_size(names: Sequence[str]) -> tuple[float, float, float]:
    """Side of a cell, size of the names' letters, and room for the longest name."""
    cell, size = (32.0, 12.0) if len(names) <= 24 else (20.0, 11.0) if len(names) <= 45 else (12.0, 9.5)
    return cell, size, 12 + 0.62 * size * min(max(len(name) for name in names), 24)


def _cells(shares: NDArray[np.float64], cell: float) -> list[svg.Element]:
    """One path for all cells of a shade, so that many classes do not make a large page."""
    paths: dict[tuple[str, int], list[str]] = {}
    for row, column in np.argwhere(shares >= _LEAST_SHARE).tolist():
        shade = max(1, round(20 * math.sqrt(shares[row, column])))
        kind = "hit" if row == column else "miss"
        square = f"M{svg.number(column * cell)} {svg.number(row * cell)}h{cell:g}v{cell:g}h-{cell:g}z"
        paths.setdefault((kind, shade), []).append(square)
    return [
        svg.element("path", d="".join(squares), class_=kind, fill_opacity=shade / 20)
        for (kind, shade), squares in sorted(paths.items())
    ]


def _names(names: Sequence[str], cell: float, size: float) -> list[svg.Element]:
    drawn = []
    for channel, name in enumerate(names):
        short = name if len(name) <= 24 else f"{name[:23]}\N{HORIZONTAL ELLIPSIS}"
        middle = (channel + 0.5) * cell
        drawn.append(svg.text(short, x=-6, y=middle + 0.35 * size, text_anchor="end", font_size=size))
        turned = f"translate({svg.number(middle + 0.35 * size)} -6) rotate(-90)"
        drawn.append(svg.text(short, transform=turned, font_size=size))
    return drawn


def _figures(shares: NDArray[np.float64], cell: float) -> list[svg.Element]:
    """Percents in the cells, where they are large enough to hold them."""
    if cell < 30:
        return []
    drawn = []
    for row, column in np.argwhere(shares >= _LEAST_SHARE).tolist():
        share = shares[row, column]
        place = {"x": (column + 0.5) * cell, "y": (row + 0.5) * cell + 4}
        drawn.append(svg.text(f"{100 * share:.0f}", class_="cell on" if share > 0.4 else "cell", **place))
    return drawn


def _tips(names: Sequence[str], shares: NDArray[np.float64], cell: float) -> list[svg.Element]:
    """Words under the pointer for the diagonal and the confusions that matter."""
    wanted = (shares >= 0.03) | np.eye(len(names), dtype=bool)
    return [
        svg.titled(
            svg.rect(column * cell, row * cell, cell, cell, class_="tip"),
            f"{100 * shares[row, column]:.1f} % of {names[row]} labelled {names[column]}",
        )
        for row, column in np.argwhere(wanted).tolist()
    ]
