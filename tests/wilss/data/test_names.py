"""Names in one buffer, and the table of their places, against a list and a dict."""

import builtins
import pickle
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wilss.data.names import NameIndex, Names, Register, composed

#: Few letters, so that names come again and are the beginnings of each other; and all there are, with lone surrogates.
NAMES = st.lists(st.one_of(st.text("ab", max_size=3), st.text(st.characters(exclude_categories=()))), max_size=40)


@given(names=NAMES, data=st.data())
def test_names_are_a_list_of_strings(names: list[str], data: st.DataObject) -> None:
    made = Names(names)
    assert list(made) == names
    assert [made[place] for place in range(-len(names), 0)] == names
    where = data.draw(st.slices(len(names)))
    assert made[where] == names[where]
    assert made == tuple(names)
    assert (made == Names(names[::-1])) == (names == names[::-1])
    assert made != names, "as with a tuple"
    rows = range(len(names))[data.draw(st.slices(len(names)))]
    chosen = made.at(rows)
    assert list(chosen) == [names[row] for row in rows]
    assert chosen[where] == list(chosen)[where]
    for outside in (len(names), -len(names) - 1):
        with pytest.raises(IndexError):
            made[outside]


@given(names=NAMES, others=NAMES, data=st.data())
def test_a_register_gives_each_name_a_place_in_the_order_they_came(
    names: list[str], others: list[str], data: st.DataObject
) -> None:
    register, places = Register(), dict[str, int]()
    for name in names:
        expected = places.setdefault(name, len(places))
        assert register.add(name, data.draw(st.integers(0, len(places)))) == expected, "whatever was guessed"
    assert list(register) == list(places)
    for name in (*names, *others):
        assert register.find(name) == places.get(name)
        assert (name in register) == (name in places)


def test_a_register_refuses_a_name_twice_where_it_must_be_new() -> None:
    with pytest.raises(ValueError, match="'a' is there already"):
        Register(["a", "b", "a"])
    assert 7 not in Register(["7"])  # type: ignore[comparison-overlap]


@given(names=NAMES, others=NAMES)
def test_an_index_finds_the_first_of_equal_names(names: list[str], others: list[str]) -> None:
    index = pickle.loads(pickle.dumps(NameIndex(Names(names))))
    asked = [*names, *others]
    assert [index.find(name) for name in asked] == [names.index(name) if name in names else None for name in asked]
    assert index.find_all(asked).tolist() == [names.index(name) if name in names else -1 for name in asked]


@given(names=NAMES, others=NAMES)
def test_what_people_write_is_found_in_any_spelling(names: list[str], others: list[str]) -> None:
    index, plain = NameIndex(Names(names)), [composed(name) for name in names]
    for name in (*names, *others, *(unicodedata.normalize("NFD", name) for name in names)):
        spelt = plain.index(composed(name)) if composed(name) in plain else -1
        assert index.find_spelt([name]).tolist() == [names.index(name) if name in names else spelt]


def test_both_spellings_of_a_name_are_two_names_of_an_index() -> None:
    one, two = "Hündin", unicodedata.normalize("NFD", "Hündin")
    assert one != two
    assert NameIndex([two, one]).find_spelt([one, two, "Hund"]).tolist() == [1, 0, -1]
    assert NameIndex([two]).find_spelt([one]).tolist() == NameIndex([one]).find_spelt([two]).tolist() == [0]


def test_an_index_tells_names_of_one_hash_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtins, "hash", lambda name: 7)
    index = NameIndex(["c", "a", "b"])
    assert [index.find(name) for name in "abcd"] == [1, 2, 0, None]
