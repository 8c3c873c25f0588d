"""Columns of a table of tags that hold 0 and 1, or were meant to, under the name of a class."""

from collections.abc import Callable, Sequence

YES = frozenset({"1", "1.0", "true", "True", "TRUE"})
NO = frozenset({"", "0", "0.0", "-1", "false", "False", "FALSE"})
#: What people write for 1 and 0, but also as tags: never read as either without being asked about.
_MARKS = frozenset({"x", "yes", "y", "no", "n", "ja", "j", "nein", "oui", "non", "si", "\u2713", "\u2714"})

_Rows = Sequence[Sequence[str]]


def all_flags(rows: _Rows, columns: Sequence[int]) -> bool:
    """Whether these columns hold nothing but 0 and 1, in any spelling, and not only blanks."""
    cells = {row[column] for row in rows for column in columns if len(row) > column}
    return bool(cells - {""}) and cells <= YES | NO


def some_flags(rows: _Rows, column: int) -> bool:
    """Whether most of what a column holds is 0 and 1, and the rest no numbers: `x` or `1,0` slipped in."""
    cells = _cells(rows, column)
    odd = [cell for cell in cells if cell not in YES | NO]
    return 2 * len(odd) < len(cells) and any(not _is_number(cell) for cell in odd)


def are_meant_as_flags(
    rows: _Rows, head: Sequence[str], columns: Sequence[int], is_class: Callable[[str], bool]
) -> bool:
    """Whether columns that were named as those of tags hold 0 and 1, but for cells that cannot be read as either.

    Of a single column that is not all 0 and 1 its cells may be tags, such as `x`; of several they are the same in each.
    Cells that are names of classes are tags, whatever else they may mean, unless the column's heading is one, too.
    """
    unnamed = [column for column in columns if not is_class(head[column])]
    if any(is_class(cell) for column in unnamed for cell in _cells(rows, column)):
        return False
    if all_flags(rows, columns):
        return True
    is_filled = any(_cells(rows, column) for column in columns)
    return (
        len(columns) > 1
        and is_filled
        and all(all_flags(rows, [column]) or some_flags(rows, column) or _all_marks(rows, column) for column in columns)
    )


def is_count(rows: _Rows, column: int) -> bool:
    """Whether a column holds whole numbers from 0, and others than 0 and 1."""
    cells = {row[column] for row in rows if len(row) > column}
    return "0" in cells and not cells <= YES | NO and all(cell.isdecimal() for cell in cells if cell)


def _all_marks(rows: _Rows, column: int) -> bool:
    return all(cell.casefold() in _MARKS for cell in _cells(rows, column))


def _cells(rows: _Rows, column: int) -> list[str]:
    return [row[column] for row in rows if len(row) > column and row[column]]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
