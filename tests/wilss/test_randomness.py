"""Named draws: equal names give equal draws, other names others, whatever came before."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from wilss.randomness import generator_for, numpy_generator_for, seed_for

names = st.lists(st.one_of(st.text(max_size=8), st.integers(-5, 5)), max_size=4)


def test_a_seed_is_what_its_description_says() -> None:
    """Written out once, so that a change of the scheme cannot pass unnoticed: old stores rest on it."""
    assert seed_for(0, "2007_000033", "sofa") == 2219771129276749184


@given(first=names, second=names)
def test_equal_names_only_give_equal_seeds(first: list[str | int], second: list[str | int]) -> None:
    assert (seed_for(0, *first) == seed_for(0, *second)) == (first == second)
    assert seed_for(0, *first) != seed_for(1, *first)


def test_a_draw_does_not_depend_on_other_draws() -> None:
    alone = torch.randperm(100, generator=generator_for(7, "a", "b"))
    torch.manual_seed(3)
    torch.rand(10)
    assert torch.equal(alone, torch.randperm(100, generator=generator_for(7, "a", "b")))
    assert not torch.equal(alone, torch.randperm(100, generator=generator_for(7, "ab")))
    assert numpy_generator_for(7, "a").random() == numpy_generator_for(7, "a").random()
