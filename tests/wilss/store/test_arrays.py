"""The hand-written writer of small arrays against zarr's own: the same bytes, read by zarr."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from wilss.store.arrays import read_rows, write_rows
from wilss.store.creation import create_group
from wilss.store.schema import (
    FORMAT,
    FORMAT_VERSION,
    VECTORS,
    FeatureLayout,
    StoreHeader,
    StoreLayout,
    consolidate,
    create_sharded,
    create_vector,
)

IMAGES, CATEGORIES, SHARD = 150, 3, 2
LAYOUT = StoreLayout(
    num_images=IMAGES, num_categories=CATEGORIES, canvas=(4, 5), shard_size=SHARD, has_content=True, has_review=True,
    features=(
        FeatureLayout(name="clip", tokens=6, dims=4, width=7), FeatureLayout(name="vit", tokens=7, dims=70, width=80),
    ),
)  # fmt: skip


HEADER = StoreHeader(
    layout=LAYOUT,
    image_ids=tuple(f"im{i}" for i in range(IMAGES)),
    category_ids=(1, 2, 3),
    category_names=("a", "b", "ü"),
    heights=np.arange(IMAGES, dtype=np.int32),
    widths=np.ones(IMAGES, np.int32),
    tags=np.arange(IMAGES * CATEGORIES).reshape(IMAGES, CATEGORIES) % 2 == 0,
    status=np.zeros(IMAGES, np.int8),
    errors=("",) * IMAGES,
    attributes={"made": "bei Hand, für später", "share": 0.1, "steps": [{"classes": [1, 2]}, {}]},
    bases={"vit_basis": np.random.default_rng(0).random((70, 80), np.float32)},
)
#: By the names of the vectors.
KNOWN: dict[str, Any] = {
    "image": HEADER.image_ids, "height": HEADER.heights, "width": HEADER.widths, "tags": HEADER.tags,
    "status": HEADER.status, "error": HEADER.errors, "category": HEADER.category_names,
    "category_id": HEADER.category_ids, **HEADER.bases,
}  # fmt: skip


def empty(path: Path) -> zarr.Group:
    create_group(path, HEADER)
    return zarr.open_group(path, mode="r+")


def by_zarr(path: Path) -> None:
    """A new store as zarr itself writes it, array by array."""
    attributes = {"format": FORMAT, "format_version": FORMAT_VERSION, **HEADER.attributes}
    group = zarr.create_group(path, zarr_format=3, attributes=attributes)
    for spec in LAYOUT.arrays:
        create_sharded(group, spec, SHARD)
    for name, vector in LAYOUT.vectors.items():
        array = create_vector(group, vector, LAYOUT.vector_shape(name), LAYOUT.chunk_rows(name))
        if name in KNOWN:
            array[:] = np.array(KNOWN[name], dtype=vector.dtype)
    consolidate(group)


def test_a_new_store_has_the_bytes_of_zarr(tmp_path: Path) -> None:
    create_group(tmp_path / "before", replace(HEADER, attributes={"made": "of the same sizes"}))
    empty(tmp_path / "ours")
    by_zarr(tmp_path / "theirs")
    assert files(tmp_path / "ours") == files(tmp_path / "theirs")
    assert {name.partition("/")[0] for name in files(tmp_path / "ours") if "/c/" in name} == {*KNOWN} - {
        "status",
        "error",
    }


@pytest.fixture(scope="module")
def read_only(tmp_path_factory: pytest.TempPathFactory) -> zarr.Group:
    return empty(tmp_path_factory.mktemp("read_only"))


def values_of(name: str, count: int, draw: np.random.Generator) -> Any:
    spec = VECTORS[name]
    shape = (count, *LAYOUT.vector_shape(name)[1:])
    if spec.dtype == "object":
        texts = [str(draw.choice(["", "é" * 70, "x"])) for _ in range(int(np.prod(shape)))]
        return np.array(texts, dtype=object).reshape(shape)
    if spec.dtype == "float32":
        return np.where(draw.random(shape) < 0.5, np.nan, draw.random(shape)).astype(np.float32)
    return draw.integers(0, 2, shape).astype(spec.dtype)


def files(path: Path) -> dict[str, bytes]:
    return {str(f.relative_to(path)): f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}


@pytest.mark.few(6)
@pytest.mark.parametrize("name", [name for name in VECTORS if not name.startswith("category")])
def test_the_bytes_are_those_of_zarr(tmp_path: Path, name: str) -> None:
    draw = np.random.default_rng(5)
    theirs, length = empty(tmp_path / "theirs"), LAYOUT.vector_shape(name)[0]
    empty(tmp_path / "ours")
    for number in range(12):
        first = int(draw.integers(0, length))
        where = slice(first, int(draw.integers(first + 1, length + 1)))
        new = values_of(name, where.stop - where.start, draw)
        if number % 4 == 3:  # all of it becomes fill again: then zarr keeps no chunk
            where, new = slice(0, length), np.full(LAYOUT.vector_shape(name), VECTORS[name].fill, VECTORS[name].dtype)
        theirs[name][where] = new  # type: ignore[index]
        write_rows(tmp_path / "ours", LAYOUT, name, [(where, new)])
        assert files(tmp_path / "ours" / name) == files(tmp_path / "theirs" / name), (number, where)
    assert files(tmp_path / "ours") == files(tmp_path / "theirs")


def test_several_changes_are_one_write_of_a_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wilss.disk import folder
    from wilss.disk.files import write_atomically

    group, written = empty(tmp_path), []
    write = write_atomically

    def counted(path: Path, data: bytes, **how: bool) -> None:
        written.append(path.parent.name if path.name == "0" and path.parent.name.isdigit() else path.name)
        write(path, data, **how)

    monkeypatch.setattr(folder, "write_atomically", counted)
    done = np.ones(SHARD, np.int8)
    write_rows(tmp_path, LAYOUT, "status", [(slice(2 * i, 2 * i + 2), done) for i in (0, 3, 7, 40, 74)])
    assert written == ["0", "1", "2"]
    assert np.flatnonzero(group["status"][...]).tolist() == [0, 1, 6, 7, 14, 15, 80, 81, 148, 149]  # type: ignore[index, arg-type]


def test_a_damaged_chunk_is_an_error_and_stays(tmp_path: Path) -> None:
    empty(tmp_path)
    chunk = tmp_path / "height/c/0"
    chunk.write_bytes(chunk.read_bytes()[:-5])
    before = files(tmp_path)
    with pytest.raises((ValueError, RuntimeError)):
        write_rows(tmp_path, LAYOUT, "height", [(slice(0, 1), np.zeros(1, np.int32))])
    assert files(tmp_path) == before


@pytest.mark.parametrize("name", list(VECTORS))
@pytest.mark.parametrize("rows", [slice(None), slice(3, 70), slice(60, 64), slice(0, 0), slice(149, 400)])
def test_rows_are_those_that_zarr_reads(read_only: zarr.Group, name: str, rows: slice) -> None:
    group, path = read_only, Path(str(read_only.store_path.store.root))  # type: ignore[attr-defined]
    theirs = np.asarray(group[name][rows])  # type: ignore[index]
    ours = read_rows(path, LAYOUT, name, rows)
    assert ours.dtype == VECTORS[name].dtype
    np.testing.assert_array_equal(ours, theirs.astype(VECTORS[name].dtype))


def test_a_chunk_that_stays_the_same_is_not_written(tmp_path: Path) -> None:
    empty(tmp_path)
    chunk = tmp_path / "height/c/0"
    before = chunk.stat().st_ino
    write_rows(tmp_path, LAYOUT, "height", [(slice(3, 5), np.array([3, 4], np.int32))])
    assert chunk.stat().st_ino == before
    write_rows(tmp_path, LAYOUT, "height", [(slice(3, 5), np.array([3, 5], np.int32))])
    assert chunk.stat().st_ino != before
