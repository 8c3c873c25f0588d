"""What `manifest init --layout folder` finds in folders as people have them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.wilss.data import data_on_disk as disk
from wilss.data.manifest import Manifest, load_manifest
from wilss.errors import ManifestError
from wilss_masks.commands.manifest import command
from wilss_masks.manifest_tools.check import check_manifest
from wilss_masks.manifest_tools.folder_survey import survey_folder
from wilss_masks.manifest_tools.folder_tree import FolderTree
from wilss_masks.manifest_tools.init import doubts_of, init_manifest, save_manifest
from wilss_masks.manifest_tools.survey import Survey
from wilss_masks.manifest_tools.tag_names import in_order


def pictures(root: Path, *names: str) -> Path:
    for name in names:
        disk.image(root / name)
    return root


def labels(root: Path, **values: tuple[int, ...]) -> Path:
    for name, held in values.items():
        disk.label(root / f"{name}.png", held)
    return root


def found(survey: Survey) -> dict[str, Any]:
    return {
        "splits": survey.splits,
        "tags": (survey.tags, survey.tag_file, dict(survey.tag_keys)),
        "folders": (survey.images, survey.labels),
        "labels": survey.has_labels,
    }


def test_a_table_of_any_name_and_form(tmp_path: Path) -> None:
    pictures(tmp_path, "photos/a.jpg", "photos/b.jpg")
    disk.text(tmp_path / "list.csv", "Bild;Tag1;Tag2", "a.JPG;dog;", "b.JPG;cat;dog")
    survey = survey_folder(tmp_path)
    assert survey.class_names == ("background", "cat", "dog")
    assert found(survey) == {
        "splits": {"train": "all"}, "tags": ("csv", "list.csv", {}), "folders": ("photos", None), "labels": False,
    }  # fmt: skip
    disk.text(tmp_path / "more.csv", "x,y")
    with pytest.raises(
        ManifestError, match=r"has the tables list\.csv, more\.csv; call the one with the tags tags\.csv"
    ):
        survey_folder(tmp_path)


@pytest.mark.parametrize("as_table", [True, False])
def test_tags_that_are_numbers_come_in_the_order_of_numbers(tmp_path: Path, as_table: bool) -> None:
    """Label files number their classes so: by the alphabet, class 10 would be the value 2."""
    for number in range(1, 12):
        pictures(tmp_path, f"photos/a{number}.jpg" if as_table else f"{number}/a{number}.jpg")
    if as_table:
        disk.text(tmp_path / "tags.csv", *(f"a{number}.jpg,{number}" for number in range(1, 12)))
    assert survey_folder(tmp_path).class_names == ("background", *map(str, range(1, 12)))
    assert in_order(["10", "7", "07"]) == in_order(["07", "10", "7"]) == ["07", "7", "10"]


def test_what_labelme2voc_writes_is_read_by_its_label_maps(tmp_path: Path) -> None:
    pictures(
        tmp_path,
        *(f"{folder}/{name}.jpg" for folder in ("JPEGImages", "SegmentationClassVisualization") for name in "ab"),
    )
    labels(tmp_path / "SegmentationClass", a=(1,), b=(2,))
    disk.text(tmp_path / "class_names.txt", "_background_", "cat", "dog")
    survey = survey_folder(tmp_path)
    assert survey.class_names == ("background", "cat", "dog")
    assert (survey.tags, survey.has_labels, survey.labels) == ("masks", True, "SegmentationClass")


def test_what_a_table_does_not_tell_can_be_told(tmp_path: Path) -> None:
    pictures(tmp_path, "photos/a.jpg", "photos/b.jpg")
    disk.text(tmp_path / "other.csv", "x,y")
    disk.text(tmp_path / "list.csv", "Bild;Motiv;Ort", "a;dog;hut", "b;cat;shed")
    with pytest.raises(ManifestError, match=r"columns Bild, Motiv, Ort; say which .* --columns Motiv with"):
        survey_folder(tmp_path, {"file": "list.csv"})
    survey = survey_folder(tmp_path, {"file": "list.csv", "columns": ["Motiv"]})
    assert survey.class_names == ("background", "cat", "dog")
    out = tmp_path / "m.yaml"
    save_manifest(init_manifest("folder", tmp_path, out, table={"file": "list.csv", "columns": ["Motiv"]}), out)
    (first, second) = load_manifest(out).records(0).records
    assert (first.tags, second.tags) == ((2,), (1,))


@pytest.mark.parametrize("named", ["{name}", "photos/{name}", "{stem}"])
def test_a_table_beside_the_folder_is_its_own(tmp_path: Path, named: str) -> None:
    pictures(tmp_path, "photos/x/a.jpg", "photos/y/b.jpg")
    rows = [
        f"{named.format(name=f'{stem}.jpg', stem=Path(stem).name)},{tag}"
        for stem, tag in (("x/a", "dog"), ("y/b", "cat"))
    ]
    disk.text(tmp_path / "tags.csv", *rows)
    out = tmp_path / "m.yaml"
    save_manifest(init_manifest("folder", tmp_path / "photos", out), out)
    manifest = load_manifest(out)
    assert "file: tags.csv" in out.read_text()
    assert manifest.taxonomy.class_names == ("background", "cat", "dog")
    assert [record.tags for record in manifest.records(0).records] == [(2,), (1,)]


def test_labels_beside_the_folder_are_told_and_not_silently_left(tmp_path: Path) -> None:
    root = pictures(tmp_path, "photos/a.jpg", "photos/b.jpg") / "photos"
    disk.text(tmp_path / "tags.csv", "a.jpg,dog", "b.jpg,cat")

    def told() -> list[str]:
        survey = survey_folder(root)
        assert survey.named is not None
        return [doubt for doubt in survey.named.doubts if "is not read" in doubt]

    assert told() == []
    labels(tmp_path / "labels", a=(1,), b=(2,))
    (doubt,) = told()
    assert doubt.startswith(f"{tmp_path / 'labels'} holds files of the same names as images in {root}")
    assert "`--layout folder " in doubt
    assert survey_folder(tmp_path).has_labels
    labels(root / "labels", a=(1,), b=(2,))
    assert told() == []


def test_a_rare_tag_that_is_nearly_a_common_one_is_doubtful(tmp_path: Path) -> None:
    names = [f"{number}" for number in range(7)]
    pictures(tmp_path, *(f"photos/{name}.jpg" for name in names))
    tags = ["dog"] * 5 + ["dgo;boat", "dog;bat"]
    disk.text(tmp_path / "photos/tags.csv", *(f"{name},{tag}" for name, tag in zip(names, tags, strict=True)))
    words = ["init", "--layout", "folder", str(tmp_path / "photos"), "--out", str(tmp_path / "m.yaml")]
    done = CliRunner().invoke(command, words, obj={})
    doubts = [line for line in done.output.splitlines() if line.startswith("Doubtful")]
    assert [doubt.partition("tags.csv: ")[2] for doubt in doubts] == [
        "the tag 'dgo' of 1 image may be 'dog', misspelt; correct it and run init again."
    ]


def test_classes_of_columns_come_in_their_order_and_background_is_none(tmp_path: Path) -> None:
    pictures(tmp_path, "a.jpg", "b.jpg")
    disk.text(tmp_path / "tags.csv", "image,zebra,background,ant", "a,1,1,0", "b,0,1,1")
    assert survey_folder(tmp_path).class_names == ("background", "zebra", "ant")


def fresh(root: Path) -> tuple[Manifest, list[str]]:
    """The manifest that init writes of a folder, and what it doubts."""
    text = init_manifest("folder", root, root / "m.yaml", device="cpu")
    return load_manifest(disk.text(root / "m.yaml", text)), doubts_of(text)


@pytest.mark.parametrize("as_table", [True, False])
def test_words_for_nothing_that_may_be_classes_are_classes(tmp_path: Path, as_table: bool) -> None:
    words = ("cat", "other", "none", "unknown", "bg", "void")
    pictures(tmp_path, *(f"photos/{word}/{word}.jpg" for word in words))
    if as_table:
        disk.text(tmp_path / "photos/tags.csv", *(f"{word}.jpg,{word}" for word in words))
    manifest, doubts = fresh(tmp_path / "photos")
    assert manifest.taxonomy.class_names == ("background", "cat", "none", "other", "unknown")
    told = [doubt.partition(" is taken")[0] for doubt in doubts]
    assert told == ["the tag 'none'", "the tag 'other'", "the tag 'unknown'"]
    assert "write `ignore: [none]` into `tags`, and `complete: true` to learn from such images." in doubts[0]
    report = check_manifest(manifest)
    assert (report.faults, report.findings) == ((), ())
    held = {record.image_id: record.tags for record in manifest.listing("main", "train").records}
    assert held == {"cat/cat": (1,), "none/none": (2,), "other/other": (3,), "unknown/unknown": (4,),
                    "bg/bg": (), "void/void": ()}  # fmt: skip


def test_a_folder_of_faultless_parts_is_asked_about(tmp_path: Path) -> None:
    pictures(tmp_path, "parts/scratch/1.jpg", "parts/Good/2.jpg", "parts/goods/3.jpg")
    manifest, doubts = fresh(tmp_path / "parts")
    assert manifest.taxonomy.class_names == ("background", "Good", "goods", "scratch")
    assert [doubt.partition(" is taken")[0] for doubt in doubts] == ["the tag 'Good'"]


def table(root: Path, *lines: str, images: int = 3) -> Path:
    """Photographs 0.jpg, 1.jpg, ... and a table of their tags, one line each."""
    pictures(root, *(f"{number}.jpg" for number in range(images)))
    disk.text(root / "tags.csv", *lines)
    return root


def test_spellings_of_a_class_are_one_class_and_told(tmp_path: Path) -> None:
    lines = ("0,cat;traffic light", "1,Cat;traffic-light", "2,cat;dog;Traffic_Light")
    manifest, (cats, lights) = fresh(table(tmp_path, *lines))
    assert manifest.taxonomy.class_names == ("background", "cat", "Traffic_Light", "dog")
    assert (
        cats == "the tags 'Cat' and 'cat' are taken for one class, 'cat'; if they are several, write each into `names`."
    )
    assert lights.startswith("the tags 'Traffic_Light' and 'traffic light' and 'traffic-light' are taken for one class")
    assert [record.tags for record in manifest.records(0).records] == [(1, 2), (1, 2), (1, 2, 3)]


def test_spellings_are_one_in_folders_and_beside_names_of_values(tmp_path: Path) -> None:
    pictures(tmp_path / "folders", "Cat/a.jpg", "cat/b.jpg", "cat/c.jpg", "dog/d.jpg")
    manifest, (doubt,) = fresh(tmp_path / "folders")
    assert manifest.taxonomy.class_names == ("background", "cat", "dog")
    assert "the tags 'Cat' and 'cat' are taken for one class" in doubt
    root = table(tmp_path / "table", "0,hot dog", "1,cat", "2,cat;hot dog")
    labels(root / "masks", **{"0": (1,), "1": (2,), "2": (1, 2)})
    disk.text(root / "classes.txt", "Hot-Dog", "Cat")
    manifest, doubts = fresh(root)
    assert manifest.taxonomy.class_names == ("background", "Hot-Dog", "Cat")
    assert doubts == []


def test_flags_that_are_alike_in_all_rows_are_doubtful(tmp_path: Path) -> None:
    lines = ("image,background,cat,checked,fold", "0,1,1,1,0", "1,1,0,1,1", "2,1,0,1,1")
    manifest, (doubt,) = fresh(table(tmp_path, *lines))
    assert manifest.taxonomy.class_names == ("background", "cat", "checked")
    assert "tags.csv: all rows have the same flag under 'checked', which is taken for a class; if it is none" in doubt
    text = (tmp_path / "m.yaml").read_text().replace("file: tags.csv", "file: tags.csv, ignore: [checked]")
    text = text.replace("  2: checked\n", "").replace("[2]", "[1]").replace("[1, 2]", "[1]")
    said = load_manifest(disk.text(tmp_path / "m.yaml", text))
    assert check_manifest(said).findings == ()
    assert [record.tags for record in said.listing("main", "train").records] == [(1,), (), ()]


def test_counts_beside_flags_are_told(tmp_path: Path) -> None:
    manifest, _ = fresh(table(tmp_path, "image,cat,dog,horse", "0,1,0,2", "1,0,1,0", "2,1,1,0"))
    told = [word for word in check_manifest(manifest).warnings if "tags.csv" in word]
    assert [word.partition("tags.csv: ")[2] for word in told] == [
        "its column horse is not read, for there are other numbers than 0 and 1; if they count a class, write 1 there "
        "for more."
    ]


def test_a_comma_that_may_be_part_of_a_name_is_doubtful(tmp_path: Path) -> None:
    manifest, (doubt,) = fresh(table(tmp_path, "image;tags", "0;bus, school", "1;cat, dog", "2;cat"))
    assert manifest.taxonomy.class_names == ("background", "bus", "cat", "dog", "school")
    assert "'bus' and 'school' are taken for two tags, as in 'bus, school', and come only together; if" in doubt
    lines = ("  1: bus\n", "  4: school\n")
    text = (tmp_path / "m.yaml").read_text().replace(lines[0], '  1: "bus, school"\n').replace(lines[1], "")
    text = text.replace(", 4]", "]").replace("[4]", "[3]")
    said = load_manifest(disk.text(tmp_path / "m.yaml", text))
    assert [record.tags for record in said.listing("main", "train").records] == [(1,), (2, 3), (2,)]


def test_images_of_one_name_in_several_folders_are_held_against_their_own_labels(tmp_path: Path) -> None:
    """`zebra` has value 1 in its folder and `ant` value 2 in its own, under the same names of files."""
    for name, value in (("zebra", 1), ("ant", 2)):
        pictures(tmp_path, *(f"images/{name}/{number}.jpg" for number in range(3)))
        labels(tmp_path / f"masks/{name}", **{str(number): (value,) for number in range(3)})
    manifest, doubts = fresh(tmp_path)
    assert manifest.taxonomy.class_names == ("background", "zebra", "ant")
    assert doubts == []


def test_words_with_blanks_between(tmp_path: Path) -> None:
    rows = ("haze primary", "clear primary", "clear primary water", "clear", "clear water", "water haze")
    pictures(tmp_path, *(f"{number}.jpg" for number in range(len(rows))))
    disk.text(tmp_path / "tags.csv", "image_name,tags", *(f"{number},{row}" for number, row in enumerate(rows)))
    survey = survey_folder(tmp_path)
    assert survey.class_names == ("background", "clear", "haze", "primary", "water")
    assert survey.tag_keys == {"between": " "}
    assert survey.named is not None
    (doubt,) = survey.named.doubts
    assert "blanks are taken to stand between tags, as in 'clear primary'; if such a cell is one class, leave" in doubt
    disk.text(tmp_path / "tags.csv", "image_name,tags", "0,hot dog", "1,dining table", "2,dog", "3,cat;hot dog")
    assert survey_folder(tmp_path).class_names == ("background", "cat", "dining table", "dog", "hot dog")


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    pictures(tmp_path / "flat", "cat/1.jpg", "dog/1.jpg")
    assert found(survey_folder(tmp_path / "flat"))["tags"] == ("folders", None, {})
    pictures(tmp_path / "split", "train/cat/1.jpg", "train/dog/1.jpg", "val/cat/1.jpg")
    survey = survey_folder(tmp_path / "split")
    assert survey.class_names == ("background", "cat", "dog")
    assert survey.splits == {"train": "train"}  # without labels nothing can be judged on val


def test_folders_of_places_beside_labels_are_no_classes(tmp_path: Path) -> None:
    pictures(tmp_path, "beach/1.jpg", "beach/2.jpg", "2024/May/3.jpg")
    disk.label(tmp_path / "labels/beach/1.png", (1, 2))
    disk.text(tmp_path / "classes.txt", "background", "cat", "dog")
    survey = survey_folder(tmp_path)
    assert (survey.tags, survey.class_names) == ("masks", ("background", "cat", "dog"))
    disk.text(tmp_path / "classes.txt", "background", "cat", "Beach")
    assert survey_folder(tmp_path).tags == "folders"


@pytest.mark.parametrize("names", [("with_mask", "without_mask"), ("gt/car", "gt/truck"), ("label_a", "mask_b")])
def test_classes_may_be_called_as_labels_are(tmp_path: Path, names: tuple[str, ...]) -> None:
    pictures(tmp_path, *(f"{name}/{number}.png" for name in names for number in range(2)))
    survey = survey_folder(tmp_path)
    assert survey.class_names[1:] == tuple(Path(name).name for name in names)
    assert (survey.tags, survey.has_labels) == ("folders", False)


def test_labels_may_be_tiff_where_they_are_called_labels(tmp_path: Path) -> None:
    pictures(tmp_path, *(f"photos/{number}.jpg" for number in range(3)))
    for number in range(3):
        disk.label(tmp_path / f"masks/{number}.tif", (1, 2))
    survey = survey_folder(tmp_path)
    assert (survey.tags, survey.has_labels, len(survey.class_names)) == ("masks", True, 3)
    (tmp_path / "masks").rename(tmp_path / "infrared")
    assert FolderTree.of(tmp_path).labels == {}


def test_images_and_labels_below_a_folder_that_is_called_labels(tmp_path: Path) -> None:
    pictures(tmp_path, "segmentation/images/1.png", "segmentation/masks/1.png")
    assert FolderTree.of(tmp_path).labels == {"segmentation/images": "segmentation/masks"}


def test_no_photographs_beside_labels_are_one_sentence(tmp_path: Path) -> None:
    tree = FolderTree(tmp_path, {"masks": ["1.png"]}, {"gone": "masks"})
    with pytest.raises(ManifestError, match=r"every folder of .* is taken for label files \(masks\); call those"):
        _ = tree.top


@pytest.mark.parametrize(
    ("images", "truth"), [("img_dir/{}", "ann_dir/{}"), ("{}", "{}annot"), ("images/{}", "labels/{}"), ("{}", "{}_gt")]
)
def test_labels_in_a_folder_for_each_split(tmp_path: Path, images: str, truth: str) -> None:
    for split in ("train", "val"):  # of the same names in both, so that they could be mistaken for each other
        pictures(tmp_path / images.format(split), "1.png", "2.png")
        labels(tmp_path / truth.format(split), **{"1": (1, 255), "2": (1, 2)})
    assert found(survey_folder(tmp_path)) == {
        "splits": {s: {"images": images.format(s), "labels": truth.format(s)} for s in ("train", "val")},
        "tags": ("masks", None, {}),
        "folders": (None, None),
        "labels": True,
    }


def test_splits_may_share_a_folder_of_labels(tmp_path: Path) -> None:
    pictures(tmp_path, "train/1.jpg", "train/2.jpg", "val/3.jpg")
    labels(tmp_path / "truth", **{"1": (1,), "2": (2,), "3": (1,)})
    shared = {split: {"images": split, "labels": "truth"} for split in ("train", "val")}
    assert survey_folder(tmp_path).splits == shared


def test_names_follow_the_values_that_come_and_go_with_them(tmp_path: Path) -> None:
    pictures(tmp_path / "JPEGImages", "a.jpg", "b.jpg", "c.jpg")
    labels(tmp_path / "masks", a=(1,), b=(2,), c=(1, 2))
    disk.text(tmp_path / "tags.tsv", "file\tclass", "a\tzebra", "b\tant", "c\tzebra", "c\tant")
    survey = survey_folder(tmp_path)
    assert survey.class_names == ("background", "zebra", "ant")
    assert survey.named is not None
    assert not survey.named.doubts
    assert found(survey)["folders"] == (None, None)


def test_a_column_of_label_files(tmp_path: Path) -> None:
    pictures(tmp_path, "pics/a.jpg", "pics/b.jpg")
    labels(tmp_path / "truth", t1=(1,), t2=(2,))
    disk.text(tmp_path / "data.csv", "image,label,mask_path", "pics/a.jpg,x,truth/t1.png", "pics/b.jpg,y,truth/t2.png")
    assert found(survey_folder(tmp_path)) == {
        "splits": {"train": "all"}, "tags": ("csv", "data.csv", {"mask": "mask_path"}), "folders": ("pics", None),
        "labels": True,
    }  # fmt: skip


@pytest.mark.parametrize(("images", "masks"), [("", "masks/"), ("pics/", "masks/"), ("", "")])
def test_label_files_of_a_column_say_which_value_has_which_name(tmp_path: Path, images: str, masks: str) -> None:
    held = {"p0": ("dog", (1,)), "p1": ("cat", (2,)), "p2": ("dog;cat", (1, 2))}
    pictures(tmp_path, *(f"{images}{name}.jpg" for name in held))
    labels(tmp_path / masks, **{f"{name}_mask": values for name, (_, values) in held.items()})
    rows = [f"{name}.jpg,{masks}{name}_mask.png,{tags}" for name, (tags, _) in held.items()]
    disk.text(tmp_path / "tags.csv", "image,mask,tags", *rows)
    named = survey_folder(tmp_path).named
    assert named is not None
    assert (named.class_names, named.doubts) == (("background", "dog", "cat"), ())


def test_label_files_of_a_column_that_fit_no_order_are_doubtful(tmp_path: Path) -> None:
    pictures(tmp_path, "a.jpg", "b.jpg")
    labels(tmp_path / "masks", a_mask=(1, 2), b_mask=(1, 2))
    disk.text(tmp_path / "tags.csv", "image,mask,tags", "a.jpg,masks/a_mask.png,dog", "b.jpg,masks/b_mask.png,cat")
    named = survey_folder(tmp_path).named
    assert named is not None
    assert "which value of the label files has which name is a guess" in named.doubts[0]


def test_grey_photographs_are_no_labels_of_each_other(tmp_path: Path) -> None:
    for folder in ("left", "right"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.zeros((3, 3), np.uint8)).save(tmp_path / f"{folder}/1.png")
    disk.text(tmp_path / "tags.csv", "left/1.png,cat", "right/1.png,dog")
    survey = survey_folder(tmp_path)
    assert (survey.has_labels, survey.images) == (False, None)


def test_a_folder_that_says_nothing_is_one_sentence(tmp_path: Path) -> None:
    pictures(tmp_path, "a.jpg")
    with pytest.raises(
        ManifestError, match=r"has no tags\.csv; write a row per image.*or put the images of each class"
    ):
        survey_folder(tmp_path)
    disk.text(tmp_path / "tags.csv", "b,cat")
    with pytest.raises(ManifestError, match=r"tags\.csv names no tag of an image here"):
        survey_folder(tmp_path)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    pictures(tmp_path, "bus/1.jpg", "train/1.jpg", "car/1.jpg")
    survey = survey_folder(tmp_path)
    assert (survey.class_names, survey.splits) == (("background", "bus", "car", "train"), {"train": "all"})


def test_the_one_value_without_a_name_is_taken_as_void(tmp_path: Path) -> None:
    pictures(tmp_path, "train/1.png", "train/2.png")
    labels(tmp_path / "trainannot", **{"1": (1, 2, 3), "2": (2, 3)})
    disk.text(tmp_path / "classes.txt", "background", "sky", "road")
    named = survey_folder(tmp_path).named
    assert named is not None
    assert (named.class_names, named.void) == (("background", "sky", "road"), (3,))
    assert any("the value 3, for which" in doubt and "it is taken as void" in doubt for doubt in named.doubts)


def test_an_image_outside_the_folders_of_classes_is_named(tmp_path: Path) -> None:
    pictures(tmp_path, "cat/1.jpg", "dog/2.jpg", "dog/3.jpg")
    assert survey_folder(tmp_path).tags == "folders"
    pictures(tmp_path, "stray.jpg")
    with pytest.raises(ManifestError, match=r"folder of its name, in which 1 image \(stray\.jpg\) is not\)\."):
        survey_folder(tmp_path)


def test_nothing_is_said_of_folders_where_there_are_none(tmp_path: Path) -> None:
    pictures(tmp_path, "1.jpg", "2.jpg")
    with pytest.raises(ManifestError, match=r"images of each class into a folder of its name\)\."):
        survey_folder(tmp_path)
