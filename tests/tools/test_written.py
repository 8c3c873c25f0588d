"""What the tools' own libraries wrote is read to the pixel, without them."""

import pytest

from tests.tools.written import FOLDER, WRITTEN, masks_of, shapes_of

#: Pixels that a library itself leaves out: supervision's polygons end in the middle of the last row and column.
LOST = {("supervision", "c\tcat"): 19}


@pytest.mark.parametrize("form", WRITTEN)
def test_masks_are_those_that_the_library_was_given(form: str) -> None:
    found, given = shapes_of(FOLDER / WRITTEN[form]), masks_of(FOLDER / "masks.npz")
    assert found.keys() == given.keys()
    differing = {(form, key): int((found[key] ^ mask).sum()) for key, mask in given.items()}
    assert {key: count for key, count in differing.items() if count} == {
        key: count for key, count in LOST.items() if key[0] == form
    }
