"""A manifest with what was chosen in it: all else of its text stays."""

from pathlib import Path

import pytest
import yaml

from wilss.errors import ManifestError
from wilss_masks.tuning.adopt import adopted, block, list_of

VALUES = {"threshold": 0.4, "background": "margin", "keep_amount": 1.0}
COMMENT = " --step 1` on 24 images by pixel labels: mIoU 68.8, before 64.8"
LIST = "m.tuned.txt"

TEXTS = {
    "none": "name: a   # the name\n",
    "no end of line": "name: a",
    "empty": "name: a\nmasks: {}\ntrain: {crop: 3}   # small\n",
    "nothing": "name: a\nmasks:\ntrain: {crop: 3}\n",
    "flow": "name: a\nmasks: {panet: {vit_size: 224}, fmwiss: {draws: 5}}\n# after\ntrain: {crop: 3}\n",
    "block": "name: a\n# why\nmasks:\n  # ours\n  fmwiss: {draws: 5}\n  panet: {vit_size: 9}  # and this\n\nc: {}\n",
    "deep": "masks:\n    fmwiss:\n        draws: 5   # five\n        seeds: 9\n\n    panet:\n        size: 9\na: b\n",
    "beside": "masks:   # what I like\n  preset: paper\n  fmwiss: {draws: 5}   # sizes\nname: a\n",
    "last": "name: a\nmasks:\n  fmwiss:\n    draws: 5",
    "others": "masks:\n  preset: paper\n  chosen_on: old.txt\n  pseudoseg: {share: 0.7}\n",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_the_section_is_replaced_and_nothing_else(text: str) -> None:
    before = yaml.safe_load(text)
    changed = adopted(text, VALUES, LIST, COMMENT)
    masks = {**(before.get("masks") or {}), "fmwiss": VALUES, "chosen_on": LIST}
    assert yaml.safe_load(changed) == {**before, "masks": masks}
    assert changed.count("chosen by `wilss-masks tune") == 1
    for line in text.splitlines():
        if "#" in line:
            assert line.split("#")[1] in changed
    assert adopted(changed, VALUES, LIST, COMMENT) == changed


def test_a_later_choice_takes_the_place_of_an_earlier_one() -> None:
    first = adopted(TEXTS["block"], VALUES, LIST, COMMENT)
    second = adopted(first, {"threshold": 0.5}, LIST, " --step 2` on 9 images by supports: mIoU 70.0, before 68.8")
    assert second.count("chosen by") == 1
    assert "--step 2" in second
    assert "0.4" not in second


def test_windows_ends_of_lines_stay() -> None:
    changed = adopted("name: a\r\nmasks:\r\n  fmwiss: {draws: 5}\r\ntrain: {}\r\n", VALUES, LIST, COMMENT)
    assert changed.startswith("name: a\r\nmasks:\r\n")
    assert changed.endswith("train: {}\r\n")


def test_the_list_that_a_manifest_names_is_not_written_over() -> None:
    manifest = Path("d/m.yaml")
    assert list_of(manifest, None) == Path("d/m.tuned.txt")
    assert list_of(manifest, Path("d/m.tuned.txt")) == Path("d/m.tuned-2.txt")
    assert list_of(manifest, Path("d/m.tuned-2.txt")) == Path("d/m.tuned.txt")


def test_an_alias_is_left_to_the_user() -> None:
    with pytest.raises(ManifestError, match="cannot be changed in place"):
        adopted("train: &a {draws: 5}\nmasks: *a\n", VALUES, LIST, COMMENT)


def test_the_block_can_be_pasted() -> None:
    assert yaml.safe_load(block(VALUES, LIST, COMMENT)) == {"masks": {"fmwiss": VALUES, "chosen_on": LIST}}
