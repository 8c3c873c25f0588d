"""Batches of both kinds of images: named draws, views that agree, shares, substitutes, and what is never read."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.wilss_train.data.random_views import draw_view
from tests.wilss_train.data.semi.world import IMAGES, KNOWN, PARAMS, inputs, make
from wilss.data.taxonomy import VOID
from wilss.store import MaskStore
from wilss_train.data.augment import cut_masks, is_outside
from wilss_train.data.image_pool import Broken
from wilss_train.data.masked_images import MaskedImages
from wilss_train.data.semi.batches import SemiBatch, SemiBatchSource, SemiParts
from wilss_train.data.semi.labelled import Labelled
from wilss_train.data.semi.views import StrongParams
from wilss_train.inputs import RunInputs
from wilss_train.params import TrainParams

KNOWN_ROWS, OTHER_ROWS = (1, 4, 5), (0, 2, 3, 6, 7, 8)
PARTS = SemiParts(labelled=2, unlabelled=True, weak=True, strong=StrongParams())


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> RunInputs:
    return inputs(make(tmp_path_factory.mktemp("pets")))


class Soft:
    """Soft labels of an image: one channel grows to the right."""

    def read(self, image_id: str) -> Any:
        slope = np.broadcast_to(np.linspace(0, 1, 8), (6, 8))
        return np.stack([1 - slope, slope, 0 * slope]).astype(np.float16)


def maker(start: RunInputs, params: TrainParams = PARAMS, parts: SemiParts = PARTS, **more: Any) -> SemiBatchSource:
    chosen = Labelled(rows=np.array(KNOWN_ROWS), others=np.array(OTHER_ROWS))
    images = MaskedImages(start.store, start.records)
    return SemiBatchSource(images, chosen, start.protocol, 0, params, parts, **{"seed": 5, **more})


def batches(made: SemiBatchSource, first: int = 0, last: int = 6, workers: int = 1) -> list[SemiBatch]:
    return [part for parts in made.stream(first, last, workers=workers) for part in parts]


def equal(first: SemiBatch, second: SemiBatch) -> bool:
    names = ("images", "labels", "inside", "weak", "strong", "shown", "valid", "targets")
    return first.image_ids == second.image_ids and all(
        torch.equal(getattr(first, name), getattr(second, name)) for name in names
    )


def test_shapes_and_who_is_who(start: RunInputs) -> None:
    for batch in batches(maker(start)):
        assert batch.images.shape == batch.weak.shape == batch.strong.shape == (2, 3, 32, 32)
        assert batch.labels.shape == batch.inside.shape == batch.valid.shape == batch.shown.shape == (2, 16, 16)
        assert batch.targets.shape == (0, 3, 16, 16)
        assert set(batch.image_ids[:2]) <= set(KNOWN)
        assert set(batch.image_ids[2:]) <= set(IMAGES) - set(KNOWN)
        assert set(batch.labels.unique().tolist()) <= {0, 1, 2, VOID}


def test_an_epoch_shows_every_unlabelled_image_once(start: RunInputs) -> None:
    made = maker(start)
    assert made.order.steps_per_epoch == 3
    assert made.image_count == len(IMAGES)
    assert maker(start, parts=replace(PARTS, unlabelled=False)).image_count == len(KNOWN)
    for epoch in range(2):
        seen = [image for batch in batches(made, 3 * epoch, 3 * epoch + 3) for image in batch.image_ids[2:]]
        assert sorted(seen) == sorted(set(IMAGES) - set(KNOWN))


def test_a_batch_depends_on_its_number_alone(start: RunInputs) -> None:
    whole = batches(maker(start))
    for number, one in enumerate(batches(maker(start), workers=3)):
        assert equal(one, whole[number])
    (alone,) = batches(maker(start), 4, 5)
    assert equal(alone, whole[4])
    assert not equal(batches(maker(start, seed=6), 4, 5)[0], alone)


def test_processes_and_parts_share_a_step(start: RunInputs) -> None:
    params, shares = replace(PARAMS, batch_size=4), replace(PARTS, labelled=4)
    (whole,) = batches(maker(start, params, shares), 1, 2)
    halves = [batches(maker(start, params, shares, rank=rank, world=2), 1, 2)[0] for rank in (0, 1)]
    parts = batches(maker(start, replace(params, accumulate=2), shares), 1, 2)
    for pieces in (halves, parts):
        assert torch.equal(torch.cat([one.images for one in pieces]), whole.images)
        assert torch.equal(torch.cat([one.strong for one in pieces]), whole.strong)


def test_labelled_images_come_again_in_other_views(start: RunInputs) -> None:
    (batch,) = batches(maker(start, parts=replace(PARTS, labelled=6)), 0, 1)
    assert len(batch.images) == 6
    twice = [place for place, image in enumerate(batch.image_ids[:6]) if image == batch.image_ids[0]]
    assert len(twice) == 2
    assert not torch.equal(batch.images[twice[0]], batch.images[twice[1]])


def test_labels_are_cut_as_the_image_is(start: RunInputs) -> None:
    """By the masks of the same view, drawn by its names."""
    from wilss.randomness import numpy_generator_for

    made = maker(start)
    (batch,) = batches(made, 0, 1)
    position, visit = made._labelled_order.visits(0)[0]
    row = KNOWN_ROWS[position]
    read = start.store.read(row)
    rng = numpy_generator_for(5, "labelled view", *visit, start.store.image_ids[row])
    height, width = read.masks.shape[1:]
    view = draw_view(height, width, crop=32, scale=PARAMS.scale, flip=PARAMS.flip, colour=PARAMS.colour, rng=rng)
    (identity,) = (start.store.category_ids[place] for place in read.categories)
    wanted = cut_masks(read.masks, view)[0].astype(np.uint8) * start.protocol.channel_of(identity, 0)
    assert read.void is not None
    outside = is_outside(height, width, view)
    wanted[cut_masks(read.void[None], view)[0] | outside] = VOID
    np.testing.assert_array_equal(batch.labels[0].numpy(), wanted[1::2, 1::2])
    np.testing.assert_array_equal(batch.inside[0].numpy(), ~outside[1::2, 1::2])


def test_strong_views_are_the_weak_ones_in_another_light(start: RunInputs) -> None:
    still = StrongParams(brightness=0, contrast=0, saturation=0, hue=0, cutout=0.25)
    for batch in batches(maker(start, parts=replace(PARTS, strong=still))):
        changed = (batch.weak.int() - batch.strong.int()).abs().amax(dim=1) > 8
        assert (changed.sum(dim=(1, 2)) <= 64).all(), "more than the square has changed"
        hole = batch.shown & ~batch.valid
        assert (hole.sum(dim=(1, 2)) <= 16).all()
        assert not (batch.valid & ~batch.shown).any()


def test_soft_labels_come_in_the_same_view_and_weak_views_not_at_all(start: RunInputs) -> None:
    plain = batches(maker(start))
    for number, batch in enumerate(batches(maker(start, parts=replace(PARTS, weak=False), soft=Soft()))):
        assert batch.weak.shape == (0, 3, 32, 32)
        assert batch.shown.shape == (0, 16, 16)
        assert batch.targets.shape == (2, 3, 16, 16)
        assert batch.targets.dtype == torch.float16
        assert torch.equal(batch.strong, plain[number].strong)
        torch.testing.assert_close(batch.targets.float().sum(dim=1), torch.ones(2, 16, 16), atol=2e-3, rtol=0)


def test_labelled_images_alone(start: RunInputs) -> None:
    alone = replace(PARTS, unlabelled=False)
    for number, batch in enumerate(batches(maker(start, parts=alone))):
        assert len(batch.strong) == len(batch.valid) == 0
        assert torch.equal(batch.images, batches(maker(start), number, number + 1)[0].images)


def test_masks_of_unlabelled_images_are_never_read(start: RunInputs, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    real = MaskStore.read

    def watched(store: MaskStore, image: Any, *given: Any) -> Any:
        read.append(image)
        return real(store, image, *given)

    monkeypatch.setattr(MaskStore, "read", watched)
    batches(maker(start))
    assert set(read) == set(KNOWN_ROWS)


def test_another_image_stands_in_for_a_broken_one(start: RunInputs, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    records = {**start.records, **{name: replace(start.records[name], path=bad) for name in ("im2", "im4")}}
    broken: list[Broken] = []
    made = [batches(maker(replace(start, records=records), on_broken=broken.append), workers=n) for n in (1, 3)]
    assert sorted(one.image_id for one in broken) == ["im2", "im2", "im4", "im4"]
    assert "bad.jpg" in broken[0].error
    for one, other in zip(*made, strict=True):
        assert equal(one, other)
        assert not {"im2", "im4"} & set(one.image_ids)
