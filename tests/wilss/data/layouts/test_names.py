"""Names in one buffer, and the table of their places, against a list and a dict."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wilss.data.layouts.names import Names, Register

#: Few letters, so that names come again and are the beginnings of each other; and all there are, with lone surrogates.
NAMES = st.lists(st.one_of(st.text("ab", max_size=3), st.text(st.characters(exclude_categories=()))), max_size=40)


@given(names=NAMES, data=st.data())
def test_names_are_a_list_of_strings(names: list[str], data: st.DataObject) -> None:
    made = Names(names)
    assert list(made) == names
    assert [made[place] for place in range(-len(names), 0)] == names
    where = data.draw(st.slices(len(names)))
    assert made[where] == names[where]
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
