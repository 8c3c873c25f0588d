"""Features are computed once and depend on nothing but the image; annotations know what a person would."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from tests.wilss_train.data.episodes.pictures import Pictures, frozen
from wilss.data.taxonomy import VOID
from wilss.models.networks.embedding import build_embedding, embedding_of
from wilss.models.networks.embedding_spec import EmbeddingSpec
from wilss_train.data.episodes.features import EmbeddedBank, FeatureBank, Support, labels_for, support_map


def test_an_image_is_read_once_however_often_it_comes_up() -> None:
    pictures = Pictures()
    bank = FeatureBank(frozen(), pictures, mib=10)
    found = [bank.input_of("im1") for _ in range(5)]
    assert pictures.asked == {"im1": 1}
    assert all(one is found[0] for one in found)
    assert (found[0].dtype, found[0].shape) == (torch.float16, (12, 4, 3))
    bank.input_of("im1", mirrored=True)
    assert pictures.asked == {"im1": 2}


def test_what_is_kept_decides_no_bit() -> None:
    kept, poor = (FeatureBank(frozen(), Pictures(), mib=mib) for mib in (10, 0))
    names = [f"im{i}" for i in range(9)]
    for name in names:
        kept.input_of(name)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(poor.input_of, reversed(names)))
    assert all(torch.equal(one, kept.input_of(name)) for one, name in zip(found, reversed(names), strict=True))


def test_a_mirror_image_is_a_mirror_image() -> None:
    pictures = Pictures()
    bank = FeatureBank(frozen(), pictures, mib=10)
    assert np.array_equal(bank.label("im0", mirrored=True), pictures.label("im0")[:, ::-1])
    image = torch.from_numpy(pictures.image("im0")).permute(2, 0, 1).flip(-1)
    expected = frozen().features(frozen().resized(image)[None])[0].half()
    assert torch.equal(bank.input_of("im0", mirrored=True), expected)


def test_images_for_the_vgg_stay_images() -> None:
    embedding = embedding_of(build_embedding(EmbeddingSpec(kind="vgg16", size=16), seed=0), None)
    bank = FeatureBank(embedding, Pictures(), mib=10)
    assert (bank.input_of("im0").dtype, bank.input_of("im0").shape) == (torch.uint8, (3, 16, 16))
    assert EmbeddedBank(bank, embedding, mib=10).features("im0").shape == (512, 2, 2)


def test_units_have_length_one_and_the_direction_of_the_features() -> None:
    bank = EmbeddedBank(FeatureBank(frozen(), Pictures(), mib=10), frozen(), mib=10)
    units, features = bank.units("im2"), bank.features("im2")
    torch.testing.assert_close(units.norm(dim=0), torch.ones(units.shape[1:]))
    torch.testing.assert_close(units * features.norm(dim=0), features)


@pytest.mark.parametrize("kind", ["mask", "box", "scribble"])
def test_annotations_say_nothing_wrong_and_are_the_same_again(kind: str) -> None:
    label = Pictures().label("im4")
    one = Support("im4", 2, kind)  # type: ignore[arg-type]
    found = support_map(label, one, 0)
    assert np.array_equal(found, support_map(label, one, 0))
    assert set(np.unique(found)) <= {0, 1, VOID}
    assert (found == 1).any()
    assert (found == 0).any()
    if kind != "box":
        assert (label[found == 1] == 2).all()
        assert not np.isin(label[found == 0], (2, VOID)).any()
    if kind == "mask":
        assert np.array_equal(found, np.where(label == VOID, VOID, label == 2))
    if kind == "scribble":
        assert (found == VOID).mean() > 0.5


def test_void_in_a_mask_is_background_where_that_is_asked() -> None:
    label = Pictures().label("im4")
    assert (label == VOID).any()
    found = support_map(label, Support("im4", 2, "mask", (3,)), 0, void="background")
    assert np.array_equal(found, np.where(label == 3, VOID, label == 2))
    for kind in ("box", "scribble"):
        one = Support("im4", 2, kind)
        assert np.array_equal(support_map(label, one, 0, void="background"), support_map(label, one, 0))


def test_other_ways_are_no_background() -> None:
    label = Pictures().label("im4")
    assert (label == 3).any()
    found = support_map(label, Support("im4", 2, "mask", (1, 3)), 0)
    assert (found[label == 3] == VOID).all()
    assert (found[label == 2] == 1).all()
    assert (found[label == 0] == 0).all()


def test_labels_of_a_query_are_places_of_its_ways() -> None:
    label = np.array([[0, 4, 2, 9, VOID]], np.uint8)
    assert labels_for(label, (4, 2)).tolist() == [[0, 1, 2, 0, VOID]]
