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
