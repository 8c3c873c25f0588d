"""The store against zarr and xarray themselves: what we write by hand, others must read."""

import contextlib
import os
import pickle
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray
import zarr
from dask.callbacks import Callback
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.paths import on_disk
from wilss import open_masks
from wilss.errors import StoreError
from wilss.store import (
    ImageContent,
    LabelMaps,
    MaskStore,
    MaskStoreWriter,
    Status,
    StoreHeader,
    StoreLayout,
    label_map,
    write_shard,
)
from wilss.store.schema import FORMAT_VERSION
from wilss.store.shards import encode_shard, shard_name

SIZES = [(5, 7), (9, 4), (3, 3), (9, 7), (6, 6)]


def make_header(shard_size: int = 2, has_void: bool = True) -> StoreHeader:
    n = len(SIZES)
    layout = StoreLayout(
        num_images=n,
        num_categories=3,
        canvas=(9, 7),
        shard_size=shard_size,
        score_grid=(3, 2),
        attention_grid=(4, 4),
        num_seeds=2,
        has_void=has_void,
    )
    tags = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, 1], [1, 0, 0]], bool)
    return StoreHeader(
        layout=layout,
        image_ids=tuple(f"img/{i}é" for i in range(n)),
        category_ids=(16, 17, 20),
        category_names=("pottedplant", "sheep", "tvmonitor"),
        heights=np.array([h for h, _ in SIZES], np.int32),
        widths=np.array([w for _, w in SIZES], np.int32),
        tags=tags,
        status=np.zeros(n, np.int8),
        errors=("",) * n,
        attributes={"step": 1, "classes": ["background", "a"]},
    )


def make_content(row: int, tags: np.ndarray) -> ImageContent:
    """Random masks of image `row`; image 3 fails."""
    if row == 3:
        return ImageContent(status=Status.FAILED, error="img/3 is truncated; copy it again.")
    rng = np.random.default_rng(row)
    positions = [int(c) for c in np.flatnonzero(tags[row])]
    planes: dict[str, dict[int, NDArray[Any]]] = {
        "mask": {c: rng.random(SIZES[row]) > 0.5 for c in positions},
        "score": {c: rng.random((3, 2)).astype(np.float16) for c in positions},
        "attention": {c: rng.random((2, 4)).astype(np.float16) for c in positions},
        "seeds": {c: rng.integers(0, 3, (2, 2)).astype(np.int16) for c in positions},
        "void": {0: rng.random(SIZES[row]) > 0.9},
    }
    return ImageContent(
        status=Status.DONE,
        planes=planes,
        confidence={c: float(rng.random()) for c in positions},
        area={c: int(planes["mask"][c].sum()) for c in positions},
    )


def fill(path: Path, header: StoreHeader, order: list[int] | None = None) -> MaskStore:
    writer = MaskStoreWriter.create(path, header)
    for shard in order or range(header.layout.num_shards):
        images = [make_content(row, header.tags) for row in header.layout.rows(shard)]
        writer.commit(write_shard(path, header.layout, shard, images))
    writer.seal()
    return writer.store


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> MaskStore:
    return fill(tmp_path_factory.mktemp("store") / "step-1.zarr", make_header())


def tree(path: Path) -> dict[str, bytes]:
    return {str(f.relative_to(path)): f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}


def test_a_new_store_is_synced_once_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}").removeprefix(f"{tmp_path}/"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    MaskStoreWriter.create(tmp_path / "new.zarr", make_header())
    there = [path.relative_to(tmp_path).as_posix() for path in (tmp_path / "new.zarr").rglob("*")]
    built = [name.replace("new.zarr", "new.zarr.building", 1) for name in ("new.zarr", *there)]
    assert sorted(synced[:-1]) == sorted(built)
    assert synced[-1] == str(tmp_path)  # in which it takes its name


def test_xarray_reads_without_a_warning_what_was_written(filled: MaskStore) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds = xarray.open_zarr(filled.path)
    tags = make_header().tags
    assert ds.mask.dtype == bool
    assert dict(ds.sizes)["category"] == 3
    for row in (0, 1, 2, 4):
        height, width = SIZES[row]
        content = make_content(row, tags)
        for c in range(3):
            stored = ds.mask.sel(image=f"img/{row}é").isel(category=c).values
            expected = content.planes["mask"].get(c, np.zeros(SIZES[row], bool))
            np.testing.assert_array_equal(stored[:height, :width], expected)
            assert not stored[height:].any()
            assert not stored[:, width:].any()
            score = ds.score.isel(image=row, category=c).values
            np.testing.assert_array_equal(score, content.planes["score"].get(c, np.full((3, 2), np.nan)))


def test_reading_crops_to_the_true_size_and_reads_only_the_tags(filled: MaskStore) -> None:
    content = make_content(0, make_header().tags)
    masks = filled.read("img/0é")
    assert masks.categories == (0, 2)
    np.testing.assert_array_equal(masks.masks, np.stack([content.planes["mask"][c] for c in (0, 2)]))
    assert masks.void is not None
    np.testing.assert_array_equal(masks.void, content.planes["void"][0])


def test_a_failed_image_has_no_masks_and_says_why(filled: MaskStore) -> None:
    with pytest.raises(StoreError, match="truncated; copy it again"):
        filled.read("img/3é")


def test_order_of_commits_does_not_change_a_byte(tmp_path: Path, filled: MaskStore) -> None:
    other = fill(tmp_path / "step-1.zarr", make_header(), order=[2, 0, 1])
    assert tree(on_disk(other)) == tree(on_disk(filled))


def test_reopening_a_shard_and_doing_it_again_gives_the_same_bytes(tmp_path: Path, filled: MaskStore) -> None:
    header = make_header()
    store = fill(tmp_path / "step-1.zarr", header)
    writer = MaskStoreWriter(store)
    writer.reopen([1], header)
    assert not writer.store.is_complete
    assert writer.store.pending_shards() == (1,)
    with pytest.raises(StoreError, match="1 of 3 shards are missing"):
        MaskStore.open(store.path)
    writer.commit(write_shard(store.path, header.layout, 1, [make_content(r, header.tags) for r in (2, 3)]))
    writer.seal()
    assert tree(on_disk(store)) == tree(on_disk(filled))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_flipped_bit_is_found(filled: MaskStore, data: st.DataObject) -> None:
    files = sorted(f for f in on_disk(filled).rglob("*") if f.is_file() and f.stat().st_size)
    file = data.draw(st.sampled_from(files))
    content = bytearray(file.read_bytes())
    bit = data.draw(st.integers(0, len(content) * 8 - 1))
    whole = bytes(content)
    content[bit // 8] ^= 1 << bit % 8
    try:
        file.write_bytes(bytes(content))
        try:
            noticed = any(MaskStore.open(filled.path).verify())
        except StoreError:
            noticed = True
        assert noticed, f"bit {bit} of {file} was flipped and not noticed"
    finally:
        file.write_bytes(whole)
    assert not list(MaskStore.open(filled.path).verify())


def test_missing_and_swapped_shards_and_foreign_files_are_found(tmp_path: Path) -> None:
    header = make_header()
    store = fill(tmp_path / "s.zarr", header)
    first, second = (on_disk(store) / shard_name(header.layout.arrays[0], shard) for shard in (0, 1))
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b), second.write_bytes(a)
    assert {damage.shard for damage in store.verify()} == {0, 1}
    first.write_bytes(a), second.unlink()
    assert {damage.shard for damage in store.verify()} == {1}
    second.write_bytes(b)
    assert not list(store.verify())
    (on_disk(store) / "mask" / "notes.txt").write_text("hello")
    assert [damage.shard for damage in store.verify()] == [None]


def test_a_newer_format_version_is_refused(tmp_path: Path) -> None:
    store = fill(tmp_path / "s.zarr", make_header())
    zarr.open_group(store.path, mode="r+").attrs["format_version"] = FORMAT_VERSION + 1
    with pytest.raises(StoreError, match="upgrade wilss"):
        MaskStore.open(store.path)


@contextlib.contextmanager
def closed(path: Path) -> Iterator[None]:
    """The store of somebody who has not opened all of it to us. Root, who may read anything, is nobody meanwhile."""
    user, mode = os.geteuid(), path.stat().st_mode
    path.chmod(0)
    try:
        if user == 0:
            os.seteuid(65534)
        yield
    finally:
        os.seteuid(user)
        path.chmod(mode)


def read_all(path: Path) -> None:
    MaskStore.open(path).read(0)
    open_masks(path).mask[0].to_numpy()


@pytest.mark.parametrize("what", ["", "mask", "status"])
def test_a_store_that_is_not_open_to_us_is_told_as_that(tmp_path: Path, what: str) -> None:
    path = tmp_path / "s.zarr"
    store = fill(path, make_header())
    read_all(path)  # what is imported on the way is there
    with closed(path / what):
        with pytest.raises(
            StoreError, match=r"s\.zarr may not be read by this user \(.+: Permission denied\); let its"
        ):
            store.read(0)
        with pytest.raises(StoreError, match=r"may not be read by this user"):
            read_all(path)
    read_all(path)


def test_what_is_not_a_store_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist; make it with"):
        MaskStore.open(tmp_path / "none.zarr")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="not a readable mask store"):
        MaskStore.open(tmp_path / "empty")
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(StoreError, match="not a mask store"):
        MaskStore.open(tmp_path / "other.zarr")


@settings(max_examples=50, deadline=None)
@given(
    planes=st.lists(st.dictionaries(st.integers(0, 2), st.integers(0, 2**12 - 1)), min_size=1, max_size=4),
)
def test_our_shards_decode_with_zarr(tmp_path_factory: pytest.TempPathFactory, planes: list[dict[int, int]]) -> None:
    """Hand-encoded shards against zarr's reader, for any set of planes present."""
    layout = StoreLayout(num_images=4, num_categories=3, canvas=(3, 4), shard_size=4)
    (spec,) = layout.arrays
    dense = np.zeros((4, 3, 3, 4), bool)
    given_planes: list[Mapping[int, NDArray[Any]]] = []
    for row, image in enumerate(planes):
        given_planes.append(
            {c: np.array([bits >> k & 1 for k in range(12)], bool).reshape(3, 4) for c, bits in image.items()}
        )
        for c, plane in given_planes[-1].items():
            dense[row, c] = plane
    root = tmp_path_factory.mktemp("shard")
    array = zarr.create_array(
        root / "mask", shape=spec.shape, dtype=bool, chunks=(1, 1, 3, 4), shards=(4, 3, 3, 4),
        compressors=zarr.codecs.ZstdCodec(level=3), fill_value=False,
    )  # fmt: skip
    data = encode_shard(spec, 4, given_planes)
    if data:
        (root / shard_name(spec, 0)).parent.mkdir(parents=True)
        (root / shard_name(spec, 0)).write_bytes(data)
    np.testing.assert_array_equal(array[...], dense)
    assert bool(data) == dense.any()


def test_open_masks_has_a_lazy_label_map(filled: MaskStore) -> None:
    ds = open_masks(filled.path)
    assert ds.label.chunks is not None
    tags = make_header().tags
    for row in (0, 2):
        content = make_content(row, tags)
        height, width = SIZES[row]
        expected = np.zeros(SIZES[row], np.uint8)
        for y in range(height):
            for x in range(width):
                claims = [(content.confidence[c], -c) for c, m in content.planes["mask"].items() if m[y, x]]
                expected[y, x] = (16, 17, 20)[-max(claims)[1]] if claims else 0
        expected[content.planes["void"][0]] = 255
        labels = ds.label.isel(image=row).values
        np.testing.assert_array_equal(labels[:height, :width], expected)
        assert (labels[height:] == 255).all()
        assert (labels[:, width:] == 255).all()
    assert ds.label.dtype == np.uint8


def test_opening_computes_nothing_and_neither_does_what_is_made_of_it(filled: MaskStore) -> None:
    """Coordinates are in memory: lazy ones are computed where two arrays of unlike chunks meet, shard by shard."""
    computed: list[Any] = []
    with Callback(pretask=lambda key, *_: computed.append(key)):
        ds = open_masks(filled.path)
        wanted = ds.label.where(ds.mask.any("category")) + ds.height
    assert wanted.chunks is not None
    assert not computed
    for name in ("height", "width", "status", "category_id"):
        assert ds[name].chunks is None
        assert ds[name].attrs == xarray.open_zarr(filled.path)[name].attrs
    assert list(zip(ds.height.values.tolist(), ds.width.values.tolist(), strict=True)) == SIZES


def test_an_image_is_seen_at_its_own_size(filled: MaskStore) -> None:
    ds = open_masks(filled.path)
    for row in (0, 2):
        one, masks = ds.wilss.image(filled.image_ids[row]), filled.read(row)
        assert (one.sizes["y"], one.sizes["x"]) == SIZES[row]
        np.testing.assert_array_equal(one.mask.values, masks.masks)
        assert one.category.values.tolist() == [filled.category_names[c] for c in masks.categories]
        np.testing.assert_array_equal(one.void.values, masks.void)
        np.testing.assert_array_equal(one.label.values, LabelMaps(filled)(row))
        assert one.score.shape == masks.masks.shape
        grid = np.stack([make_content(row, make_header().tags).planes["score"][c] for c in masks.categories])
        expected = F.interpolate(torch.from_numpy(grid).float()[None], SIZES[row], mode="bilinear")[0]
        np.testing.assert_allclose(one.score.values, expected.numpy(), rtol=1e-6)


def test_of_an_image_no_planes_of_others_are_read(filled: MaskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A label map of one small image beside a huge one took the time and memory of a shard of huge ones."""
    ds, read = open_masks(filled.path), set[Any]()
    plane = MaskStore.plane
    monkeypatch.setattr(MaskStore, "plane", lambda store, name, *at: read.add(at[0]) or plane(store, name, *at))
    ds.wilss.image(filled.image_ids[2]).load()
    assert read == {2}


def test_what_open_masks_gives_may_go_to_other_processes(filled: MaskStore) -> None:
    ds = open_masks(filled.path)
    there = pickle.loads(pickle.dumps(ds))
    for name in ("label", "mask", "void", "score"):
        np.testing.assert_array_equal(there[name].values, ds[name].values)
    assert there.wilss.image(filled.image_ids[0]).identical(ds.wilss.image(filled.image_ids[0]))


def test_stores_of_two_steps_can_be_joined(filled: MaskStore, tmp_path: Path) -> None:
    """Each image keeps its masks; of the classes of the other store it has none, whatever those are called."""
    ids = tuple(f"more/{row}" for row in range(len(SIZES)))
    header = replace(make_header(3), image_ids=ids, category_ids=(3, 17, 5), category_names=("bird", "sheep", "bottle"))
    other = fill(tmp_path / "other.zarr", header)
    stores = {filled.path: filled, other.path: other}
    both = xarray.concat(
        [open_masks(path) for path in stores],
        "image",
        join="outer",
        data_vars="all",
        coords="different",
        compat="equals",
    )
    assert both.sizes["image"] == 2 * len(SIZES)
    for store in stores.values():
        for row in (0, 2):
            one, masks = both.wilss.image(store.image_ids[row]), store.read(row)
            np.testing.assert_array_equal(one.label.values, LabelMaps(store)(row))
            order = [one.category.values.tolist().index(store.category_names[c]) for c in masks.categories]
            np.testing.assert_array_equal(one.mask.values[order], masks.masks)
            assert len(one.category) == len(order)
            assert one.mask.dtype == one.void.dtype == np.bool_
    twice = xarray.concat([open_masks(filled.path)] * 2, "image", data_vars="all", coords="different", compat="equals")
    with pytest.raises(StoreError, match=r"^2 images are called 'img/0é'; ask one of the stores that were joined\.$"):
        twice.wilss.image(filled.image_ids[0])


def test_an_image_without_masks_is_refused_with_the_reason(filled: MaskStore) -> None:
    ds = open_masks(filled.path)
    failed = next(i for i, status in enumerate(filled.current_status()) if status != Status.DONE)
    with pytest.raises(StoreError, match=f"holds no masks of {filled.image_ids[failed]}: "):
        ds.wilss.image(filled.image_ids[failed])
    with pytest.raises(StoreError, match="has no image 'none'"):
        ds.wilss.image("none")


def test_means_of_scores_do_not_overflow(filled: MaskStore) -> None:
    """66,000 values of 0.5 are more than float16 can count; what is looked at is handed out as float32."""
    ds = open_masks(filled.path)
    assert ds.score.dtype == ds.attention.dtype == np.float32
    on_disk = xarray.open_zarr(filled.path).score
    assert on_disk.dtype == np.float16
    np.testing.assert_array_equal(ds.score.values, on_disk.values.astype(np.float32))
    scores = ds.score.load()
    many = xarray.concat([scores] * (66_000 // scores.size + 1), dim="image")
    assert float(many.fillna(0.5).mean()) == pytest.approx(float(scores.fillna(0.5).mean()), rel=1e-3)


def test_label_map_limits() -> None:
    ids = np.array([3, 7])
    both = np.ones((2, 1, 1), bool)
    assert label_map(both, ids, np.array([0.2, 0.4])) == 7
    assert label_map(both, ids, np.array([0.4, 0.4])) == 3
    assert label_map(both, ids, np.array([np.nan, 0.1])) == 7
    assert label_map(~both, ids, np.array([0.4, 0.4])) == 0


def test_planes_are_those_that_zarr_reads(filled: MaskStore) -> None:
    group = zarr.open_group(filled.path, mode="r")
    for spec in filled.layout.arrays:
        whole = np.asarray(group[spec.name])
        for row in range(filled.layout.num_images):
            for category in range(spec.planes_per_image):
                ours = filled.plane(spec.name, row, category)
                theirs = whole[row, category] if spec.planes_per_image > 1 else whole[row]
                np.testing.assert_array_equal(ours, theirs)
                assert ours.dtype == theirs.dtype
    with pytest.raises(StoreError, match="planes 0 to 2"):
        filled.plane("mask", 0, 3)
    with pytest.raises(StoreError, match="has no array 'depth'"):
        filled.plane("depth", 0)


@pytest.mark.parametrize("end", [-1, -5, -20])
def test_a_damaged_index_or_plane_is_never_a_mask(tmp_path: Path, end: int) -> None:
    store = fill(tmp_path / "s.zarr", make_header())
    path = on_disk(store) / shard_name(store.layout.arrays[0], 0)
    data = bytearray(path.read_bytes())
    data[end] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"'mask' cannot be read \(the index"):
        store.read(0)
    path.write_bytes(data[:10])
    with pytest.raises(StoreError, match=r"'mask' cannot be read"):
        store.read(0)


@pytest.mark.parametrize("position", [-1, 5, 99])
def test_a_position_that_there_is_not_is_refused(filled: MaskStore, position: int) -> None:
    for reading in (filled.read, lambda place: filled.plane("score", place, 0)):
        with pytest.raises(StoreError, match=f"no image at position {position}"):
            reading(position)
