"""Parameters as frozen dataclasses: set by name from text or YAML, refused in one sentence that says how to fix it."""

import dataclasses
import difflib
import functools
import json
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeVar

from wilss.errors import ParameterError

P = TypeVar("P")

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


class Rule(NamedTuple):
    """What a number must be, in words and as a test of it; stands beside the type of a field."""

    words: str
    holds: Callable[[Any], bool]


PositiveInt = Annotated[int, Rule("at least 1", lambda value: value >= 1)]
NonNegativeInt = Annotated[int, Rule("0 or more", lambda value: value >= 0)]
NonNegativeFloat = Annotated[float, Rule("0 or more", lambda value: value >= 0)]
FiniteFloat = Annotated[float, Rule("a finite number", math.isfinite)]
PositiveFloat = Annotated[float, Rule("above 0", lambda value: value > 0)]
Share = Annotated[float, Rule("between 0 and 1", lambda value: 0 <= value <= 1)]
ShareBelowOne = Annotated[float, Rule("at least 0 and below 1", lambda value: 0 <= value < 1)]
#: Sides of an encoder's input in pixels.
ShorterSide = Annotated[int, Rule("0 (the image's own) or from 16 to 4096", lambda v: v == 0 or 16 <= v <= 4096)]
LongerSide = Annotated[int, Rule("between 16 and 16384", lambda value: 16 <= value <= 16384)]


class Params:
    """Base of frozen dataclasses whose values are held against the types of their fields when one is made.

    places: names of the fields that say where something lies. former: what was done before a field came, by its name,
    where that is not its default.
    """

    places: ClassVar[tuple[str, ...]] = ()
    former: ClassVar[Mapping[str, Any]] = {}

    def __post_init__(self) -> None:
        """Raise ParameterError for a word that a Literal does not have, and for a number that its rule forbids."""
        for name, kind in _hints(type(self)).items():  # type: ignore[arg-type]  # mypy takes it for an instance
            value, choices = getattr(self, name), typing.get_args(kind)
            if typing.get_origin(kind) is Literal and value not in choices:
                raise ParameterError(f"{name} is {value!r}; choose one of {', '.join(map(str, choices))}.")
            for rule in getattr(kind, "__metadata__", ()):
                require(rule.holds(value), name, value, rule.words)

    def as_json(self) -> dict[str, Any]:
        """Every value by the name of its field, as JSON values."""
        values = dataclasses.asdict(self)  # type: ignore[call-overload]
        return {name: _as_lists(value) for name, value in values.items()}

    @classmethod
    def before(cls) -> dict[str, Any]:
        """Every value as it was where nobody could say another, as JSON values."""
        return {**cls().as_json(), **cls.former}


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    """The types of a class's fields, with their rules. Reading them takes longer than all else about a value."""
    return typing.get_type_hints(kind, include_extras=True)


def _as_lists(value: Any) -> Any:
    """Tuples as lists, which is what they are when they are read again."""
    return [_as_lists(one) for one in value] if isinstance(value, tuple) else value


def parse_assignments(pairs: typing.Sequence[str]) -> dict[str, str]:
    """`("draws=4", "keep=mass")` as a dict. Raises ParameterError where there is no `=`."""
    values = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ParameterError(f"--set {pair!r} is not of the form key=value; write e.g. --set draws=4.")
        values[name.strip()] = value.strip()
    return values


def with_values(params: P, values: Mapping[str, Any], *, where: str, others: Iterable[str] = ()) -> P:
    """`params`, a frozen dataclass, with some fields replaced; text is converted to the field's type.

    where: what to blame in an error, e.g. "--set" or the manifest's path. others: names that are known beside the
    fields, of which a misspelt one may be the nearest.
    Raises ParameterError for an unknown name (with the nearest known one) or a value of the wrong type.
    """
    hints = typing.get_type_hints(type(params))
    kinds = {field.name: hints[field.name] for field in dataclasses.fields(params)}  # type: ignore[arg-type]
    changes = {}
    for name, value in values.items():
        if name not in kinds:
            raise ParameterError(f"{where}: there is no parameter {name!r}; {_meant(name, kinds, others)}")
        changes[name] = _convert(value, kinds[name], name, where)
    try:
        return dataclasses.replace(params, **changes)  # type: ignore[type-var]
    except ParameterError as error:
        raise ParameterError(f"{where}: {_with_what(str(error), values, kinds)}") from None


def _with_what(said: str, values: Mapping[str, Any], kinds: Iterable[str]) -> str:
    """An error about a value that was said elsewhere, with those of `values` that it does not go with."""
    name = said.partition(" ")[0]
    others = [other for other in values if re.search(rf"\b{re.escape(other)}\b", said)]
    if name not in kinds or name in values or not others:
        return said
    return f"with {', '.join(f'{other}={values[other]}' for other in others)}, {said}"


def names_of(kind: type) -> tuple[str, ...]:
    """The names of the fields of a dataclass."""
    return tuple(field.name for field in dataclasses.fields(kind))


def faults_of(params: Any, values: Mapping[str, Any], *, where: str, others: Iterable[str] = ()) -> list[str]:
    """A sentence for every one of `values` that `with_values` would refuse, or for all of them together."""
    together = _fault(params, values, where, others)
    each = [_fault(params, {name: value}, where, others) for name, value in values.items()] if together else []
    return [fault for fault in each if fault is not None] or ([together] if together else [])


def _fault(params: Any, values: Mapping[str, Any], where: str, others: Iterable[str]) -> str | None:
    try:
        with_values(params, values, where=where, others=others)
    except ParameterError as error:
        return str(error)
    return None


def _meant(name: str, known: Iterable[str], others: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, [*known, *others], n=1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known) or 'none'}."


def of_fields(kind: type[P], values: Mapping[str, Any]) -> P:
    """An instance of the dataclass `kind` from those of `values` that are fields of it."""
    return kind(**divided(kind, values)[0])


def divided(kind: type, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """`values` as those that are fields of the dataclass `kind`, and the others."""
    names = names_of(kind)
    known = {name: value for name, value in values.items() if name in names}
    return known, {name: value for name, value in values.items() if name not in names}


def differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """The leaves of `wanted` that are not the same in `found`: dotted name, wanted and found value (None for none)."""
    for name, value in wanted.items():
        other = found.get(name)
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            yield from ((f"{name}.{inner}", *values) for inner, *values in differences(value, other))
        elif value != other:
            yield name, value, other


def shortened(value: object, other: object, most: int) -> tuple[str, str]:
    """Two values that differ as JSON, each of `most` letters at most, among them where they begin to differ."""
    texts = json.dumps(value), json.dumps(other)
    same = next((place for place, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), min(map(len, texts)))
    first = 0 if same < most - most // 4 else same - most // 4
    return _part_of(texts[0], first, most), _part_of(texts[1], first, most)


def _part_of(text: str, first: int, most: int) -> str:
    if len(text) <= most:
        return text
    before = "..." if first else ""
    rest = text[first + len(before) :]
    most -= len(before)
    return before + (rest if len(rest) <= most else f"{rest[: most - 3]}...")


def require(holds: bool, name: str, value: object, rule: str) -> None:
    """Raise ParameterError unless `holds`."""
    if not holds:
        raise ParameterError(f"{name} is {value!r}; it must be {rule}.")


def _convert(value: Any, kind: Any, name: str, where: str) -> Any:
    """`value` as the field's kind: a number, a switch, a word, a list of numbers, or a table."""
    origin = typing.get_origin(kind)
    if origin is Literal or kind is str:
        return str(value)
    if origin in (types.UnionType, typing.Union):
        return _optional(value, kind, name, where)
    if kind is bool:
        return _switch(value, name, where)
    if origin is tuple:
        inner = typing.get_args(kind)[0]
        return (_pairs if typing.get_origin(inner) is tuple else _numbers)(value, inner, name, where)
    if origin is not None and issubclass(origin, Mapping):
        return _table(value, name, where)
    return _number(value, kind, name, where)


def _optional(value: Any, kind: Any, name: str, where: str) -> Any:
    """A field that may be None: the word `none` says so."""
    inner = next(one for one in typing.get_args(kind) if one is not type(None))
    return None if value is None or value == "none" else _convert(value, inner, name, where)


def _switch(value: Any, name: str, where: str) -> bool:
    word = str(value).lower()
    if word not in (*_TRUE, *_FALSE):
        raise ParameterError(f"{where}: {name} must be true or false, not {value!r}.")
    return word in _TRUE


def _numbers(value: Any, kind: Any, name: str, where: str) -> tuple[Any, ...]:
    parts = [part for part in value.strip("[]()").split(",") if part.strip()] if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise ParameterError(f"{where}: {name} must be numbers with commas between them, not {value!r}.")
    return tuple(_number(part, kind, name, where) for part in parts)


def _pairs(value: Any, kind: Any, name: str, where: str) -> tuple[tuple[Any, ...], ...]:
    """Pairs of numbers, `[[0.5, 0.6], [0.7, 0.9]]`; text as JSON."""
    try:
        pairs = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        pairs = None
    if not isinstance(pairs, list | tuple) or not all(isinstance(pair, list | tuple) for pair in pairs):
        raise ParameterError(f"{where}: {name} must be pairs as in [[0.5, 0.6], [0.7, 0.9]], not {value!r}.")
    return tuple(_numbers(pair, typing.get_args(kind)[0], name, where) for pair in pairs)


def _table(value: Any, name: str, where: str) -> dict[str, Any]:
    try:
        content = json.loads(value) if isinstance(value, str) else value
        return {str(key): inner for key, inner in content.items()}
    except (ValueError, AttributeError):
        raise ParameterError(f"{where}: {name} must be a json object, not {value!r}.") from None


def _number(value: Any, kind: Any, name: str, where: str) -> Any:
    try:
        if isinstance(value, bool):
            raise TypeError
        return kind(value) if not (kind is int and isinstance(value, float)) else _whole(value)
    except (TypeError, ValueError, OverflowError):
        noun = "a whole number" if kind is int else "a number"
        raise ParameterError(f"{where}: {name} must be {noun}, not {value!r}.") from None


def _whole(value: float) -> int:
    if not value.is_integer():
        raise ValueError(value)
    return int(value)
