"""Episodes for training: the same with one thread and three, whole and in parts, and without what cannot be read."""

from typing import Any

import numpy as np
import pytest
import torch

from tests.wilss_train.data.episodes.pictures import Pictures, frozen
from wilss.data.taxonomy import VOID
from wilss.errors import ParameterError, StoreError
from wilss_train.data.episodes.batches import EpisodeBatch, EpisodeBatchSource, EpisodeSample, Shape
from wilss_train.data.episodes.features import FeatureBank
from wilss_train.data.image_pool import Broken


def maker(pictures: Pictures | None = None, shape: Shape | None = None, **more: Any) -> EpisodeBatchSource:
    pictures = pictures or Pictures()
    bank = FeatureBank(frozen(), pictures, mib=more.pop("mib", 10))
    return EpisodeBatchSource(
        bank, pictures.index, shape or Shape(shots=2), **{"count": 8, "batch_size": 4, "seed": 0, **more}
    )


def samples(made: list[list[EpisodeBatch]]) -> list[EpisodeSample]:
    return [sample for parts in made for part in parts for sample in part.samples]


def same(first: list[EpisodeSample], second: list[EpisodeSample]) -> bool:
    return len(first) == len(second) and all(
        one.image_ids == other.image_ids
        and all(torch.equal(a, b) for a, b in zip(one.supports, other.supports, strict=True))
        and all(torch.equal(a, b) for a, b in zip(one.maps, other.maps, strict=True))
        and torch.equal(one.query, other.query)
        and torch.equal(one.labels, other.labels)
        for one, other in zip(first, second, strict=True)
    )


def test_threads_and_memory_change_nothing() -> None:
    whole = samples(list(maker().stream(0, 5)))
    assert same(whole, samples(list(maker().stream(0, 5, workers=3))))
    assert same(whole, samples(list(maker(mib=0).stream(0, 5, workers=2))))
    assert same(whole[12:], samples(list(maker().stream(3, 5))))


def test_processes_and_parts_make_up_the_same_steps() -> None:
    whole = samples(list(maker().stream(0, 3)))
    halves = [list(maker(rank=rank, world=2).stream(0, 3)) for rank in (0, 1)]
    assert same(whole, samples([parts for pair in zip(*halves, strict=True) for parts in pair]))
    parts = list(maker(accumulate=2).stream(0, 3))
    assert [[len(part.samples) for part in step] for step in parts] == [[2, 2]] * 3
    assert same(whole, samples(parts))
    assert maker().order.steps_per_epoch == 2
    assert maker().image_count == len({image for images in Pictures().index.values() for image in images})


def test_every_episode_of_a_run_is_another_one() -> None:
    found = [sample.image_ids for sample in samples(list(maker(count=40).stream(0, 20)))]
    assert len(set(found)) > 60


def test_what_a_sample_holds() -> None:
    shape = Shape(ways=2, shots=2, flip=0.5)
    mirrored = 0
    for sample in samples(list(maker(shape=shape).stream(0, 4))):
        assert sample.ways == (1, 1, 2, 2)
        assert len(sample.supports) == len(sample.maps) == 4
        assert set(sample.labels.unique().tolist()) <= {0, 1, 2, VOID}
        assert (sample.labels == 1).any()
        for image, known in zip(sample.image_ids, sample.maps, strict=False):
            assert (known == 1).any()
            label = Pictures().label(image)
            mirrored += not np.array_equal(known == VOID, label == VOID) and known.shape == label.shape
    assert mirrored
    assert all(torch.equal(one, other) for one, other in zip(sample.to("cpu").maps, sample.maps, strict=True))


def test_flips_are_drawn_or_not() -> None:
    for flip in (0.0, 1.0):
        for sample in samples(list(maker(shape=Shape(flip=flip)).stream(0, 2))):
            label = Pictures().label(sample.image_ids[-1])
            label = label[:, ::-1] if flip else label
            assert np.array_equal(sample.labels.numpy() == VOID, label == VOID)
            (way,) = {one for one in (1, 2, 3) if np.array_equal(sample.labels.numpy() == 1, label == one)}
            assert sample.image_ids[-1] in Pictures().index[way]


def test_an_image_that_cannot_be_read_is_told_once_and_its_episodes_replaced() -> None:
    told: list[Broken] = []
    pictures = Pictures(broken=frozenset({"im1", "im5"}))
    found = samples(list(maker(pictures, on_broken=told.append).stream(0, 6, workers=2)))
    assert {one.image_id for one in told} == {"im1", "im5"}
    assert len(told) == 2
    assert not {"im1", "im5"} & {image for sample in found for image in sample.image_ids}
    assert len(found) == 24
    with pytest.raises(StoreError, match="images cannot be read, so there is nothing to train on: im"):
        list(maker(Pictures(broken=frozenset(f"im{i}" for i in range(12)))).stream(0, 1))


def test_too_few_images_are_refused_at_once() -> None:
    with pytest.raises(ParameterError, match="12 shots and a query need 13"):
        maker(shape=Shape(shots=12))
