"""Tables of tags of every form against the same images, and which image a row means."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from wilss.data.layouts.named_images import NamedImages
from wilss.data.layouts.spec import TagsSpec
from wilss.data.layouts.tag_table import TagRows, read_table
from wilss.errors import ManifestError

CLASSES = {"cat", "dog", "hot dog", "bus, school"}


def read(
    folder: Path,
    *lines: str,
    images: str = "ab",
    known: bool = True,
    classes: Collection[str] = CLASSES,
    **said: Any,
) -> TagRows:
    path = folder / "tags.csv"
    path.write_text("\n".join(lines) + "\n")
    spec = TagsSpec.model_validate({"from": "csv", **said})
    return read_table(
        path,
        spec,
        is_image=lambda cell: cell.removesuffix(".jpg") in set(images),
        is_class=(lambda word: word in classes) if known else None,
    )


def tags(table: TagRows) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in table.rows:
        found.setdefault(row.image, []).extend(row.tags)
    return found


def test_it_says_how_it_was_read(tmp_path: Path) -> None:
    assert read(tmp_path, "a,cat", "b,dog").form == "comma-separated, a row for every image"
    assert read(tmp_path, "a;cat", "a;dog").form == "semicolon-separated, a row for every tag"
    wide = read(tmp_path, "image\tcat\tdog\tby", "a\t1\t0\tme", known=False)
    assert (wide.form, wide.classes, wide.ignored) == (
        "tab-separated, a column of 0 and 1 for each of 2 classes", ("cat", "dog"), ("by",),
    )  # fmt: skip


def test_a_class_whose_name_has_a_comma_or_a_blank_is_one_class(tmp_path: Path) -> None:
    table = read(tmp_path, "image,tags", 'a,"bus, school"', "b,hot dog;cat")
    assert tags(table) == {"a": ["bus, school"], "b": ["hot dog", "cat"]}
    assert tags(read(tmp_path, "image,tags", "a,cat dog", between=" ")) == {"a": ["cat", "dog"]}


def test_blanks_and_marks_of_no_width_around_a_tag_are_no_part_of_it(tmp_path: Path) -> None:
    """Two tags that look alike would be two classes; a joiner inside a word is one of its letters."""
    assert tags(read(tmp_path, "a,\u3000\u200b cat ; dog\u00a0", "\u2060b \u200b,\ufeffdog\u200b \u2060")) == {
        "a": ["cat", "dog"],
        "b": ["dog"],
    }
    persian = "\u0645\u06cc\u200c\u0634\u0648\u062f"
    assert tags(read(tmp_path, f"a,\"[' {persian}\u200b','cat']\"", "b,cat", known=False)) == {
        "a": [persian, "cat"],
        "b": ["cat"],
    }


def test_lines_that_begin_or_end_with_a_separator_keep_their_columns(tmp_path: Path) -> None:
    table = read(tmp_path, "\timage\tcat\tdog", "0\ta\t1\t", "1\tb\t\t1")
    assert tags(table) == {"a": ["cat"], "b": ["dog"]}


def test_a_row_of_an_image_that_is_missing_is_no_header(tmp_path: Path) -> None:
    assert len(read(tmp_path, "gone.jpg,cat", "a.jpg,dog").rows) == 2
    assert len(read(tmp_path, "gone,cat", "a,dog").rows) == 2


@pytest.mark.parametrize("first", ["a,label", "a,mask", "a,1"])
def test_a_first_row_that_names_an_image_is_no_header(tmp_path: Path, first: str) -> None:
    rows = read(tmp_path, first, "b,dog", known=False).rows
    assert [row.image for row in rows] == ["a", "b"]
    assert rows[0].tags == (first[2:],)


@pytest.mark.parametrize(
    ("heads", "classes", "ignored"),
    [
        ("fold,cat,dog", ("cat", "dog"), ("fold",)),
        ("cat,is_valid,Split", ("cat",), ("is_valid", "Split")),
        ("cat,train,val", ("cat",), ("train", "val")),
        ("cat,train,bus", ("cat", "train", "bus"), ()),
        ("validity,test_tube,spliter", ("validity", "test_tube", "spliter"), ()),
    ],
)
def test_flags_that_divide_images_are_no_classes(
    tmp_path: Path, heads: str, classes: tuple[str, ...], ignored: tuple[str, ...]
) -> None:
    table = read(tmp_path, f"image,{heads}", "a,1,0,1", "b,0,1,1", known=False)
    assert (table.classes, table.ignored) == (classes, ignored)


def test_a_class_of_the_manifest_is_one_whatever_it_is_called(tmp_path: Path) -> None:
    table = read(tmp_path, "image,valid,cat", "a,1,0", classes={"valid", "cat"})
    assert table.rows[0].tags == ("valid",)


def test_numbers_beside_flags_may_be_counts(tmp_path: Path) -> None:
    table = read(tmp_path, "image,cat,dog,year,note", "a,1,3,1999,x", "b,0,0,2001,", known=False)
    assert (table.classes, table.ignored, table.counts) == (("cat",), ("dog", "year", "note"), ("dog",))


def test_headings_in_any_language_are_a_header(tmp_path: Path) -> None:
    lines = ("Bild,Motiv,Ort", "a,dog,hut", "b,cat,shed")
    with pytest.raises(ManifestError, match=r"has the columns Bild, Motiv, Ort; say which hold tags"):
        read(tmp_path, *lines, known=False)
    assert tags(read(tmp_path, *lines, columns=["Motiv"])) == {"a": ["dog"], "b": ["cat"]}
    assert len(read(tmp_path, "gone,cat", "a,dog", "b,dog").rows) == 3
    assert tags(read(tmp_path, "gone,cat,", "a,bird,dog", "b,horse,bird", known=False))["a"] == ["bird", "dog"]


def test_a_column_of_label_files_is_no_tag(tmp_path: Path) -> None:
    table = read(tmp_path, "image,mask_path,label", "a,m/a.png,cat", "b,,dog")
    assert table.mask == "mask_path"
    assert [(row.mask, row.tags) for row in table.rows] == [("m/a.png", ("cat",)), ("", ("dog",))]
    assert read(tmp_path, "truth,image,label", "m/a.png,a,cat", mask="truth").rows[0].mask == "m/a.png"


def test_columns_may_be_named(tmp_path: Path) -> None:
    lines = ("number,who,what,seen", "a,b,cat,dog")
    assert tags(read(tmp_path, *lines, image="who", columns=["what", "seen"])) == {"b": ["cat", "dog"]}
    with pytest.raises(ManifestError, match=r"has no column 'waht'; did you mean 'what'; correct `tags\.columns`"):
        read(tmp_path, *lines, columns=["waht"])


def test_two_separators_that_are_as_good_are_asked_about(tmp_path: Path) -> None:
    lines = ("x,cat;y", "z;dog,y")
    with pytest.raises(ManifestError, match=r"may be separated by `,` or `;`; say by which in the manifest: `tags: {"):
        read(tmp_path, *lines)
    assert read(tmp_path, *lines, separator=";").rows[1] == ("z", ("dog", "y"), "")


PATHS = ["images/a.jpg", "images/sub/b.jpg", "images/one/c.jpg", "images/two/c.jpg"]


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("a", [0]), ("a.jpg", [0]), ("a.png", [0]), ("./a.jpg", [0]), ("images/a.jpg", [0]), ("b", [1]),
        ("/home/me/images/sub/b.jpg", [1]), ("sub\\b.jpg", [1]), ("one/c", [2]), ("images/two/c.jpg", [3]),
        ("c", [2, 3]), ("val/a.jpg", []), ("three/c.jpg", []), ("d", []), ("", []),
    ],
)  # fmt: skip
def test_a_name_means_the_image_whose_path_it_is_a_part_of(name: str, means: list[int]) -> None:
    ids = [path.removeprefix("images/").removesuffix(".jpg") for path in PATHS]
    assert list(NamedImages(ids, PATHS.__getitem__).find(name)) == means


@pytest.mark.parametrize("cell", ["x", "1,0", "yes", "perhaps"])
@pytest.mark.parametrize("said", [{}, {"columns": ["cat", "dog"]}])
def test_what_slipped_into_a_column_of_0_and_1_is_named_by_its_row(
    tmp_path: Path, cell: str, said: dict[str, Any]
) -> None:
    rows = ("image;cat;dog", "a;1;0", "b;0;1", f"c;{cell};0", "d;;1")
    with pytest.raises(ManifestError, match=rf"row 4 has the flag '{cell}' under 'cat'; write 1 or 0 there"):
        read(tmp_path, *rows, images="abcd", known=False, **said)
    rows = (*rows[:3], "c;1;0", rows[4])
    assert tags(read(tmp_path, *rows, images="abcd", known=False, **said)) == {
        "a": ["cat"], "b": ["dog"], "c": ["cat"], "d": ["dog"],
    }  # fmt: skip


@pytest.mark.parametrize(("yes", "no"), [("x", ""), ("X", ""), ("ja", "nein"), ("Yes", "No")])
def test_marks_under_the_names_of_classes_are_no_tags(tmp_path: Path, yes: str, no: str) -> None:
    """First it is asked which columns hold tags; who names them is told to write 1 and 0."""
    rows = ("image,cat,dog", f"a,{yes},{no}", f"b,{no},{yes}")
    with pytest.raises(ManifestError, match=r"say which hold tags"):
        read(tmp_path, *rows, known=False)
    with pytest.raises(ManifestError, match=rf"row \d has the flag '{yes}' under '(cat|dog)'; write 1 or 0"):
        read(tmp_path, *rows, known=False, columns=["cat", "dog"])


def test_other_columns_beside_those_of_0_and_1_are_left_out(tmp_path: Path) -> None:
    """Numbers, words and marks that are mostly no 0 and 1; a column that is named is read, whatever else there is."""
    rows = ("image,cat,dog,score,by,seen,note", "a,1,0,0.5,me,yes,", "b,0,1,1,you,no,1", "c,1,1,1,me,yes,dark")
    table = read(tmp_path, *rows, images="abc", known=False)
    assert (table.classes, table.ignored) == (("cat", "dog"), ("score", "by", "seen", "note"))
    assert tags(read(tmp_path, *rows, images="abc", known=False, columns=["by"])) == {
        "a": ["me"], "b": ["you"], "c": ["me"],
    }  # fmt: skip


def test_words_in_several_columns_stay_tags(tmp_path: Path) -> None:
    table = read(tmp_path, "image,seen,also", "a,cat,x", "b,dog,", known=False, columns=["seen", "also"])
    assert (table.classes, tags(table)) == ((), {"a": ["cat", "x"], "b": ["dog"]})


def test_cells_that_are_names_of_classes_are_tags_and_no_marks(tmp_path: Path) -> None:
    rows, named = ("image,first,second", "a,x,n", "b,y,j"), ["first", "second"]
    table = read(tmp_path, *rows, classes={"x", "y", "n", "j"}, columns=named)
    assert (table.classes, tags(table)) == ((), {"a": ["x", "n"], "b": ["y", "j"]})
    for classes in ({"cat", "dog"}, {"first", "second", "x", "n"}):
        with pytest.raises(ManifestError, match=r"row 2 has the flag 'x' under 'first'; write 1 or 0"):
            read(tmp_path, *rows, classes=classes, columns=named)


def test_digits_that_are_classes_are_tags_unless_classes_head_them(tmp_path: Path) -> None:
    rows = ("image,first,second", "a,1,0", "b,0,1", "c,1,x")
    table = read(tmp_path, *rows, images="abc", classes={"0", "1", "x"}, columns=["first", "second"])
    assert tags(table) == {"a": ["1", "0"], "b": ["0", "1"], "c": ["1", "x"]}
    flags = ("image,0,1", "a,1,0", "b,0,1")
    assert tags(read(tmp_path, *flags, classes={"0", "1"}, columns=["0", "1"])) == {"a": ["0"], "b": ["1"]}


def test_a_remark_of_some_0_and_1_is_left_out_where_the_classes_are_known(tmp_path: Path) -> None:
    rows = ("image,cat,dog,is_crowd", "a,1,0,0", "b,0,1,1", "c,1,0,unsure")
    table = read(tmp_path, *rows, images="abc")
    assert (table.classes, table.ignored) == (("cat", "dog"), ("is_crowd",))
    assert tags(table) == {"a": ["cat"], "b": ["dog"], "c": ["cat"]}
    refused = pytest.raises(ManifestError, match=r"row 4 has the flag 'unsure' under 'is_crowd'; write 1 or 0")
    with refused:
        read(tmp_path, *rows, images="abc", known=False)
    with refused:
        read(tmp_path, *rows, images="abc", classes={*CLASSES, "is_crowd"})
