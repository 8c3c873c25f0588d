"""Ways to spoil a file, for hypothesis: any bytes, and values of a YAML or JSON tree replaced, dropped or added."""

import copy
import datetime
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

__all__ = ["JSON_JUNK", "JUNK", "Draw", "spoil_bytes", "spoil_lines", "spoil_tree"]

Draw = Callable[[st.SearchStrategy[Any]], Any]

_NUMBERS = [0, -1, 1, 2, 255, 256, 2**31 - 1, 2**31, 2**63, 10**12, 10**30, 10**400, 0.5, -0.0, 1e308]
_NOT_NUMBERS = [float("nan"), float("inf"), float("-inf")]
_WORDS = [
    "", " ", ".", "..", "../x", "/etc/passwd", "~", "~nobody/x", "${NOBODY_SET_THIS}", "${HOME:-x}", "\0", "\x1b[31m",
    "1",
    "nan", "1e400", "true", "null", "a" * 5000, "x\ny", "\u2028", "\ud800", "0x10", "[1, 2]", "{}", "%s", "background",
    "cat", "horse", "voc", "coco", "folder", "train", "shots", "none", "bool", "float64", "<U4", "|O",
]  # fmt: skip
_PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from([*_NUMBERS,
    *_NOT_NUMBERS]),
    st.sampled_from(_WORDS),
)  # fmt: skip
_KEYS = st.one_of(st.sampled_from(_WORDS), st.text(max_size=4))


def _nested(leaves: st.SearchStrategy[Any], keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=3)),
        max_leaves=6,
    )


#: Any value that JSON can hold.
JSON_JUNK = _nested(_PLAIN, _KEYS)
#: Any value that plain YAML can hold: dates and bytes too, and keys that are no text.
JUNK = _nested(
    st.one_of(_PLAIN, st.dates(), st.binary(max_size=4), st.just(datetime.datetime(2024, 2, 30 - 1, 12))),
    st.one_of(_KEYS, st.integers(-1, 300), st.booleans(), st.none(), st.dates()),
)


def spoil_tree(draw: Draw, tree: Any, junk: st.SearchStrategy[Any] = JSON_JUNK, *, most: int = 3) -> Any:
    """`tree` with one to `most` of its values replaced, dropped, doubled, moved, or with a key more."""
    spoilt = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, most))):
        places = list(_places(spoilt))
        if not places:
            return draw(junk)
        holder, key = draw(st.sampled_from(places))
        how = draw(st.sampled_from(["replace", "replace", "replace", "nudge", "drop", "add", "swap"]))
        if how == "drop":
            del holder[key]
        elif how == "add":
            _add(draw, holder, key, junk)
        elif how == "swap":
            other, place = draw(st.sampled_from(places))
            holder[key] = copy.deepcopy(other[place])
        elif how == "nudge":
            holder[key] = _nudged(draw, holder[key], junk)
        else:
            holder[key] = draw(junk)
    return spoilt


def spoil_bytes(draw: Draw, content: bytes, *, most: int = 3) -> bytes:
    """`content` with one to `most` pieces replaced, removed, doubled, put in or flipped, or cut off at the end."""
    for _ in range(draw(st.integers(1, most))):
        at = draw(st.integers(0, len(content)))
        to = min(len(content), at + draw(st.integers(0, 24)))
        how = draw(st.sampled_from(["flip", "replace", "remove", "insert", "double", "cut", "zeros"]))
        if how == "flip" and content:
            at = min(at, len(content) - 1)
            content = content[:at] + bytes([content[at] ^ (1 << draw(st.integers(0, 7)))]) + content[at + 1 :]
        elif how == "cut":
            content = content[:at]
        else:
            piece = _piece(draw, how, content[at:to])
            content = content[:at] + piece + (content[at:] if how == "insert" else content[to:])
    return content


def spoil_lines(draw: Draw, content: bytes) -> bytes:
    """A list with lines dropped, doubled, put in other words, and other ends; or any bytes."""
    if draw(st.booleans()):
        return spoil_bytes(draw, content)
    lines: list[Any] = content.decode().splitlines()
    words = st.one_of(st.sampled_from(_WORDS), st.text(max_size=12), st.sampled_from(lines or [""]))
    made = [str(line) for line in spoil_tree(draw, lines, words)]
    end: str = draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n", " \n", "\x00\n", ","]))
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-16", "utf-8-sig", "utf-32"]))
    return end.join(made).encode(encoding, "surrogatepass")


def _piece(draw: Draw, how: str, piece: bytes) -> bytes:
    """What comes into the place of `piece`, or before it."""
    if how == "replace":
        return bytes(draw(st.binary(min_size=len(piece), max_size=len(piece))))
    known = {"remove": b"", "double": piece * 2, "zeros": bytes(len(piece))}
    return known[how] if how in known else bytes(draw(st.binary(max_size=16)))


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every holder with each of its keys."""
    pairs = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)) if isinstance(tree, list) else []
    for key, value in pairs:
        yield tree, key
        yield from _places(value)


def _add(draw: Draw, holder: Any, key: Any, junk: st.SearchStrategy[Any]) -> None:
    if isinstance(holder, list):
        holder.insert(key, draw(junk))
    else:
        holder[draw(_KEYS)] = draw(junk)


def _nudged(draw: Draw, value: Any, junk: st.SearchStrategy[Any]) -> Any:
    """Something of the same kind, which gets further than what is of another."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return draw(st.sampled_from([value + 1, value - 1, -value, value * 10**9, *_NUMBERS]))
    if isinstance(value, float):
        return draw(st.sampled_from([-value, value * 1e300, *_NOT_NUMBERS]))
    if isinstance(value, str):
        return draw(st.sampled_from([f"{value}x", value[:-1], value.upper(), f"../{value}", *_WORDS]))
    if isinstance(value, list):
        return draw(st.sampled_from([[], value * 2, value[:-1], value[::-1], [value], dict.fromkeys(map(str, value))]))
    if isinstance(value, dict):
        return draw(st.sampled_from([{}, list(value), list(value.values()), [value]]))
    return draw(junk)
