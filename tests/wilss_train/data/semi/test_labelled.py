"""The list of labelled images: ids or paths in a text file, or an index array; what is of no use is refused."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from tests.wilss.data import data_on_disk as disk
from tests.wilss_train.data.semi.world import IMAGES, KNOWN, inputs, make
from wilss.data.manifest import Manifest, load_manifest
from wilss.errors import ParameterError
from wilss.store import MaskStore
from wilss.store.records import records_for
from wilss_masks.make.generate import generate
from wilss_masks.make.options import Options as MaskOptions
from wilss_masks.sources.annotation import AnnotationSource
from wilss_train.data.semi.labelled import Labelled, digest_of, list_path, read_labelled
from wilss_train.inputs import open_inputs


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("pets"))


def read(root: Path, path: Path) -> Labelled:
    start = inputs(root)
    return read_labelled(path, start.store, start.manifest, 0, start.records)


def test_ids_paths_and_positions_are_the_same_images(root: Path, tmp_path: Path) -> None:
    plain = read(root, root / "labelled.txt")
    assert (plain.rows.tolist(), plain.others.tolist()) == ([1, 4, 5], [0, 2, 3, 6, 7, 8])
    lines = [f"/JPEGImages/{name}.jpg /SegmentationClass/{name}.png" for name in KNOWN]
    np.save(tmp_path / "rows.npy", np.array([5, 1, 4]))
    mixed = disk.text(tmp_path / "mixed.lst", "im5", "im1.jpg", "", "im4", "im4")
    for path in (disk.text(tmp_path / "pairs.txt", *lines), mixed, tmp_path / "rows.npy"):
        same = read(root, path)
        assert np.array_equal(same.rows, plain.rows)
        assert np.array_equal(same.others, plain.others)


def test_a_list_may_spell_names_otherwise(tmp_path: Path) -> None:
    one, two = "dög", unicodedata.normalize("NFD", "dög")
    disk.voc(tmp_path / "data", {one: [1], "b": [2], two + "2": [1, 2]})
    manifest = load_manifest(disk.manifest(tmp_path))
    store = tmp_path / "s.zarr"
    generate(manifest, step=0, source=AnnotationSource.from_manifest(manifest, 0), out=store)
    opened = MaskStore.open(store)
    for lines in ((two, one + "2"), (f"{two}.jpg", f"/JPEGImages/{one}2.jpg /SegmentationClass/{one}2.png")):
        records = records_for(opened, manifest)
        rows = read_labelled(disk.text(tmp_path / "list.txt", *lines), opened, manifest, 0, records).rows
        assert [opened.image_ids[row] for row in rows] == [one, two + "2"]


@pytest.fixture(scope="module")
def holiday(tmp_path_factory: pytest.TempPathFactory) -> tuple[MaskStore, Manifest]:
    """Photographs in folders, with blanks in their names, one of which begins as all of another is called."""
    root = tmp_path_factory.mktemp("holiday")
    for number, name in enumerate(("Mai/Foto 1.JPG", "Mai/Foto.jpg", "Juni/Foto 1.jpg", "Juni/b.jpg")):
        disk.image(root / "My photos" / name, seed=number)
        disk.label(root / "My photos/labels" / f"{name[:-4]}.png", [1])
    steps = [{"classes": [1, 2, 3], "supervision": "pixel"}]
    file = disk.manifest(root, layout="folder", path="My photos", splits={"train": ""}, tags="masks", steps=steps)
    manifest = load_manifest(file)
    generate(manifest, step=0, source=AnnotationSource.from_manifest(manifest, 0), out=root / "s.zarr")
    return MaskStore.open(root / "s.zarr"), manifest


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("Mai/Foto 1", "Mai/Foto 1"),
        ("Mai/Foto 1.jpg", "Mai/Foto 1"),
        ("./Mai/Foto 1.JPG", "Mai/Foto 1"),
        ("My photos/Mai/Foto 1.JPG", "Mai/Foto 1"),
        ("b.jpg", "Juni/b"),
        ("b", "Juni/b"),
        ("{root}/Juni/b.jpg", "Juni/b"),
    ],
)
def test_names_with_blanks_endings_and_folders_are_found(
    holiday: tuple[MaskStore, Manifest], tmp_path: Path, line: str, named: str
) -> None:
    store, manifest = holiday
    path = disk.text(tmp_path / "list.txt", line.format(root=store.path.parent / "My photos"))
    chosen = read_labelled(path, store, manifest, 0, records_for(store, manifest))
    assert [store.image_ids[row] for row in chosen.rows.tolist()] == [named]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Mai/Foto 2", r"names 1 image \(Mai/Foto 2\), and .* holds no such image; did you mean 'Mai/Foto 1'; take"),
        ("Foto 1", r"names 'Foto 1', which may be 2 images \(Juni/Foto 1, Mai/Foto 1\); write its id or its path"),
        ("val/b", r"names 1 image \(val/b\), and .* holds no such image"),
    ],
)
def test_a_name_is_never_cut_or_taken_for_another_folder_s(
    holiday: tuple[MaskStore, Manifest], tmp_path: Path, line: str, said: str
) -> None:
    store, manifest = holiday
    with pytest.raises(ParameterError, match=said):
        read_labelled(disk.text(tmp_path / "list.txt", line), store, manifest, 0, records_for(store, manifest))


def test_all_images_leave_no_others(root: Path, tmp_path: Path) -> None:
    every = read(root, disk.text(tmp_path / "all.txt", *IMAGES))
    assert len(every.others) == 0
    assert np.array_equal(every.unlabelled, every.rows)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            ("im1", "im77"),
            r"names 1 image \(im77\), and .*step-0\.zarr holds no such image; did you mean 'im7'; take it",
        ),
        ((), r"names no image; write one image id a line"),
    ],
)
def test_a_list_of_no_use_is_refused(root: Path, tmp_path: Path, lines: tuple[str, ...], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        read(root, disk.text(tmp_path / "list.txt", *lines))


def test_an_array_of_no_use_is_refused(root: Path, tmp_path: Path) -> None:
    for array, said in ((np.array([0, 9]), r"has the index 9, but .*train\.txt has 9 lines"),
                        (np.array([0.5]), r"is float64 of shape \(1,\), not a row of whole numbers"),
                        (np.array([], np.int64), r"names no image")):  # fmt: skip
        np.save(tmp_path / "rows.npy", array)
        with pytest.raises(ParameterError, match=said):
            read(root, tmp_path / "rows.npy")
    (tmp_path / "rows.npy").write_bytes(b"nothing")
    with pytest.raises(ParameterError, match=r"the list of labelled images is of no use: .*holds pickled objects"):
        read(root, tmp_path / "rows.npy")


def test_a_binary_file_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"im1\0im2")
    with pytest.raises(ParameterError, match=r"is a binary file, not a list"):
        read(root, tmp_path / "list.txt")


def test_an_image_without_its_label_cannot_be_labelled(tmp_path: Path) -> None:
    root = make(tmp_path)
    (root / "data/SegmentationClass/im4.png").unlink()
    manifest, store = load_manifest(root / "data_manifest.yaml"), tmp_path / "again.zarr"
    source = AnnotationSource.from_manifest(manifest, 0)
    generate(manifest, step=0, source=source, out=store, options=MaskOptions(device="cpu"))
    start = open_inputs(manifest, store, None, "pseudoseg")
    with pytest.raises(ParameterError, match=r"names 1 image \(im4\), of which .*again\.zarr holds no masks"):
        read_labelled(root / "labelled.txt", start.store, manifest, 0, start.records)
    chosen = read_labelled(disk.text(tmp_path / "two.txt", "im1", "im5"), start.store, manifest, 0, start.records)
    assert 4 in chosen.others, "without a label it is still an image"


def test_a_file_that_is_not_there_is_refused(root: Path, tmp_path: Path) -> None:
    manifest = load_manifest(root / "data_manifest.yaml")
    with pytest.raises(ParameterError, match=r"nothing says which are labelled; name a text file .*--labelled LIST"):
        list_path("", manifest)
    with pytest.raises(ParameterError, match=r"missing\.txt is not there"):
        list_path(str(tmp_path / "missing.txt"), manifest)
    path = disk.text(tmp_path / "list.txt", "a")
    assert digest_of(list_path(str(path), manifest)) == digest_of(path)
    assert list_path("labelled.txt", manifest) == root / "labelled.txt"
