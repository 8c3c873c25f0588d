"""Pasting against the slow twin; what is drawn, how often, and that nothing leaves the image."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from tests.references import copy_paste as slow
from wilss.data.taxonomy import VOID
from wilss.errors import ParameterError, StoreError
from wilss_train.data.copy_paste import PasteParams, draw_instance, paste
from wilss_train.memory import Instance

CHANNEL = 7


def instance(height: int, width: int, *, full: bool = False, seed: int = 0) -> Instance:
    rng = np.random.default_rng(seed)
    mask = np.ones((height, width), bool) if full else rng.random((height, width)) > 0.3
    mask[0, 0] = True
    return Instance(
        index=0, category_id=3, image_id="a", box=(0, 0, height, width), area=int(mask.sum()), step=0, weak=False,
        confidence=1.0, image=rng.integers(0, 256, (height, width, 3)).astype(np.uint8), mask=mask,
    )  # fmt: skip


def background(height: int, width: int, *, classes: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = Generator().manual_seed(1)
    return (
        torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8),
        torch.rand((classes, height, width), generator=generator) > 0.5,
        torch.full((height, width), VOID, dtype=torch.uint8),
        torch.rand((height, width), generator=generator) > 0.5,
    )


def drawn(params: PasteParams, shape: tuple[int, int], room: tuple[int, int], generator: Generator) -> dict[str, Any]:
    """The numbers of a paste, drawn in the order that its docstring gives."""
    low, high = params.scale
    factor = low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))
    size = slow.size_after(*shape, factor, room)
    mirrored = float(torch.rand((), generator=generator)) < params.flip
    top, left = (int(torch.randint(room[i] - size[i] + 1, (), generator=generator)) for i in range(2))
    return {"size": size, "mirrored": mirrored, "top": top, "left": left}


@pytest.mark.parametrize("seed", range(6))
def test_paste_is_what_the_slow_twin_pastes(seed: int) -> None:
    params, one, arrays = PasteParams(scale=(0.4, 2.5)), instance(9, 14, seed=seed), background(21, 26)
    made = paste(*arrays, one, CHANNEL, params, Generator().manual_seed(seed))
    numbers = drawn(params, (9, 14), (21, 26), Generator().manual_seed(seed))
    image, labels, pasted, void = (array.numpy() for array in arrays)
    expected = slow.paste(image, labels, pasted, void, one.image, one.mask, CHANNEL, **numbers)
    np.testing.assert_allclose(made.image.numpy(), expected[0], atol=1.01)  # two roundings of half a level each
    for ours, theirs in zip(made[1:], expected[1:], strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs)


def test_at_its_own_size_pixels_stay_as_they_are() -> None:
    one, arrays = instance(6, 8), background(6, 8)
    made = paste(*arrays, one, CHANNEL, PasteParams(scale=(1.0, 1.0), flip=0.0), Generator())
    inside = torch.from_numpy(one.mask)
    assert torch.equal(made.image[:, inside], torch.from_numpy(one.image).permute(2, 0, 1)[:, inside])
    assert torch.equal(made.image[:, ~inside], arrays[0][:, ~inside])
    mirrored = paste(*arrays, one, CHANNEL, PasteParams(scale=(1.0, 1.0), flip=1.0), Generator())
    assert torch.equal(mirrored.pasted, made.pasted.flip(-1))


@settings(max_examples=150, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    room=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    low=st.floats(0.01, 4.0),
    more=st.floats(0.0, 6.0),
    classes=st.integers(0, 3),
    seed=st.integers(0, 2**31),
)
def test_whatever_the_sizes_an_instance_stays_inside_and_takes_all_that_it_covers(
    shape: tuple[int, int], room: tuple[int, int], low: float, more: float, classes: int, seed: int
) -> None:
    params, arrays = PasteParams(scale=(low, low + more)), background(*room, classes=classes)
    before = [array.clone() for array in arrays]
    made = paste(*arrays, instance(*shape, full=True), CHANNEL, params, Generator().manual_seed(seed))
    covered = made.pasted == CHANNEL
    rows, columns = (np.flatnonzero(covered.any(dim=axis).numpy()) for axis in (1, 0))
    size = drawn(params, shape, room, Generator().manual_seed(seed))["size"]
    assert (len(rows), len(columns)) == size
    assert int(covered.sum()) == size[0] * size[1]
    assert not made.pseudo[:, covered].any()
    assert not made.void[covered].any()
    for name, old in zip(made._fields, before, strict=True):
        new = getattr(made, name)
        assert new.dtype == old.dtype
        assert torch.equal(new[..., ~covered], old[..., ~covered])
    assert all(torch.equal(array, old) for array, old in zip(arrays, before, strict=True))


def test_every_place_is_reached_and_the_factor_is_lowered_only_where_it_must_be() -> None:
    generator, places = Generator().manual_seed(0), set()
    for _ in range(300):
        made = paste(*background(5, 4), instance(3, 2, full=True), 1, PasteParams(scale=(1.0, 1.0)), generator)
        places.add(tuple(int(v) for v in torch.argwhere(made.pasted == 1)[0]))
    assert places == {(top, left) for top in range(3) for left in range(3)}
    large = paste(*background(10, 30), instance(20, 20, full=True), 1, PasteParams(scale=(1.0, 1.5)), generator)
    assert int((large.pasted == 1).sum()) == 100


def test_a_mask_that_no_pixel_centre_hits_leaves_no_trace() -> None:
    one = instance(30, 30, full=True)
    one.mask[:] = False
    one.mask[0, 0] = True
    arrays = background(6, 6)
    made = paste(*arrays, one, CHANNEL, PasteParams(scale=(0.1, 0.1)), Generator())
    assert all(torch.equal(ours, old) for ours, old in zip(made, arrays, strict=True))


@dataclass
class FakeBank:
    """Two classes with one and with three instances."""

    path: Path = Path("memory.zarr")
    category_ids: tuple[int, ...] = (4, 9)
    indices: dict[int, list[int]] = field(default_factory=lambda: {4: [0], 9: [1, 2, 3]})

    def instances(self, category_id: int) -> Any:
        return [SimpleNamespace(index=index) for index in self.indices[category_id]]

    def read(self, index: int) -> Any:
        return index


def test_classes_come_equally_often_however_many_instances_they_have() -> None:
    bank: Any = FakeBank()
    generator = Generator().manual_seed(0)
    found: Any = [draw_instance(bank, (4, 5, 9), generator) for _ in range(3000)]
    share = np.bincount(found, minlength=4) / 3000
    np.testing.assert_allclose(share, [1 / 2, 1 / 6, 1 / 6, 1 / 6], atol=0.04)


def test_a_bank_without_old_classes_is_refused() -> None:
    bank: Any = FakeBank()
    with pytest.raises(StoreError, match=r"memory\.zarr holds no instance of an old class; train the step before"):
        draw_instance(bank, (1, 2), Generator())


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"probability": 1.5}, "probability is 1.5; it must be between 0 and 1"),
        ({"flip": -0.1}, "flip is -0.1"),
        ({"scale": (1.5, 0.5)}, "the smaller first"),
        ({"scale": (0.0, 1.0)}, "two numbers above 0"),
        ({"scale": (1.0, float("inf"))}, "two numbers above 0"),
        ({"per_image": -1}, "per_image is -1; it must be 0 or more"),
    ],
)
def test_wrong_parameters_are_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ParameterError, match=told):
        PasteParams(**values)
