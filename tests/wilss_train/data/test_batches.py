"""Batches depend on their number alone, whoever makes them and whatever broke before."""

from collections import Counter
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.wilss_train.memory.drawn import PROTOCOL, make_store, random_masks, records_of, write_images
from wilss.data.taxonomy import VOID
from wilss.errors import StoreError
from wilss_train.data.batch_source import Order, Visit
from wilss_train.data.batches import SegBatch, SegBatchSource
from wilss_train.data.copy_paste import PasteParams
from wilss_train.data.image_pool import Broken
from wilss_train.data.masked_images import MaskedImages, limited
from wilss_train.memory import MemoryBank, fill
from wilss_train.params import TrainParams

COUNT = 7
PARAMS = TrainParams(batch_size=4, crop=16, colour=0.2, loss_stride=2, epochs=2, cache_mib=0)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> MemoryBank:
    """Instances of classes 1 and 2."""
    folder = tmp_path_factory.mktemp("bank")
    images = random_masks(6, (1, 2), seed=5)
    fill(
        folder / "memory.zarr", store=make_store(folder / "step-0.zarr", images),
        records=records_of(write_images(folder / "images", images)), protocol=PROTOCOL, step=0, parent=None,
        per_class=4, seed=0, weak=False, min_area=1,
    )  # fmt: skip
    return MemoryBank.open(folder / "memory.zarr")


@pytest.fixture
def images(tmp_path: Path) -> MaskedImages:
    drawn = random_masks(COUNT, PROTOCOL.new(1))
    records = records_of(write_images(tmp_path / "images", drawn))
    return MaskedImages(make_store(tmp_path / "step-1.zarr", drawn, step=1), records)


def made(
    images: MaskedImages, bank: MemoryBank | None = None, params: TrainParams = PARAMS, **more: Any
) -> SegBatchSource:
    pasting = PasteParams(probability=0.7, per_image=2) if bank is not None else None
    return SegBatchSource(images, PROTOCOL, 1, params, **{"seed": 3, "bank": bank, "pasting": pasting, **more})


def equal(first: SegBatch, second: SegBatch) -> bool:
    pairs = [(getattr(first, one.name), getattr(second, one.name)) for one in fields(SegBatch)]
    return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs)


def all_equal(first: list[list[SegBatch]], second: list[list[SegBatch]]) -> bool:
    pairs = [pair for parts in zip(first, second, strict=True) for pair in zip(*parts, strict=True)]
    return all(equal(*pair) for pair in pairs)


def test_a_limit_is_a_draw_by_name_that_grows(images: MaskedImages) -> None:
    """Twice as many hold them all; which ones depends on the seed, and the order of epochs goes over them alone."""
    ids, rows = images.store.image_ids, images.finished()
    drawn = {limit: set(limited(rows, ids, limit, 3).tolist()) for limit in (2, 4, 7, 9, 0)}
    assert [len(each) for each in drawn.values()] == [2, 4, 7, 7, 7]
    assert drawn[2] < drawn[4] < drawn[7]
    assert any(set(limited(rows, ids, 2, seed).tolist()) != drawn[2] for seed in range(4, 9))
    source = made(images, params=replace(PARAMS, limit=2, epoch_steps=3))
    assert source.order.count == source.image_count == 2
    shown = {name for parts in source.stream(0, 6) for batch in parts for name in batch.image_ids}
    assert shown == {ids[row] for row in drawn[2]}


@pytest.mark.parametrize(
    ("count", "batch", "least", "steps"),
    [(7, 4, 1, 1), (12, 4, 1, 3), (13, 4, 1, 3), (3, 8, 1, 1), (1, 2, 1, 1), (5, 4, 6, 6), (12, 4, 2, 3)],
)
def test_the_order_is_a_permutation_in_every_epoch(count: int, batch: int, least: int, steps: int) -> None:
    order = Order(count=count, batch=batch, seed=1, least=least)
    assert order.steps_per_epoch == steps
    epochs = []
    for epoch in range(4):
        seen = [visit for number in range(steps) for visit in order.visits(epoch * steps + number)]
        assert len(seen) == steps * batch
        assert {visit.names[0] for visit in seen} == {epoch}
        assert len(set(seen)) == len(seen), "an image that comes again comes with another name"
        times = Counter(visit.position for visit in seen)
        assert set(times) <= set(range(count))
        most, fewest = max(times.values()), min(times.values())
        assert most == 1 if count >= steps * batch else (len(times) == count and most - fewest <= 1)
        epochs.append(tuple(visit.position for visit in seen))
    assert len(set(epochs)) > 1 or count == 1
    assert order.visits(2) == Order(count=count, batch=batch, seed=1, least=least).visits(2)
    if count > 3:
        assert order.visits(0) != replace(order, seed=2).visits(0)


def test_an_image_that_comes_again_in_an_epoch_is_cut_again(images: MaskedImages, bank: MemoryBank) -> None:
    source = made(images, bank)
    first, again = source.sample(Visit(0, (0,))), source.sample(Visit(0, (0, 1)))
    assert first.image_ids == again.image_ids
    assert not torch.equal(first.images, again.images)
    assert first.seeds != again.seeds


def test_views_come_again_with_what_is_pasted_on_them(images: MaskedImages, bank: MemoryBank) -> None:
    source = made(images, bank, replace(PARAMS, views=2))
    first, second, third = (source.sample(Visit(0, (epoch,))) for epoch in range(3))
    assert first.views == third.views != second.views
    assert torch.equal(first.images, third.images)
    assert torch.equal(first.pasted, third.pasted)
    assert not torch.equal(first.images, second.images)
    assert first.seeds != third.seeds
    assert source.sample(Visit(1, (0,))).views != first.views
    shown = {source.sample(Visit(0, (epoch, again))).views for epoch in range(5) for again in range(3)}
    assert len(shown) == 2, "also where an epoch shows an image several times"
    other = made(images, bank).sample(Visit(0, (0,)))
    assert (other.views, torch.equal(other.images, first.images)) == ((), True)


def test_a_batch_is_what_it_says(images: MaskedImages, bank: MemoryBank) -> None:
    (batch,) = next(made(images, bank).stream(0, 1))
    assert (batch.images.shape, batch.images.dtype) == ((4, 3, 16, 16), torch.uint8)
    tags = [[identity in images.read(name).category_ids for identity in PROTOCOL.new(1)] for name in batch.image_ids]
    assert batch.tags.tolist() == tags
    assert (batch.pseudo.shape, batch.pseudo.dtype) == ((4, 2, 8, 8), torch.bool)
    assert (batch.pasted.shape, batch.pasted.dtype) == ((4, 8, 8), torch.uint8)
    assert (batch.void.shape, batch.void.dtype) == ((4, 8, 8), torch.bool)
    assert len(set(batch.image_ids)) == len(set(batch.seeds)) == 4
    assert set(batch.pasted.unique().tolist()) <= {1, 2, VOID}
    assert (batch.pasted != VOID).any()
    lies = batch.pasted != VOID
    assert not (lies & batch.void).any()
    assert not (lies[:, None] & batch.pseudo).any()


def test_masks_are_taken_on_every_second_pixel_of_a_cell_s_middle(images: MaskedImages) -> None:
    whole, every = made(images, params=replace(PARAMS, loss_stride=1)), made(images)
    (first,), (second,) = next(whole.stream(0, 1)), next(every.stream(0, 1))
    assert torch.equal(first.images, second.images)
    for name in ("pseudo", "pasted", "void"):
        assert torch.equal(getattr(first, name)[..., 1::2, 1::2], getattr(second, name))


@pytest.mark.parametrize("workers", [2, 5])
def test_any_number_of_threads_makes_the_same(images: MaskedImages, bank: MemoryBank, workers: int) -> None:
    alone = list(made(images, bank).stream(0, 6, workers=1))
    assert len(alone) == 6
    assert all_equal(alone, list(made(images, bank).stream(0, 6, workers=workers)))


def test_a_batch_depends_on_its_number_alone(images: MaskedImages, bank: MemoryBank) -> None:
    stream = list(made(images, bank).stream(0, 6))
    for first in (1, 4, 5):
        assert all_equal(stream[first:], list(made(images, bank).stream(first, 6)))
    assert all_equal(stream[2:3], list(islice(made(images, bank).stream(2, 6), 1)))
    assert not all_equal(stream[:1], stream[1:2])
    assert not all_equal(stream[:1], list(made(images, bank, seed=4).stream(0, 1)))


def test_processes_share_a_batch_and_parts_make_it_up(images: MaskedImages, bank: MemoryBank) -> None:
    whole = [parts[0] for parts in made(images, bank).stream(0, 3)]
    ranks = [list(made(images, bank, rank=rank, world=2).stream(0, 3)) for rank in range(2)]
    halves = list(made(images, bank, replace(PARAMS, accumulate=2)).stream(0, 3))
    for step in range(3):
        assert equal(whole[step], SegBatch.of([ranks[0][step][0], ranks[1][step][0]]))
        assert len(halves[step]) == 2
        assert equal(whole[step], SegBatch.of(halves[step]))


def test_a_broken_image_is_named_once_and_another_takes_its_place(
    images: MaskedImages, bank: MemoryBank, tmp_path: Path
) -> None:
    broken_id = images.store.image_ids[2]
    sound = list(made(images, bank).stream(0, 8))
    (tmp_path / f"images/{broken_id}.png").write_bytes(b"no picture")
    told: list[Broken] = []
    found = list(made(images, bank, on_broken=told.append).stream(0, 8, workers=3))
    assert [one.image_id for one in told] == [broken_id]
    assert f"{broken_id}.png" in told[0].error
    met = 0
    for (before,), (after,) in zip(sound, found, strict=True):
        assert broken_id not in after.image_ids
        for place, name in enumerate(before.image_ids):
            met += name == broken_id
            if name != broken_id:
                assert after.image_ids[place] == name
                assert torch.equal(before.images[place], after.images[place])
    assert met
    assert all_equal(found[3:], list(made(images, bank).stream(3, 8)))  # a run that starts here meets it again


def test_nothing_to_read_is_an_error(images: MaskedImages, tmp_path: Path) -> None:
    for path in (tmp_path / "images").iterdir():
        path.write_bytes(b"no picture")
    told: list[Broken] = []
    with pytest.raises(StoreError, match=rf"{COUNT} images cannot be read, so there is nothing to train on"):
        next(made(images, on_broken=told.append).stream(0, 1))
    assert sorted(one.image_id for one in told) == sorted(images.store.image_ids)


def test_a_bank_that_cannot_be_read_is_not_blamed_on_the_images(
    images: MaskedImages, bank: MemoryBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(index: int) -> None:
        raise StoreError(f"instance {index} is damaged.")

    monkeypatch.setattr(bank, "read", damaged)
    told: list[Broken] = []
    with pytest.raises(StoreError, match=r"instance \d+ is damaged"):
        list(made(images, bank, on_broken=told.append).stream(0, 2))
    assert not told


def test_an_empty_store_is_refused(tmp_path: Path) -> None:
    drawn = random_masks(2, PROTOCOL.new(1))
    records = records_of(write_images(tmp_path / "images", drawn))
    store = make_store(tmp_path / "step-1.zarr", drawn, step=1, failed=tuple(drawn))
    with pytest.raises(StoreError, match=r"holds no image with masks of this step"):
        made(MaskedImages(store, records))


def test_pasted_instances_bring_their_channel(images: MaskedImages, bank: MemoryBank) -> None:
    """Where something was pasted, the image is not what it is without; elsewhere it is, and so are the masks."""
    params = replace(PARAMS, loss_stride=1)
    plain, pasted = made(images, params=params), made(images, bank, params)
    channels = set()
    for (before,), (after,) in zip(plain.stream(0, 4), pasted.stream(0, 4), strict=True):
        lies = after.pasted != VOID
        channels |= set(after.pasted[lies].tolist())
        assert torch.equal(before.images.movedim(1, -1)[~lies], after.images.movedim(1, -1)[~lies])
        assert torch.equal(before.pseudo.movedim(1, -1)[~lies], after.pseudo.movedim(1, -1)[~lies])
        assert (before.pasted == VOID).all()
    assert channels == set(np.array(PROTOCOL.old_channels(1))[1:].tolist())
