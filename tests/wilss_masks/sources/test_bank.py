"""The second pass by hand: what is in the bank, how it votes, and what must not matter."""

import dataclasses
import pickle
import shutil
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.references import bank as slow
from tests.wilss_masks.first_pass import Boxes, world
from wilss.data.images import read_image, resize_uint8, to_pixels
from wilss.data.manifest import Manifest
from wilss.data.taxonomy import VOID
from wilss.errors import MasksError, StoreError
from wilss.models.encoders.vit.encoder import open_vit
from wilss.store import ImageContent, LabelMaps, MaskStore
from wilss.store.records import records_for
from wilss_masks.sources.bank import BankSource
from wilss_masks.sources.bank_file import Bank, BankMaker, _Kept, large_parts, read_bank, smaller, write_bank
from wilss_masks.sources.bank_first import require_first_pass
from wilss_masks.sources.bank_proposer import BankProposer, strength_of
from wilss_masks.sources.base import ImageTask

HORSE = 3


class HalfVoid(Boxes):
    """The left half of every image is void."""

    has_void: ClassVar[bool] = True

    def propose(self, tasks: Sequence[ImageTask], loaded: Sequence[Any]) -> list[ImageContent]:
        contents = []
        for content in super().propose(tasks, loaded):
            void = np.zeros_like(content.planes["mask"][0])
            void[:, : void.shape[1] // 2] = True
            masks = {place: mask & ~void for place, mask in content.planes["mask"].items()}
            contents.append(dataclasses.replace(content, planes={"mask": masks, "void": {0: void}}))
        return contents


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, MaskStore]:
    return world(tmp_path_factory.mktemp("first"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WILSS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def source(first: tuple[Manifest, MaskStore], /, **values: Any) -> BankSource:
    return BankSource.from_manifest(first[0], 1, {"store": str(first[1].path), **values})


def made(first: tuple[Manifest, MaskStore], /, **values: Any) -> Bank:
    one = source(first, **values)
    maker = BankMaker(store=first[1], names=one.names, encoders=one.networks, params=one.params, seed=one.seed)
    assert one.records is not None
    return maker.make(one.records, "cpu")


def task(first: tuple[Manifest, MaskStore], image: str) -> ImageTask:
    record = records_for(first[1], first[0])[image]
    height, width = read_image(record.path).shape[:2]
    return ImageTask(record=record, height=height, width=width, categories=(0,))


def test_classes_are_the_same_however_their_umlauts_are_composed(
    first: tuple[Manifest, MaskStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, store = first
    name, (identity,) = "Hündin", store.category_ids
    monkeypatch.setattr(MaskStore, "category_names", (unicodedata.normalize("NFD", name),))
    require_first_pass(store, manifest, 1, {identity: name})
    with pytest.raises(StoreError, match="which are not the classes of step 1"):
        require_first_pass(store, manifest, 1, {identity: "Hundin"})


def proposed(proposer: BankProposer, *tasks: ImageTask) -> list[ImageContent]:
    return proposer.propose(tasks, [proposer.load(one) for one in tasks])


def features_of(first: tuple[Manifest, MaskStore], image: str) -> NDArray[np.float64]:
    """[D, h, w]: the ViT's tokens at an input of 64 pixels, as the library gives them."""
    vit = open_vit(first[0].encoders.vit, "cpu")
    pixels = torch.from_numpy(read_image(records_for(first[1], first[0])[image].path)).permute(2, 0, 1)
    size = source(first).networks._vit_input(*pixels.shape[1:])
    found: NDArray[np.float64] = vit.features(resize_uint8(pixels, size)[None])[0].double().numpy()
    return found


def by_hand(first: tuple[Manifest, MaskStore]) -> tuple[list[list[tuple[int, NDArray[Any]]]], NDArray[Any]]:
    """The bank of whole patches by loops: per label (row, direction), and the mean."""
    maps, features = LabelMaps(first[1]), [features_of(first, image) for image in first[1].image_ids]
    mean = np.mean([one.mean(axis=(1, 2)) for one in features], axis=0)
    found: list[list[tuple[int, NDArray[Any]]]] = [[], []]
    for row, one in enumerate(features):
        labels = maps(row)
        for place, identity in enumerate((0, HORSE)):
            share = slow.shares((labels == identity).astype(float), one.shape[1:])
            cells = [one[:, r, c] for r, c in np.ndindex(*share.shape) if share[r, c] == 1]
            found[place] += [(row, slow.direction(cell, mean)) for cell in cells]
    return found, mean


def test_the_bank_is_what_whole_patches_of_all_images_say(first: tuple[Manifest, MaskStore]) -> None:
    found, (expected, mean) = made(first, per_mask=1000), by_hand(first)
    np.testing.assert_allclose(found.mean, mean, atol=1e-5)
    for place in (0, 1):
        pairs = sorted((row, *vector.round(2)) for row, vector in expected[place])
        assert len(pairs) > 20
        assert sorted(found.rows[place].tolist()) == [pair[0] for pair in pairs]
        there = {(row, tuple(vector)) for row, vector in expected[place]}
        for row, vector in zip(found.rows[place].tolist(), found.vectors[place].numpy(), strict=True):
            nearest = min(np.abs(np.array(other) - vector).max() for of, other in there if of == row)
            assert nearest < 1e-3  # kept as float16


def test_what_is_kept_of_a_class_does_not_depend_on_the_order_of_images() -> None:
    generator = torch.Generator().manual_seed(0)
    parts = [(row, torch.randn(4, 3, generator=generator), np.random.default_rng(row).random(4)) for row in range(9)]
    results = []
    for order in (parts, parts[::-1]):
        kept = _Kept(5)
        for part in order:
            kept.add(*part)
        results.append(kept.sorted(torch.zeros(3)))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    draws = np.concatenate([part[2] for part in parts])
    assert results[0][1].tolist() == (np.argsort(draws)[:5] // 4).tolist()


def test_a_bank_is_capped_and_loses_its_outliers(first: tuple[Manifest, MaskStore]) -> None:
    assert [len(rows) for rows in made(first, per_class=8, drop=0.25).rows] == [6, 6]
    assert max(torch.bincount(made(first, per_mask=2).rows[1]).tolist()) == 2


def test_masks_give_one_feature_each_and_small_ones_too(first: tuple[Manifest, MaskStore]) -> None:
    assert made(first, entries="masks").rows[1].sort().values.tolist() == list(range(7))
    tiny = made(first, vit_size=16)  # no patch of 2 x 2 lies wholly inside a box
    assert len(tiny.rows[1].unique()) == 7


def test_rims_and_small_parts_are_left_out(first: tuple[Manifest, MaskStore]) -> None:
    whole, eroded = made(first, per_mask=1000), made(first, per_mask=1000, erode=0.1)
    assert 0 < len(eroded.rows[1]) < len(whole.rows[1])
    assert not len(made(first, min_area=0.9).rows[1])
    parts = np.zeros((6, 6), np.bool_)
    parts[0, 0] = parts[3:, 3:] = True
    assert large_parts(parts, 0.1).sum() == 9
    assert not large_parts(np.zeros((2, 2), np.bool_), 0.0).any()


def test_large_label_maps_are_looked_at_smaller() -> None:
    labels = np.zeros((2000, 1000), np.uint8)
    labels[:, 500:] = 7
    assert smaller(labels).shape == (512, 256)
    assert (smaller(labels) == 7).sum() == 512 * 128
    assert np.array_equal(smaller(labels[:5, :9]), labels[:5, :9])


@pytest.mark.few(1)
@pytest.mark.parametrize("vote", ["each", "nearest"])
def test_masks_equal_the_slow_twin_without_a_vote_of_the_image_itself(
    first: tuple[Manifest, MaskStore], vote: str
) -> None:
    proposer = source(first, vote=vote, spread="none", per_mask=1000).open("cpu", 1)
    bank, mean = by_hand(first)
    for image in ("im0", "im1"):
        (content,) = proposed(proposer, one := task(first, image))
        row, features = first[1].position(image), features_of(first, image)
        others = [[vector for of, vector in label if of != row] for label in bank]
        patches = [slow.direction(cell, mean) for cell in features.reshape(len(features), -1).T]
        voted = getattr(slow, f"vote_of_{vote}")(patches, others, 3, 0.2).reshape(2, *features.shape[1:])
        labels = LabelMaps(first[1])(row)
        shares = np.stack([slow.shares((labels == known).astype(float), features.shape[1:]) for known in (0, HORSE)])
        mixed = 0.75 * voted + 0.25 * shares
        np.testing.assert_allclose(mixed.sum(axis=0), 1, atol=1e-9)
        np.testing.assert_allclose(content.planes["score"][0], mixed[1], atol=5e-3)
        pixels = to_pixels(torch.from_numpy(content.planes["score"][0]).float()[None], one.height, one.width)[0]
        assert np.array_equal(content.planes["mask"][0], 2 * pixels.numpy() > 1)
        assert content.area[0] == content.planes["mask"][0].sum()


def test_a_tag_is_cut_where_it_is_as_probable_as_the_background() -> None:
    score = torch.tensor([[[0.5, 0.25, 0.0, 1.0]], [[0.0, 0.5, 0.0, 0.0]]]).half()  # backgrounds 0.5, 0.25, 1, 0
    assert strength_of(score).flatten(1).tolist() == [[1.0, 1.0, 0.0, 2.0], [0.0, pytest.approx(4 / 3), 0.0, 0.0]]


def test_patches_take_the_mean_of_those_that_belong_together(first: tuple[Manifest, MaskStore]) -> None:
    apart, together = (
        proposed(source(first, spread=spread).open("cpu", 1), task(first, "im0"))[0].planes["score"][0]
        for spread in ("none", "kk")
    )
    assert together.shape == apart.shape
    assert together.std() < apart.std()


@pytest.mark.parametrize("features", ["keys", "clip"])
def test_other_features_vote_as_well(first: tuple[Manifest, MaskStore], features: str) -> None:
    one = source(first, features=features)
    assert set(one.identity()["models"]) == {"vit"} | ({"clip"} if features == "clip" else set())
    (content,) = proposed(one.open("cpu", 1), task(first, "im0"))
    assert content.planes["score"][0].shape == one.grids(12, 16).score
    alone = source(first, features=features, spread="none")
    assert [name for name, _ in alone.encoders] == ["clip" if features == "clip" else "vit"]


def test_images_of_one_vit_grid_and_two_clip_grids_are_made_together(first: tuple[Manifest, MaskStore]) -> None:
    one = source(first, features="clip", clip_size=0)
    proposer = one.open("cpu", 1)
    tasks = [task(first, "im0"), task(first, "im1")]
    shapes = [proposer.load(each).inputs.clip for each in tasks]
    assert shapes[0] is not None
    assert shapes[1] is not None
    found = proposer.networks.features([proposer.load(each).inputs for each in tasks])
    assert [tuple(each.shape[1:]) for each in found] == [
        tuple(side // 8 for side in x.shape[1:]) for x in shapes if x is not None
    ]


def test_where_no_other_image_can_vote_the_first_masks_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    alone = world(tmp_path, source=Boxes(empty=("im1", "im2", "im3", "im4", "im5", "im6")))
    proposer = source(alone).open("cpu", 1)
    assert "has features of horse from one image at most" in caplog.text
    (content,) = proposed(proposer, task(alone, "im0"))
    assert np.array_equal(content.planes["mask"][0], alone[1].read("im0").masks[0])
    (other,) = proposed(proposer, task(alone, "im1"))  # which im0 has a vote on
    assert other.planes["score"][0].max() > 0


def test_void_stays_where_the_first_masks_stay(tmp_path: Path) -> None:
    alone = world(tmp_path, source=HalfVoid(empty=("im1", "im2", "im3", "im4", "im5", "im6")))
    void = alone[1].read("im0").void
    assert void is not None
    found = source(alone)
    assert found.has_void
    proposer = found.open("cpu", 1)
    first, second = proposed(proposer, task(alone, "im0"))[0], proposed(proposer, task(alone, "im1"))[0]
    assert np.array_equal(first.planes["void"][0], void)
    assert first.planes["void"][0].any()
    assert not second.planes["void"][0].any()


def test_void_of_the_first_pass_is_in_no_mask(first: tuple[Manifest, MaskStore]) -> None:
    proposer = source(first).open("cpu", 1)
    labels = np.full((12, 16), VOID, np.uint8)
    labels[:, :4], labels[:, 4:8] = 0, HORSE
    found = proposer._first(task(first, "im0"), labels)
    expected = [slow.shares((labels == known).astype(float), found.shape[1:]) for known in (0, HORSE)]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.sum(dim=0).max() <= 1
    assert not found[:, :, -1].any()


def test_the_papers_own_way_has_a_name(first: tuple[Manifest, MaskStore]) -> None:
    params = source(first, preset="paper").params
    assert (params.entries, params.vote, params.first, params.spread) == ("masks", "nearest", 0.0, "none")


def test_an_image_that_is_gone_gives_the_bank_nothing(tmp_path: Path) -> None:
    manifest, store = world(tmp_path)
    (tmp_path / "data/JPEGImages/im3.jpg").unlink()
    assert set(made((manifest, store)).rows[1].tolist()) == {0, 1, 2, 4, 5, 6}


def test_a_bank_without_some_images_is_told_and_never_taken_for_the_whole_one(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest, store = world(tmp_path)
    image = tmp_path / "data/JPEGImages/im3.jpg"
    image.rename(tmp_path / "elsewhere.jpg")
    without = source((manifest, store)).prepare("cpu")
    assert "the bank is without 1 image (im3) of the first store" in caplog.text
    assert without.file is None
    assert not list(cache.rglob("*.bank"))
    assert without.open("cpu", 1)
    (tmp_path / "elsewhere.jpg").rename(image)
    whole = source((manifest, store)).prepare("cpu")
    assert whole.file is not None
    bank = read_bank(whole.file)
    assert bank is not None
    assert set(bank.rows[1].tolist()) == {0, 1, 2, 3, 4, 5, 6}


def test_the_shared_stages_look_at_the_picture(first: tuple[Manifest, MaskStore]) -> None:
    one = source(first, regions="slic", region_size=9, boundaries="guided", guided_radius=2)
    (staged,), (plain,) = (proposed(each.open("cpu", 1), task(first, "im0")) for each in (one, source(first)))
    assert staged.planes["mask"][0].shape == plain.planes["mask"][0].shape
    assert not np.array_equal(staged.planes["mask"][0], plain.planes["mask"][0])
    assert np.array_equal(staged.planes["score"][0], plain.planes["score"][0])
    assert {"regions", "boundaries"} <= set(one.identity()["parameters"])


def test_pixels_that_nobody_is_sure_of_are_void(first: tuple[Manifest, MaskStore]) -> None:
    sure, unsure = source(first), source(first, unsure=0.6)
    assert not sure.has_void
    assert unsure.has_void
    (content,), (whole,) = (proposed(one.open("cpu", 1), task(first, "im0")) for one in (unsure, sure))
    void = content.planes["void"][0]
    assert 0 < void.sum() < void.size
    assert np.array_equal(content.planes["mask"][0], whole.planes["mask"][0] & ~void)


def test_a_bank_comes_back_from_its_file_and_a_damaged_one_does_not(
    first: tuple[Manifest, MaskStore], tmp_path: Path
) -> None:
    bank, file = made(first), tmp_path / "one.bank"
    write_bank(file, bank)
    again = read_bank(file)
    assert again is not None
    for one, other in ((bank.vectors, again.vectors), (bank.rows, again.rows), ((bank.mean,), (again.mean,))):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    data = bytearray(file.read_bytes())
    data[200] ^= 1
    file.write_bytes(bytes(data))
    assert read_bank(file) is None
    assert read_bank(tmp_path / "none.bank") is None


def test_it_is_made_once_and_sent_to_workers_by_its_file(
    first: tuple[Manifest, MaskStore], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = source(first).prepare("cpu")
    (file,) = (cache / "banks").iterdir()
    assert prepared.file == file
    assert len(pickle.dumps(prepared)) < 20_000
    monkeypatch.setattr(BankMaker, "make", None)
    assert source(first).prepare("cpu").file == file
    assert pickle.loads(pickle.dumps(prepared)) == source(first)
    file.write_bytes(b"x" * 40)
    with pytest.raises(Exception, match="is not at .* on this machine, or damaged; name a folder that all workers"):
        prepared.open("cpu", 1)


def test_damaged_first_masks_stop_the_bank_so_that_none_without_them_is_kept(
    first: tuple[Manifest, MaskStore], tmp_path: Path, cache: Path
) -> None:
    damaged = Path(shutil.copytree(str(first[1].path), tmp_path / "first.zarr"))
    shard, *_ = (path for path in sorted((damaged / "mask/c").rglob("*")) if path.is_file())
    whole = shard.read_bytes()
    shard.write_bytes(b"damaged!" + whole[8:])
    copied = (first[0], MaskStore.open(damaged))
    with pytest.raises(MasksError, match="'mask' cannot be read"):
        source(copied).prepare("cpu")
    assert not [*cache.rglob("*.bank")]
    shard.write_bytes(whole)
    repaired = source(copied).prepare("cpu")
    assert repaired.file is not None
    assert [*cache.rglob("*.bank")] == [repaired.file]


def test_without_a_cache_it_is_held(first: tuple[Manifest, MaskStore], cache: Path) -> None:
    cache.write_text("no folder")
    prepared = pickle.loads(pickle.dumps(source(first).prepare("cpu")))
    assert prepared.file is None
    assert proposed(prepared.open("cpu", 1), task(first, "im0"))


def test_what_decides_the_bank_is_in_its_digest_and_no_more(first: tuple[Manifest, MaskStore]) -> None:
    digest = source(first).bank_digest()
    for name, value in {"erode": 0.1, "per_class": 7, "features": "keys", "vit_size": 32}.items():
        assert source(first, **{name: value}).bank_digest() != digest
    for name, value in {"neighbours": 1, "first": 0.9, "spread": "none", "classes": "overlap"}.items():
        assert source(first, **{name: value}).bank_digest() == digest
    assert dataclasses.replace(source(first), seed=1).bank_digest() != digest
    identity = source(first).identity()
    assert identity["made_from"] == {"source": "boxes", "seal": first[1].attributes["seal"]}
    assert "store" not in identity["parameters"]
