"""Which pictures a report shows, and that label maps lie over the right pixels in the right colours."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from wilss.drawing import class_colours
from wilss_train.results.report.pictures import (
    PICTURES,
    agreement,
    choose_images,
    colour_of,
    labels_uri,
    only_seen,
    photo_uri,
    shown_size,
)


def opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


def test_new_classes_come_first_then_old_ones() -> None:
    classes = {f"old{i}": (1 + i % 15,) for i in range(200)} | {f"new{i}": (16 + i,) for i in range(5)}
    chosen = choose_images(classes, new=range(16, 21), old=range(1, 16))
    assert len(set(chosen)) == PICTURES
    assert {classes[name][0] for name in chosen[:5]} == set(range(16, 21))
    assert len({classes[name][0] for name in chosen[5:]}) == 7


def test_an_image_with_many_new_classes_is_preferred() -> None:
    classes = {**{f"a{i}": (16,) for i in range(30)}, "rich": (1, 16, 17, 18)}
    assert choose_images(classes, new=(16, 17, 18))[0] == "rich"


def test_twenty_new_classes_share_twelve_pictures() -> None:
    """Images hold two each: all twenty can be shown in ten pictures."""
    classes = {f"{i}-{j}": (i, i + 10) for i in range(1, 11) for j in range(3)}
    chosen = choose_images(classes, new=range(1, 21))
    assert {i for name in chosen for i in classes[name]} == set(range(1, 21))


def test_the_choice_depends_on_names_and_seed_alone() -> None:
    classes = {f"{i}": (16 + i % 5,) for i in range(100)}
    backwards = dict(reversed(classes.items()))
    assert choose_images(classes, new=range(16, 21)) == choose_images(backwards, new=range(16, 21))
    assert choose_images(classes, new=range(16, 21)) != choose_images(classes, new=range(16, 21), seed=1)


@pytest.mark.parametrize("count", [0, 1, 5, 13])
def test_images_without_classes_will_do(count: int) -> None:
    chosen = choose_images({str(i): () for i in range(count)}, new=(1,))
    assert len(set(chosen)) == min(count, PICTURES)


def test_classes_not_seen_are_background_and_void_stays() -> None:
    labels = np.array([[0, 1, 2, 255]], np.uint8)
    np.testing.assert_array_equal(only_seen(labels, (0, 2)), [[0, 0, 2, 255]])


def test_agreement_is_the_mean_iou_of_one_image() -> None:
    truth = np.array([[1, 1, 2, 255]], np.uint8)
    assert agreement(truth, np.array([[1, 0, 2, 3]], np.uint8)) == pytest.approx(0.75)
    assert agreement(truth, np.array([[0, 0, 0, 0]], np.uint8)) == 0.0
    assert agreement(np.zeros((1, 4), np.uint8), np.zeros((1, 4), np.uint8)) is None


def test_photos_are_scaled_down_never_up() -> None:
    assert shown_size(np.zeros((375, 500, 3), np.uint8)) == (340, 255)
    assert shown_size(np.zeros((60, 40, 3), np.uint8)) == (40, 60)
    assert shown_size(np.zeros((1, 5000, 3), np.uint8)) == (340, 1)
    photo = opened(photo_uri(np.full((375, 500, 3), (200, 30, 90), np.uint8)))
    assert (photo.format, photo.size) == ("JPEG", (340, 255))
    np.testing.assert_allclose(np.asarray(photo).mean(axis=(0, 1)), (200, 30, 90), atol=3)


def test_a_label_map_has_the_classes_colours_over_the_right_pixels() -> None:
    labels = np.zeros((40, 60), np.uint8)
    labels[10:30, 20:40], labels[:5] = 15, 255
    drawn = opened(labels_uri(labels, (60, 40)))
    assert (drawn.format, drawn.mode) == ("PNG", "P")
    pixels = np.asarray(drawn.convert("RGBA"))
    np.testing.assert_array_equal((pixels[..., 3] > 0), labels > 0)
    np.testing.assert_array_equal(pixels[20, 30], (*class_colours()[15], 150))  # inside a person
    np.testing.assert_array_equal(pixels[10, 30], (*class_colours()[15], 255))  # on its edge
    np.testing.assert_array_equal(pixels[2, 30], (255, 255, 255, 200))  # void
    assert colour_of(15) == "#{:02x}{:02x}{:02x}".format(*class_colours()[15])


def test_a_label_map_with_all_ids_still_has_room_in_its_palette() -> None:
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert opened(labels_uri(labels, (16, 16))).size == (16, 16)
