"""Parameters set from words and from YAML."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pytest

from wilss.errors import ParameterError
from wilss.params import NonNegativeFloat, Params, differences, faults_of, parse_assignments, shortened, with_values


@dataclass(frozen=True, kw_only=True)
class Some(Params):
    name: ClassVar[str] = "some"

    count: int = 1
    share: NonNegativeFloat = 0.5
    on: bool = False
    word: str = ""
    kind: Literal["a", "b"] = "a"
    range: tuple[float, ...] = (1.0, 2.0)
    rates: tuple[int, ...] = ()
    table: Mapping[str, Any] = field(default_factory=dict)
    most: int | None = 3


@dataclass(frozen=True)
class Empty:
    name: ClassVar[str] = "empty"


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("count", "12", 12),
        ("count", 2.0, 2),
        ("share", "1e-3", 0.001),
        ("share", 2, 2.0),
        ("on", "yes", True),
        ("on", False, False),
        ("word", "a=b", "a=b"),
        ("kind", "b", "b"),
        ("range", "[0.5, 3]", (0.5, 3.0)),
        ("range", "0.5,3", (0.5, 3.0)),
        ("range", [1, 4], (1.0, 4.0)),
        ("rates", "6,12,18", (6, 12, 18)),
        ("rates", "", ()),
        ("table", '{"channels": [8, 8]}', {"channels": [8, 8]}),
        ("table", {1: 2}, {"1": 2}),
        ("most", "none", None),
        ("most", None, None),
        ("most", "7", 7),
    ],
)
def test_values_take_the_type_of_their_field(name: str, value: object, found: object) -> None:
    changed = getattr(with_values(Some(), {name: value}, where="--set"), name)
    assert changed == found
    assert type(changed) is type(found)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"cuont": 2}, r"^--set: there is no parameter 'cuont'; did you mean count\?"),
        ({"zzz": 2}, r"there is no parameter 'zzz'; known are count, share"),
        ({"count": "1.5"}, r"--set: count must be a whole number, not '1.5'"),
        ({"count": 1.5}, r"count must be a whole number, not 1.5"),
        ({"count": True}, r"count must be a whole number, not True"),
        ({"share": "much"}, r"share must be a number, not 'much'"),
        ({"share": None}, r"share must be a number, not None"),
        ({"on": "maybe"}, r"on must be true or false, not 'maybe'"),
        ({"kind": "c"}, r"^--set: kind is 'c'; choose one of a, b"),
        ({"range": 1.0}, r"range must be numbers with commas between them, not 1.0"),
        ({"range": "1,x"}, r"range must be a number, not 'x'"),
        ({"table": "[1]"}, r"table must be a json object, not '\[1\]'"),
        ({"table": "{"}, r"table must be a json object"),
        ({"share": -1}, r"^--set: share is -1.0; it must be 0 or more"),
        ({"name": "other"}, r"there is no parameter 'name'"),
    ],
)
def test_wrong_ones_are_refused_in_a_sentence(values: Mapping[str, object], sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        with_values(Some(), values, where="--set")


def test_what_has_no_parameters_says_so() -> None:
    assert with_values(Empty(), {}, where="x") == Empty()
    with pytest.raises(ParameterError, match=r"^x: there is no parameter 'name'; known are none\.$"):
        with_values(Empty(), {"name": "b"}, where="x")


def test_assignments() -> None:
    assert parse_assignments(["draws=4", " keep = mass ", "args={\"a\": \"b=c\"}"]) == {
        "draws": "4", "keep": "mass", "args": '{"a": "b=c"}',
    }  # fmt: skip
    with pytest.raises(ParameterError, match=r"--set 'draws' is not of the form key=value"):
        parse_assignments(["draws"])


def test_differences_are_leaves_by_dotted_names() -> None:
    wanted = {"a": 1, "b": {"c": [1, 2], "d": {"e": None, "f": 2}}, "g": {"h": 1}}
    found = {"a": 1, "b": {"c": [1], "d": {"e": None, "f": 3, "more": 1}}, "g": 5, "more": 1}
    assert list(differences(wanted, found)) == [("b.c", [1, 2], [1]), ("b.d.f", 2, 3), ("g", {"h": 1}, 5)]
    assert list(differences(wanted, {})) == [(name, value, None) for name, value in wanted.items()]
    assert not list(differences(wanted, {**wanted, "more": 1}))


def test_long_values_are_shortened() -> None:
    assert shortened({"a": [1, None]}, 3, 40) == ('{"a": [1, null]}', "3")
    assert shortened("x" * 99, None, 10) == ('"xxxxxx...', "null")


@pytest.mark.parametrize("place", range(30))
def test_values_that_begin_alike_are_shown_where_they_differ(place: int) -> None:
    names = [f"class {number}" for number in range(30)]
    renamed = [*names[:place], "kitty", *names[place + 1 :]]
    mine, theirs = shortened(renamed, names, 40)
    assert '"kitty"' in mine
    assert f'"class {place}"' in theirs
    assert max(len(mine), len(theirs)) <= 40
    longer, shorter = shortened([*names, "new"], names, 40)
    assert ('"new"]' in longer, longer != shorter) == (True, True)


def test_all_faults_are_named_and_a_misspelt_name_may_be_one_of_elsewhere() -> None:
    assert faults_of(Some(), {"cuont": 2, "count": "x", "share": 0.5}, where="w") == [
        "w: there is no parameter 'cuont'; did you mean count?",
        "w: count must be a whole number, not 'x'.",
    ]
    assert faults_of(Some(), {"count": 3}, where="w") == []
    with pytest.raises(ParameterError, match=r"there is no parameter 'epoch'; did you mean epochs\?"):
        with_values(Some(), {"epoch": 2}, where="w", others=("epochs",))
