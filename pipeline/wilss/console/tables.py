"""Tables of figures in plain text."""

from collections.abc import Collection, Sequence

__all__ = ["aligned", "percent"]


def aligned(table: Sequence[tuple[str, ...]], rules_before: Collection[int] = ()) -> list[str]:
    """Rows with the first column to the left, the others to the right, and a rule before some of them."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    lines = []
    for number, row in enumerate(table):
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines += ([rule] if number in rules_before else []) + ["  ".join([row[0].ljust(widths[0]), *cells]).rstrip()]
    return lines


def percent(value: float | None) -> str:
    """A ratio as a percentage with one decimal; "-" where there is none (None or NaN)."""
    return "-" if value is None or value != value else f"{100 * value:.1f}"
