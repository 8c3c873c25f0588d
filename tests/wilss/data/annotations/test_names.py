"""Which of our images other tools mean by a name."""

import unicodedata
from typing import Any

import pytest

from wilss.data.annotations.names import ImageNames


@pytest.mark.parametrize(("ours", "theirs"), [("NFD", "NFC"), ("NFC", "NFD")])
@pytest.mark.parametrize("named", ["{}/IMG_1.jpg", "upload/{}/IMG_1", "s3://bucket/{}/IMG_1.jpg"])
def test_ids_are_found_however_their_marks_are_written(ours: Any, theirs: Any, named: str) -> None:
    ids = [f"{unicodedata.normalize(ours, folder)}/IMG_1" for folder in ("Österreich", "Zürich")]
    names = ImageNames(ids)
    assert [names.find(named.format(unicodedata.normalize(theirs, f))) for f in ("Österreich", "Zürich")] == ids
    assert names.find("IMG_1.jpg") is None


def test_of_two_spellings_each_is_its_own_id() -> None:
    ids = [unicodedata.normalize(form, "Kätzchen") for form in ("NFC", "NFD")]
    names = ImageNames(ids)
    assert [names.find(f"a/{image_id}.png") for image_id in ids] == ids


@pytest.mark.parametrize(
    ("image_id", "uploaded"),
    [
        ("p 00", "/data/upload/3/0001e240-p_00.png"),
        ("Öl 01", "/data/upload/3/0002012f-%C3%96l_01.tif"),
        ("a/cut (2), left", "/data/upload/3/00ab12cd-cut_2_left.jpg"),
        ("50% off", "/data/upload/3/00ab12cd-50_off.jpg"),
    ],
)
def test_what_label_studio_made_of_an_uploaded_name_is_found(image_id: str, uploaded: str) -> None:
    names = ImageNames(["p_0", "Öl 1", image_id, "b/cut"])
    assert names.find(uploaded) == image_id
    assert names.find(uploaded.rpartition("-")[2]) is None  # not uploaded: the name of another file


def test_an_uploaded_name_that_two_images_may_have_is_none() -> None:
    assert ImageNames(["p 0", "p_0)"]).find("/data/upload/3/0001e240-p_0.png") is None
    assert ImageNames(["p 0", "p_0"]).find("/data/upload/3/0001e240-p_0.png") == "p_0"


def test_an_address_with_escapes_is_the_name_that_they_stand_for_unless_one_is_spelt_so() -> None:
    assert ImageNames(["a b"]).find("photos/a%20b.png") == "a b"
    assert ImageNames(["a b", "a%20b"]).find("photos/a%20b.png") == "a%20b"
