"""Tags whose masks came out empty are told by image and class."""

from dataclasses import replace
from pathlib import Path

from click.testing import CliRunner

from tests.wilss_masks.stores import IMAGES, make_annotation_store
from wilss.store import empty_masks
from wilss_masks.commands.verify import command


def test_empty_masks_are_told_with_their_images(tmp_path: Path) -> None:
    """Of pottedplant one mask of three is empty; of sheep all are, which is told as a class without masks."""
    nothing = (8, 8, 0, 4)
    images = (
        replace(IMAGES[0], boxes={16: nothing}),
        replace(IMAGES[1], boxes={16: (0, 9, 0, 9), 17: nothing}),
        *IMAGES[2:4],
    )
    store = make_annotation_store(tmp_path / "s.zarr", images=images)
    told = ("'pottedplant' is tagged in 4 images, and its mask is empty in 1 image (2007_000033).",)
    assert empty_masks(store) == told
    assert f"Warning: {told[0]}" in CliRunner().invoke(command, [str(store.path)]).stderr


def test_a_store_without_empty_masks_has_nothing_to_tell(tmp_path: Path) -> None:
    assert empty_masks(make_annotation_store(tmp_path / "s.zarr")) == ()
