"""The validation split that `manifest init` draws, and what it says of a table of tags."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.wilss.data import data_on_disk as disk
from wilss.data.layouts import ImageRecord, LabelTable, PngLabel
from wilss.data.manifest import load_manifest, told_unlisted
from wilss.errors import ManifestError
from wilss_masks.commands.manifest import command
from wilss_masks.manifest_tools.check import check_manifest
from wilss_masks.manifest_tools.tables import table_reports
from wilss_masks.manifest_tools.validation import choose


def record(name: str, *tags: int, labelled: bool = True, problem: str | None = None) -> ImageRecord:
    label = PngLabel(path=Path("x.png"), table=LabelTable.of([])) if labelled else None
    return ImageRecord(image_id=name, path=Path(name), tags=tags, label=label, problem=problem)


MANY = [record(str(number), 1 + number % 3) for number in range(40)]


def test_the_draw_is_named_by_seed_and_image() -> None:
    chosen = choose(MANY, 0.2, 0)
    assert len(chosen) == 8
    assert choose(reversed(MANY), 0.2, 0) == chosen
    assert choose(MANY, 0.2, 1) != chosen
    assert chosen - choose(MANY[:-1], 0.2, 0) <= {"39"}


def test_every_class_of_two_images_is_judged_and_is_learnt() -> None:
    rare = [*MANY, record("a", 4), record("b", 4), record("c", 5), record("d", 5, 1)]
    for seed in range(5):
        chosen = choose(rare, 0.05, seed)
        assert len(chosen & {"a", "b"}) == 1
        assert len(chosen & {"c", "d"}) == 1
        assert len(chosen) <= 5
    alone = [*MANY[:9], record("x", 9, 1)]
    assert all("x" not in choose(alone, 0.9, seed) for seed in range(5))


def test_images_without_labels_or_with_a_problem_are_not_judged_on() -> None:
    assert choose([record(str(n), 1, labelled=False) for n in range(20)], 0.2, 0) == frozenset()
    assert choose(MANY[:4], 0.2, 0) == frozenset()
    mixed = [*MANY[:10], *(record(f"x{n}", 1, problem="is damaged") for n in range(10))]
    assert all(not name.startswith("x") for name in choose(mixed, 0.5, 0))


def init(folder: Path, *options: str) -> Result:
    words = ["init", "--layout", "folder", str(folder / "my data"), "--out", str(folder / "m y.yaml"), *options]
    return CliRunner().invoke(command, words, obj={})


def test_init_writes_the_lists_and_says_what_it_drew(tmp_path: Path) -> None:
    root = tmp_path / "my data"
    for number in range(6):
        disk.image(root / f"train/{number}.jpg")
        disk.label(root / f"trainannot/{number}.png", (1 + number % 2,))
    disk.text(root / "tags.csv", *(f"{number};{'ab'[number % 2]}" for number in range(5)), "9;a")
    told = init(tmp_path, "--seed", "3")
    assert told.exit_code == 0, told.output
    assert "semicolon-separated, a row for every image; 5 of 6 images have a row" in told.output
    assert f"tags.csv has 1 row of no image below {root} (9); correct the names, or remove them." in told.output
    assert "tags.csv has no row of 1 image (5); tag them" in told.output
    assert (
        "val is 2 of 6 images, drawn from those with labels by seed 3: my-data-train.txt, my-data-val.txt."
        in told.output
    )
    assert f"then: wilss-masks manifest check --manifest '{tmp_path / 'm y.yaml'}'" in told.output
    manifest = load_manifest(tmp_path / "m y.yaml")
    ids = {split: {r.image_id for r in manifest.listing("main", split).records} for split in ("train", "val")}
    assert ids["train"] | ids["val"] == set("012345")
    assert not ids["train"] & ids["val"]
    assert all(record.label is not None for record in manifest.listing("main", "val").records)
    assert "(manifest init --val 0.2 --seed 3)" in (tmp_path / "m y.yaml").read_text()
    other = init(tmp_path, "--seed", "4", "--force")
    assert other.exit_code == 0
    (tmp_path / "m y.yaml").unlink()
    refused = init(tmp_path, "--seed", "3").exception
    assert isinstance(refused, ManifestError)
    assert "exists; pass --force to replace it, or --val 0" in str(refused)
    (tmp_path / "m y.yaml").unlink()
    assert "val is" not in init(tmp_path, "--val", "0").output


def test_coco_keeps_its_annotations_beside_the_lists(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    images = {f"{number}.jpg": [disk.box(0, 0, 4, 4, 10)] for number in range(6)}
    disk.coco(tmp_path / "coco", "train2017", images, ["cat"])
    words = ["init", "--layout", "coco", str(tmp_path / "coco"), "--out", str(tmp_path / "m.yaml")]
    told = CliRunner().invoke(command, words, obj={})
    assert told.exit_code == 0, told.output
    manifest = load_manifest(tmp_path / "m.yaml")
    assert [len(manifest.listing("main", split).records) for split in ("train", "val")] == [4, 2]


def test_images_that_came_after_the_lists_are_told(tmp_path: Path) -> None:
    for name in ("1.jpg", "2.jpg"):
        disk.image(tmp_path / "data" / name)
    disk.text(tmp_path / "data/tags.csv", "1.jpg,cat", "2.jpg,dog")
    disk.text(tmp_path / "pets-train.txt", "1")
    file = disk.manifest(tmp_path, layout="folder", splits={"train": "pets-train.txt"}, steps=[{"classes": [1, 2, 3]}])
    (report,) = table_reports(load_manifest(file))
    assert report.warnings == (
        f"{tmp_path / 'data/tags.csv'} has rows of 1 image (2.jpg) that no split of this manifest lists, left out of "
        "all steps; write those to learn from into a list (pets-train.txt), and leave others, as of a test, as they "
        "are.",
    )
    assert report.warnings[0] in check_manifest(load_manifest(file), weights=False).warnings
    disk.text(tmp_path / "pets-train.txt", "1", "2")
    (report,) = table_reports(load_manifest(file))
    assert not report.warnings


def test_images_of_one_name_in_two_splits_have_a_row_each(tmp_path: Path) -> None:
    for name in ("train/1.jpg", "train/2.jpg", "val/1.jpg"):
        disk.image(tmp_path / "data" / name)
    disk.text(tmp_path / "data/tags.csv", "train/1.jpg,cat", "val/1.jpg,dog", "test/1.jpg,dog")
    splits = {"train": "train", "val": "val"}
    manifest = load_manifest(disk.manifest(tmp_path, layout="folder", splits=splits))
    (report,) = table_reports(manifest)
    assert report.form.endswith("2 of 3 images have a row.")
    assert "1 row of no image below" in report.warnings[0]
    assert "(test/1.jpg)" in report.warnings[0]
    assert "has no row of 1 image (2)" in report.warnings[1]


def test_names_that_differ_by_upper_and_lower_case_alone_are_told_as_such(tmp_path: Path) -> None:
    for name in ("train/Teil_1.jpg", "train/Teil_2.jpg", "val/Teil_2.jpg"):
        disk.image(tmp_path / "data" / name)
    disk.text(tmp_path / "data/tags.csv", "TEIL_1.JPG,cat", "val/Teil_2.jpg,dog", "test/Teil_2.jpg,dog", "gone,cat")
    splits = {"train": "train", "val": "val"}
    (report,) = table_reports(load_manifest(disk.manifest(tmp_path, layout="folder", splits=splits)))
    assert report.warnings[0].endswith(
        "(TEIL_1.JPG, test/Teil_2.jpg, gone); correct the names, or remove them; 1 of them would be found but for "
        "upper and lower case (TEIL_1.JPG is Teil_1)."
    )


def test_a_table_of_another_name_beside_the_images_is_named(tmp_path: Path) -> None:
    disk.image(tmp_path / "my data/1.jpg")
    disk.text(tmp_path / "Prüfliste.csv", "1.jpg,cat")
    told = init(tmp_path)
    assert told.exit_code != 0
    assert "has no tags.csv; name a table that lies beside it with --table (Prüfliste.csv), or write a row" in str(
        told.exception
    )


def test_a_header_in_another_language_is_told_as_one(tmp_path: Path) -> None:
    for name in "ab":
        disk.image(tmp_path / f"data/{name}.jpg")
    said = {"layout": "folder", "splits": {"train": "all"}}

    def warnings(*lines: str, **tags: object) -> tuple[str, ...]:
        disk.text(tmp_path / "data/tags.csv", *lines)
        (report,) = table_reports(load_manifest(disk.manifest(tmp_path, **said, **tags)))
        return report.warnings

    (told,) = warnings("Bild,Motiv", "a,cat", "b,dog")
    assert "tags.csv: its first line (Bild, Motiv) looks like a header, and was read as a row; call" in told
    named = {"from": "csv", "file": "tags.csv", "image": "Bild", "columns": ["Motiv"]}
    assert "write `tags: {from: csv, file: tags.csv, image: Bild, columns: [Motiv]}` into the manifest" in told
    assert warnings("Bild,Motiv", "a,cat", "b,dog", tags=named) == ()
    for row in ("gone.jpg,Motiv", "gone,cat", "gone,bird"):
        (told, *_) = warnings(row, "a,cat", "b,bird")
        assert "has 1 row of no image below" in told


def test_a_name_that_is_another_image_in_another_split_is_told(tmp_path: Path) -> None:
    for name in ("train/1.jpg", "train/2.jpg", "val/1.jpg"):
        disk.image(tmp_path / "data" / name)
    disk.text(tmp_path / "data/tags.csv", "1.jpg,cat", "2.jpg,dog")
    splits = {"train": "train", "val": "val"}
    manifest = load_manifest(disk.manifest(tmp_path, layout="folder", splits=splits))
    (report,) = table_reports(manifest)
    assert report.warnings == (
        f"{tmp_path / 'data/tags.csv'} has 1 row of a name that is another image in another split ('1.jpg' is 2 images "
        "(train/1.jpg, val/1.jpg)), each of which gets these tags; write their paths there.",
    )
    assert list(told_unlisted(manifest, "main")) == list(report.warnings)


def test_rows_of_one_image_that_differ_are_told_unless_the_table_has_a_row_for_every_tag(tmp_path: Path) -> None:
    for name in ("1.jpg", "2.jpg", "3.jpg"):
        disk.image(tmp_path / "data" / name)
    file = disk.manifest(tmp_path, layout="folder", splits=None)
    rows = ("1.jpg,cat", "2.jpg,dog", "3.jpg,cat;dog", "2.jpg,cat", "3.jpg,dog;cat")
    disk.text(tmp_path / "data/tags.csv", *rows)
    (report,) = table_reports(load_manifest(file))
    said = f"{tmp_path / 'data/tags.csv'} has several rows, with other tags, of 1 image (2), which get all of them"
    assert report.warnings == (f"{said}; keep the right row.",)
    assert list(told_unlisted(load_manifest(file), "main")) == list(report.warnings)
    disk.text(tmp_path / "data/tags.csv", "1.jpg,cat", "2.jpg,dog", "3.jpg,cat", "2.jpg,cat")
    (report,) = table_reports(load_manifest(file))
    assert "a row for every tag" in report.form
    assert not report.warnings


def test_a_report_says_which_folder_above_the_data_folder_the_names_begin_with(tmp_path: Path) -> None:
    for name in ("cam01/1.jpg", "cam02/1.jpg"):
        disk.image(tmp_path / "data" / name)
    disk.text(tmp_path / "tags.csv", "/mnt/in/cam01/1.jpg,cat", "/mnt/in/cam02/1.jpg,dog")
    manifest = load_manifest(disk.manifest(tmp_path, layout="folder", splits=None))
    (report,) = table_reports(manifest)
    assert report.form.endswith(
        "2 of 2 images have a row. Its names begin with mnt/in/, which is taken for the data folder."
    )
