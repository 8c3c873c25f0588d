"""`wilss-predict`: which images, which files, and that nothing is lost or written over."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.wilss_train.colours import NAMES, ColourNet, blocks, info, picture, save
from wilss.data.taxonomy import VOID
from wilss.drawing import class_colours
from wilss.errors import ParameterError, StoreError
from wilss_train.commands.predict import command
from wilss_train.data.image_lists import Target, find_images, read_list, targets_of
from wilss_train.results.label_files import is_made, write_label_files
from wilss_train.results.model import Model
from wilss_train.results.overlays import draw_overlay
from wilss_train.results.predict import Kind

SHOWN = {"a.png": [0, 1], "b.PNG": [0, 2], "deep/a.png": [4, 0], "deep/c.webp": [1, 2]}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name, ids in SHOWN.items():
        save(tmp_path / "photos" / name, picture(blocks(ids)))
    (tmp_path / "photos/notes.txt").touch()
    return tmp_path / "photos"


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Any:
    told = info()
    monkeypatch.setattr("wilss.models.networks.checkpoint.read_info", lambda path: told)
    monkeypatch.setattr("wilss.models.networks.checkpoint.load_segmenter", lambda told, device: ColourNet(told.seen, 1))

    def run(*words: object, **more: Any) -> Any:
        given = ["runs/step-1", "--device", "cpu", *map(str, words)]
        return CliRunner().invoke(command, given, catch_exceptions=False, **more)

    return run


def names(*inputs: Path) -> list[str]:
    return [record.image_id for record in find_images(inputs, Path("/nowhere/out")).images]


def written(out: Path) -> list[str]:
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())


# -- which images -------------------------------------------------------------------------------------------


def test_label_maps_beside_the_images_are_no_images(photos: Path, tmp_path: Path, invoke: Any) -> None:
    """Photographs of masks, in a folder of that name beside others of the same numbers, are."""
    for name in (
        "a/1.jpg",
        "a/2.png",
        "a/labels/1.png",
        "b/images/1.jpg",
        "b/masks/1.png",
        "c/masks/3.png",
        "c/4.png",
        "d/masks/1.png",
        "d/faces/1.png",
    ):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / "a.png", tmp_path / "in" / name)
    assert names(tmp_path / "in") == [
        "a/1.jpg",
        "a/2.png",
        "b/images/1.jpg",
        "c/4.png",
        "c/masks/3.png",
        "d/faces/1.png",
        "d/masks/1.png",
    ]
    assert find_images([tmp_path / "in"], Path("out")).label_maps == 2
    assert names(tmp_path / "in/a/labels") == ["1.png"]
    result = invoke(tmp_path / "in", "--out", tmp_path / "out")
    assert "2 label maps beside images left out; name their folder to have them, too" in result.stdout
    assert "out: label maps and overlays of 7 images, 0 failed" in result.stdout


def test_a_folder_keeps_its_sub_folders(photos: Path) -> None:
    assert names(photos) == list(SHOWN)
    assert find_images([photos], Path("out")).others == 1


def test_files_are_called_as_they_are_and_folders_keep_them_apart(photos: Path, tmp_path: Path) -> None:
    assert names(photos / "a.png", photos / "b.PNG") == ["a.png", "b.PNG"]
    assert names(photos / "notes.txt") == ["notes.txt"], "whoever names a file means it"
    assert names(photos / "a.png", photos / "deep/a.png") == ["a.png", "deep/a.png"]
    assert names(photos / "deep", photos / "a.png", photos / "a.png", photos) == [
        "deep/a.png", "deep/c.webp", "a.png", "b.PNG",
    ]  # fmt: skip
    save(tmp_path / "more/a.png", picture(blocks([0])))
    assert names(photos, tmp_path / "more")[-2:] == ["photos/deep/c.webp", "more/a.png"]


def test_links_to_folders_are_followed_once(photos: Path) -> None:
    (photos / "deep/up").symlink_to(photos)
    (photos / "linked").symlink_to(photos / "deep")
    assert len(names(photos)) == 4


def test_links_out_of_a_folder_are_not_entered(photos: Path, tmp_path: Path) -> None:
    save(tmp_path / "elsewhere/secret.png", picture(blocks([0])))
    (photos / "deep/out").symlink_to(tmp_path / "elsewhere")
    found = find_images([photos], Path("/nowhere/out"))
    assert ([record.image_id for record in found.images], found.links) == (list(SHOWN), 1)
    (tmp_path / "linked").symlink_to(photos)
    assert names(tmp_path / "linked") == list(SHOWN), "whoever names a link means it"
    (tmp_path / "only").mkdir()
    (tmp_path / "only/out").symlink_to(photos)
    with pytest.raises(ParameterError, match=r"only holds no images \(.*\), and .*only/out leads out of it; name"):
        find_images([tmp_path / "only"], Path("/nowhere/out"))


def test_empty_folders_and_the_folder_of_the_label_maps_are_refused(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ParameterError, match=r"empty holds no images \(\.jpg .*; name another folder, or files"):
        find_images([photos, tmp_path / "empty"], tmp_path / "out")
    with pytest.raises(ParameterError, match="--out is the folder of the images"):
        find_images([photos], photos / "deep/..")
    save(photos / "labels/a.png", picture(blocks([0])))
    found = find_images([photos], photos / "labels")
    assert (len(found.images), found.others) == (4, 2)


def test_no_target_is_taken_twice_or_an_image(photos: Path) -> None:
    save(photos / "b.jpg", picture(blocks([0])))
    save(photos / "b.PNG.tif", picture(blocks([0])))
    with pytest.raises(ParameterError, match=r"b\.PNG and .*b\.PNG\.tif would both become .*out/b\.PNG\.png; rename"):
        targets_of(find_images([photos], photos / "out").images, photos / "out")
    with pytest.raises(ParameterError, match=r"photos/a\.png is one of the images and would be written over"):
        targets_of(find_images([photos / "a.png"], photos).images, photos)


def test_images_of_one_name_are_told_apart_by_folder_and_ending(photos: Path) -> None:
    save(photos / "a.jpg", picture(blocks([0])))
    targets = targets_of(find_images([photos], Path("/out")).images, Path("/out"))
    assert {target.record.image_id: target.labels.relative_to("/out").as_posix() for target in targets} == {
        "a.jpg": "a.jpg.png", "a.png": "a.png.png", "b.PNG": "b.png", "deep/a.png": "deep/a.png",
        "deep/c.webp": "deep/c.png",
    }  # fmt: skip
    assert targets[0].overlay == Path("/out/a.jpg.overlay.jpg")


@given(st.lists(st.sampled_from("abc/."), min_size=1, max_size=8).map("".join))
def test_targets_stay_below_out(name: str) -> None:
    place = Path("/no/such/place/of/images") / name.strip("/")
    for target in targets_of(find_images([place, place.parent / "x/y.jpg"], Path("/out")).images, Path("/out")):
        assert os.path.normpath(target.labels).startswith("/out/")


def test_lists(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("a.png\n\n  deep/\u00fc.png \n", encoding="utf-8")
    assert read_list(path) == [Path("a.png"), Path("deep/\u00fc.png")]
    save(tmp_path / "a.png", picture(blocks([0])))
    assert read_list(path)[0] == tmp_path / "a.png", "beside the list, since it is not in the current folder"
    path.write_text("\n")
    with pytest.raises(ParameterError, match=r"list\.txt names no image; write one path per line"):
        read_list(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ParameterError, match="is not UTF-8 text"):
        read_list(path)
    with pytest.raises(ParameterError, match=r"cannot be read \(No such file or directory\); give the path"):
        read_list(tmp_path / "none.txt")


# -- what is written ----------------------------------------------------------------------------------------


def test_label_maps_and_overlays(photos: Path, tmp_path: Path, invoke: Any) -> None:
    result = invoke(photos, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert written(tmp_path / "out") == [
        "a.overlay.jpg", "a.png", "b.overlay.jpg", "b.png", "deep/a.overlay.jpg", "deep/a.png", "deep/c.overlay.jpg",
        "deep/c.png",
    ]  # fmt: skip
    with Image.open(tmp_path / "out/deep/a.png") as drawn:
        assert drawn.mode == "P"
        np.testing.assert_array_equal(np.array(drawn), blocks([4, 0]))
        assert drawn.getpalette()[3:6] == class_colours()[1].tolist()  # type: ignore[index]
    with Image.open(tmp_path / "out/deep/a.overlay.jpg") as overlay:
        assert (overlay.format, overlay.size) == ("JPEG", (32, 24))
    assert "label maps and overlays of 4 images, 0 failed" in result.stdout
    assert "1 other file in the folders left out" in result.stdout
    table = {row.split()[0]: row.split()[1:] for row in result.stdout.splitlines()[4:]}
    assert table["cow"] == ["1", "12.5"]
    assert table["background"] == ["3", "37.5"]


def test_images_that_come_out_dark_or_pale_are_told(photos: Path, tmp_path: Path, invoke: Any) -> None:
    assert "Warning" not in invoke(photos, "--out", tmp_path / "plain").stderr
    (tmp_path / "odd").mkdir()
    Image.fromarray(np.full((24, 32), 4000, np.uint16)).save(tmp_path / "odd/deep.png")
    Image.fromarray(np.full((24, 32, 4), 99, np.uint8)).save(tmp_path / "odd/infrared.png")
    told = invoke(tmp_path / "odd", "--out", tmp_path / "out").stderr
    assert "Warning: 16-bit images such as " in told
    assert "deep.png hold no value above 4000 and come out dark" in told
    assert "infrared.png are half transparent nearly everywhere and come out pale" in told


def test_a_large_image_is_announced_when_it_is_begun(
    photos: Path, tmp_path: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wilss_train.results.predict.LARGE", 24 * 32 - 1)
    told = invoke(photos / "a.png", "--out", tmp_path / "out").stderr
    assert f"{photos / 'a.png'} is 32 x 24 pixels, which takes a while" in told
    monkeypatch.setattr("wilss_train.results.predict.LARGE", 24 * 32)
    assert "takes a while" not in invoke(photos / "b.PNG", "--out", tmp_path / "out").stderr


def test_absent_classes_are_told(photos: Path, tmp_path: Path, invoke: Any) -> None:
    result = invoke(photos / "a.png", "--out", tmp_path / "out", "--no-overlays")
    assert written(tmp_path / "out") == ["a.png"]
    assert result.stdout.splitlines()[-1] == "not found: dog, cow"


def test_what_is_there_is_not_replaced_unasked(photos: Path, tmp_path: Path, invoke: Any) -> None:
    out = tmp_path / "out"
    save(out / "deep/a.png", blocks([0]))
    before = (out / "deep/a.png").read_bytes()
    with pytest.raises(StoreError, match=r"deep/a\.png exists; leave out what is made already with --resume, give"):
        invoke(photos, "--out", out)
    assert written(out) == ["deep/a.png"], "nothing was written"
    assert (out / "deep/a.png").read_bytes() == before
    assert invoke(photos, "--out", out, "--overwrite").exit_code == 0
    assert (out / "deep/a.png").read_bytes() != before


def test_resume_leaves_out_what_this_model_has_made(photos: Path, tmp_path: Path, invoke: Any) -> None:
    out = tmp_path / "out"
    invoke(photos / "a.png", photos / "deep/a.png", "--out", out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.*")}
    result = invoke(photos, "--out", out, "--resume")
    assert "label maps and overlays of 2 images, 0 failed" in result.stdout
    assert "2 images had theirs already" in result.stdout
    assert before.items() <= {path: path.stat().st_mtime_ns for path in out.rglob("*.*")}.items()
    assert "nothing to do, 4 images with all files there" in invoke(photos, "--out", out, "--resume").stdout
    (out / "deep/c.overlay.jpg").unlink()
    os.utime(photos / "b.PNG", (2e9, 2e9))
    assert "of 2 images, 0 failed" in invoke(photos, "--out", out, "--resume").stdout
    assert invoke(photos, "--out", out, "--resume", "--overwrite").exit_code == 2


def test_resume_never_takes_another_models_label_map(
    photos: Path, tmp_path: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, other = tmp_path / "out", replace(info(), digest="00" * 32)
    invoke(photos, "--out", out, "--no-overlays")
    monkeypatch.setattr("wilss.models.networks.checkpoint.read_info", lambda path: other)
    with pytest.raises(StoreError, match=r"a\.png was made by another model than .*; give another --out, or replace"):
        invoke(photos, "--out", out, "--no-overlays", "--resume")
    save(out / "a.png", blocks([0]))
    with pytest.raises(StoreError, match=r"a\.png was made by something else than"):
        invoke(photos, "--out", out, "--no-overlays", "--resume")


def test_a_label_map_is_never_taken_for_that_of_another_image_of_its_name(
    photos: Path, tmp_path: Path, invoke: Any
) -> None:
    out, words = tmp_path / "out", ("--out", tmp_path / "out", "--no-overlays", "--resume")
    invoke(photos / "a.png", *words)
    save(photos / "a.jpg", picture(blocks([4])))
    with pytest.raises(StoreError, match=r"out/a\.png was made of a\.png and not of .*a\.jpg; give another --out"):
        invoke(photos / "a.jpg", *words)
    both = invoke(photos / "a.png", photos / "a.jpg", *words)
    assert f"Warning: 1 label map of an earlier run, with other images of the same names but for their endings, will " \
        f"stay and not be brought up to date ({out / 'a.png'}); label maps" in both.stderr  # fmt: skip
    (out / "a.png").unlink()
    assert invoke(photos / "a.png", photos / "a.jpg", *words).stderr == ""
    (photos / "a.jpg").unlink()
    assert f"({out / 'a.png.png'})" in invoke(photos / "a.png", *words).stderr


@pytest.mark.parametrize("order", [1, -1])
def test_a_file_is_the_same_however_the_umlauts_of_its_name_are_composed(
    photos: Path, tmp_path: Path, order: int
) -> None:
    out, told = tmp_path / "out", info()
    (target,) = targets_of(find_images([photos / "a.png"], out).images, out)
    apart, together, other = (
        replace(target, record=replace(target.record, path=Path(shutil.copy2(photos / "a.png", tmp_path / name))))
        for name in ("a\u0308.png", "\u00e4.png", "a.png")
    )
    first, second = (apart, together)[::order]
    write_label_files(ColourNet(told.seen, 1), told, [first], overlays=False)
    assert is_made(second, told, overlays=False, probabilities=None)
    with pytest.raises(StoreError, match=r"was made of \u00e4\.png and not of .*/a\.png"):
        is_made(other, told, overlays=False, probabilities=None)


@pytest.mark.parametrize(("kind", "scale"), [("float32", 1), ("float16", 1), ("uint8", 255)])
def test_probabilities_are_stored(photos: Path, tmp_path: Path, invoke: Any, kind: str, scale: int) -> None:
    result = invoke(photos / "a.png", "--out", tmp_path / "out", "--no-overlays", "--probabilities", kind)
    assert "label maps and probabilities of 1 image," in result.stdout
    assert written(tmp_path / "out") == ["a.png", "a.probabilities.npz"]
    told = info()
    with np.load(tmp_path / "out/a.probabilities.npz") as file:
        stored = dict(file)
    shares = stored["probabilities"]
    assert (shares.dtype, shares.shape) == (np.dtype(kind), (len(told.seen), 24, 32))
    assert stored["ids"].tolist() == list(told.seen)
    assert stored["names"].tolist() == list(told.channel_names)
    model = Model(info=told, network=ColourNet(told.seen, 1).eval())
    exact = model.probabilities(photos / "a.png")
    np.testing.assert_allclose(shares.astype(np.float32) / scale, exact, atol={1: 1e-3, 255: 0.51 / 255}[scale])
    assert (stored["ids"][shares.argmax(axis=0)] == np.array(Image.open(tmp_path / "out/a.png"))).all()


def test_resume_stores_probabilities_of_another_kind_again(photos: Path, tmp_path: Path) -> None:
    out, told = tmp_path / "out", info()
    first, second = targets_of(find_images([photos], out).images, out)[:2]
    write_label_files(ColourNet(told.seen, 1), told, [first], overlays=False, probabilities="float16")
    write_label_files(ColourNet(told.seen, 1), told, [second], overlays=False)

    def made(target: Target, kind: Kind | None) -> bool:
        return is_made(target, told, overlays=False, probabilities=kind)

    assert [made(first, kind) for kind in (None, "float16", "float32", "uint8")] == [True, True, False, False]
    assert [made(second, kind) for kind in (None, "float16")] == [True, False]
    first.probabilities.write_bytes(b"PK")
    assert not made(first, "float16")


def test_broken_images_are_named_and_end_in_3(photos: Path, tmp_path: Path, invoke: Any) -> None:
    (photos / "b.PNG").write_bytes(b"\xff\xd8\xff rubbish")
    (tmp_path / "list.txt").write_text(f"{photos}/none.jpg\n{photos}/notes.txt\n")
    result = invoke(photos, "--list", tmp_path / "list.txt", "--out", tmp_path / "out", "--no-overlays")
    assert result.exit_code == 3
    failed = [line.split(":")[1].strip() for line in result.stderr.splitlines() if line.startswith("Failed")]
    assert sorted(failed) == ["b.PNG", "none.jpg", "notes.txt"]
    assert written(tmp_path / "out") == ["a.png", "deep/a.png", "deep/c.png"]
    assert "3 images, 3 failed" in result.stdout
    assert "the list" not in invoke(photos / "b.PNG", "--out", tmp_path / "other").stderr


def test_a_place_that_cannot_be_written(photos: Path, tmp_path: Path, invoke: Any) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/inner/.* cannot be written"):
        invoke(photos, "--out", tmp_path / "file/inner")


def test_something_must_be_named(tmp_path: Path, invoke: Any) -> None:
    result = invoke("--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "name images or folders, or a --list of them" in result.stderr


def test_a_word_that_names_nothing_is_a_wrong_word(photos: Path, tmp_path: Path, invoke: Any) -> None:
    result = invoke(photos, "nope", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert result.stderr.endswith("Error: nope is not there; give the path of an image, or of a folder of images.\n")
    assert not (tmp_path / "out").exists()


def test_both_speeds_begin_with_the_first_image(photos: Path, tmp_path: Path, invoke: Any) -> None:
    """Progress that is first told of once an image is made would leave out the slowest of them."""
    told: list[tuple[int, int]] = []
    targets = targets_of(find_images([photos / "a.png"], tmp_path).images, tmp_path / "out")
    write_label_files(ColourNet(info().seen, 1), info(), targets, progress=lambda *done: told.append(done))
    assert told == [(0, 1), (1, 1)]


# -- overlays -----------------------------------------------------------------------------------------------


def test_an_overlay_leaves_background_and_void_alone() -> None:
    labels = np.zeros((200, 200), np.uint8)
    labels[120:160, 50:150] = 4
    labels[170:, :] = VOID
    image = np.full((200, 200, 3), 80, np.uint8)
    drawn = draw_overlay(image, labels, dict(enumerate(NAMES)))
    assert drawn.shape == image.shape
    assert (drawn[100, 150] == 80).all()
    assert (drawn[190, 100] == 80).all()
    np.testing.assert_allclose(drawn[140, 100], class_colours()[4] / 2 + 40, atol=0.51)
    assert (drawn[119:121, 100] == 255).all(), "the border, on both sides"
    assert (drawn[:20, :60] != 80).any(), "the key"
    assert (image == 80).all()
    np.testing.assert_array_equal(draw_overlay(image, labels * 0, {}), image)
    assert draw_overlay(image[:3, :2], np.full((3, 2), 1, np.uint8), {1: "cat"}).shape == (3, 2, 3)


def test_an_interrupt_says_that_resume_goes_on(
    photos: Path, tmp_path: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("wilss_train.results.label_files.write_label_files", stopped)
        for more, how in (((), "--resume"), (("--overwrite",), "--resume in the place of --overwrite")):
            with pytest.raises(click.Abort, match=f"run the same command with {how} to make what is missing"):
                invoke(photos, "--out", tmp_path / "out", *more, standalone_mode=False)
    assert invoke(photos, "--out", tmp_path / "out", "--resume").exit_code == 0
