"""Which tags are classes: words for nothing, spellings of one class, and several names in one cell of a table."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from wilss.data.layouts.tag_table import TagRows, names_in
from wilss.data.taxonomy import may_be_class, meaning_of, same_class

from .text import scalar

_SHOWN = 5
#: What parts without a defect, and samples without a finding, are called.
_FAULTLESS = frozenset(
    map(same_class, ("good", "ok", "okay", "normal", "healthy", "negative", "no defect", "no finding"))
)


def without_background(names: Iterable[str]) -> list[str]:
    """The names that may be classes."""
    return [name for name in names if meaning_of(name) is None or may_be_class(name)]


def in_order(names: Iterable[str]) -> list[str]:
    """By the alphabet; where all are whole numbers by these, since they are likely to be the values of label files."""
    names = list(names)
    return sorted(names, key=lambda name: (int(name), name)) if all(map(str.isdecimal, names)) else sorted(names)


def ignored_tags(class_names: Sequence[str], held: Mapping[str, set[str]]) -> list[str]:
    """Tags that say that there is nothing, in words that are no classes."""
    known = {same_class(name) for name in class_names}
    tags = sorted(set[str]().union(*held.values()))
    return [tag for tag in tags if meaning_of(tag) is not None and same_class(tag) not in known]


def words_for_nothing(class_names: Sequence[str], held: Mapping[str, set[str]]) -> list[str]:
    """A sentence for every class whose name may be a word for nothing."""
    tags = set[str]().union(*held.values())
    return [
        f"the tag {name!r} is taken for a class; if it means that an image shows none, leave it out of `names` and "
        f"write `ignore: [{scalar(name)}]` into `tags`, and `complete: true` to learn from such images."
        for name in class_names
        if name in tags and (may_be_class(name) or same_class(name) in _FAULTLESS)
    ]


def one_spelling(names: Iterable[str], held: Mapping[str, set[str]]) -> dict[str, str]:
    """The spelling that stands for each name: of those of one class the commonest, and of equal ones the first."""
    counts = Counter(tag for tags in held.values() for tag in tags)
    spellings: dict[str, list[str]] = {}
    for name in names:
        spellings.setdefault(same_class(name), []).append(name)
    return {name: max(several, key=counts.__getitem__) for several in spellings.values() for name in several}


def spelling_doubts(chosen: Mapping[str, str]) -> list[str]:
    """A sentence for every class of several spellings. chosen: what `one_spelling` says."""
    return [
        f"the tags {' and '.join(map(repr, several))} are taken for one class, {name!r}; if they are several, write "
        "each into `names`."
        for name in dict.fromkeys(chosen.values())
        if len(several := [one for one, stands in chosen.items() if stands == name]) > 1
    ]


def has_blanks_between(cells: Iterable[str]) -> bool:
    """Whether cells are several tags with blanks between: there are fewer words than different cells."""
    different = {name for cell in cells for name in names_in(cell, None)}
    words = Counter(word for cell in different for word in set(cell.split()))
    several = [cell for cell in different if " " in cell]
    return len(several) > 1 and len(words) < len(different)


def blank_doubts(cells: Iterable[str], between: str | None) -> list[str]:
    """A sentence where tags are taken to have blanks between them, which is a guess."""
    several = sorted(cell for cell in cells if " " in cell) if between == " " else []
    if not several:
        return []
    return [
        f"blanks are taken to stand between tags, as in {several[0]!r}; if such a cell is one class, leave "
        '`between: " "` out of `tags` and write it into `names`.'
    ]


def comma_doubts(cells: Mapping[str, int], between: str | None) -> Iterator[str]:
    """A sentence for every two tags that come with a comma between, and never without each other.

    cells: how many rows have each cell.
    """
    rows, pairs, shown = Counter[str](), Counter[tuple[str, str]](), dict[tuple[str, str], str]()
    for cell, count in cells.items() if between is None else ():
        names = names_in(cell, None)
        rows.update(dict.fromkeys(names, count))
        if "," in cell and not {";", "|"} & set(cell):
            pairs.update(dict.fromkeys(pairwise(names), count))
            shown |= dict.fromkeys(pairwise(names), cell)
    together = [pair for pair, count in pairs.items() if all(rows[name] == count for name in pair)]
    for pair in together[:_SHOWN]:
        yield (
            f"{pair[0]!r} and {pair[1]!r} are taken for two tags, as in {shown[pair]!r}, and come only together; if "
            "they are one class, write it into `names` in their place."
        )


def flag_doubts(table: TagRows) -> list[str]:
    """A sentence for every column of 0 and 1 beside others that is the same in all rows."""
    counts = Counter(tag for row in table.rows for tag in row.tags)
    alike = [name for name in without_background(table.classes) if counts[name] in (0, len(table.rows))]
    return [
        f"all rows have the same flag under {name!r}, which is taken for a class; if it is none, leave it out of "
        f"`names` and write `ignore: [{scalar(name)}]` into `tags`."
        for name in (alike if len(table.rows) > 1 and len(table.classes) > 1 else ())
    ]
