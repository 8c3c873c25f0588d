"""A label whose sides are exchanged may have been drawn on a photograph as it is stored: that is said, and else not."""

from pathlib import Path

import pytest
from PIL import Image

from wilss.data.images import read_size
from wilss.data.layouts import ImageRecord, read_label_of, require_size
from wilss.data.layouts.records import LabelTable, PngLabel
from wilss.errors import ImageError

TURN = "turn it by the photograph's EXIF orientation"


def turned(path: Path) -> ImageRecord:
    """A photograph of 16 x 12 as viewers show it, stored on its side, and the record of it with a label beside it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (12, 16)).save(path / "a.jpg", exif=exif)
    label = PngLabel(path=path / "a.png", table=LabelTable.of([(0, 0), (1, 1)]))
    return ImageRecord(image_id="a", path=path / "a.jpg", tags=(1,), label=label)


def test_a_label_drawn_on_a_photograph_as_stored_is_told_to_be_turned(tmp_path: Path) -> None:
    record = turned(tmp_path)
    Image.new("L", (12, 16)).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"of a are 12 x 16 pixels, .*a\.jpg is 16 x 12; they must be equal") as told:
        read_label_of(record)
    assert TURN in str(told.value)
    Image.open(tmp_path / "a.png").transpose(Image.Transpose.ROTATE_270).save(tmp_path / "a.png")  # as it says
    assert read_label_of(record).shape == read_size(record.path)


@pytest.mark.parametrize("found", [(12, 15), (24, 32), (16, 16)])
def test_any_other_size_is_not_laid_to_a_turn(tmp_path: Path, found: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="they must be equal, so export one of them again") as told:
        require_size(turned(tmp_path), found, (12, 16))
    assert TURN not in str(told.value)
