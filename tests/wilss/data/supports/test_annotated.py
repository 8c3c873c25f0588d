"""Supports drawn in annotation tools: masks, boxes and scribbles from their own files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.wilss.data import data_on_disk as disk
from wilss.data.annotations.runs import packed_brush
from wilss.data.manifest import Manifest, load_manifest
from wilss.data.supports.maps import BACKGROUND, FOREGROUND, UNKNOWN
from wilss.data.supports.reading import problems_of, read_supports
from wilss.errors import ManifestError

IMAGES = {"a": (1,), "b": (2, 3), "c": (3,)}
HEIGHT, WIDTH = disk.SIZE
LEFT = np.indices(disk.SIZE)[1] < 4


def pets(folder: Path, **changes: Any) -> Manifest:
    disk.voc(folder / "data", IMAGES)
    return load_manifest(disk.manifest(folder, **changes))


def labelme(folder: Path, name: str, *shapes: dict[str, Any], size: tuple[int, int] = disk.SIZE) -> Path:
    content = {"shapes": list(shapes), "imagePath": f"{name}.jpg", "imageHeight": size[0], "imageWidth": size[1]}
    path = folder / f"labelme/{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path.parent


def shape(name: str, kind: str, *points: tuple[float, float]) -> dict[str, Any]:
    return {"label": name, "shape_type": kind, "points": [list(point) for point in points]}


def test_masks_boxes_and_lines_of_labelme(tmp_path: Path) -> None:
    manifest = pets(tmp_path)
    labelme(tmp_path, "c", shape("horse", "rectangle", (2, 3), (8, 9)), shape("dog", "rectangle", (0, 0), (1, 1)))
    line = shape("horse", "linestrip", (1, 1), (6, 1)), shape("background", "line", (0, 11), (15, 11))
    path = labelme(tmp_path, "b", *line)
    scribble, box = read_supports(manifest, 1, path).supports
    assert (scribble.spec.image_id, scribble.spec.kind, box.spec.kind) == ("b", "scribble", "box")
    assert scribble.map[1, 1:7].tolist() == [FOREGROUND] * 6
    assert (scribble.map[11] == BACKGROUND).all()
    assert (scribble.map == UNKNOWN).sum() == HEIGHT * WIDTH - 6 - 16
    assert (box.map[3:10, 2:9] == FOREGROUND).all()
    assert (box.map == FOREGROUND).sum() == 49


def test_brushes_of_label_studio_and_void_beside_them(tmp_path: Path) -> None:
    def brush(mask: np.ndarray, name: str) -> dict[str, Any]:
        return {"id": name, "type": "brushlabels", "original_height": HEIGHT, "original_width": WIDTH,
                "value": {"rle": packed_brush(mask), "brushlabels": [name]}}  # fmt: skip

    void = np.indices(disk.SIZE)[0] == 0
    task = {"data": {"image": "/data/upload/0123abcd-c.jpg"},
            "annotations": [{"result": [brush(LEFT, "horse"), brush(void, "void")]}]}  # fmt: skip
    (tmp_path / "t.json").write_text(json.dumps([task]), encoding="utf-8")
    (one,) = read_supports(pets(tmp_path), 1, tmp_path / "t.json").supports
    assert one.spec.kind == "mask"
    np.testing.assert_array_equal(one.map, np.where(void, UNKNOWN, np.where(LEFT, FOREGROUND, BACKGROUND)))


def test_what_a_box_holds_beside_masks_is_unknown(tmp_path: Path) -> None:
    """The object in it has no outline; and void is unknown beside boxes, too."""
    manifest = pets(tmp_path)
    mask = shape("horse", "polygon", (0, 0), (3, 0), (3, 3), (0, 3))
    box, void = shape("horse", "rectangle", (2, 2), (5, 5)), shape("void", "rectangle", (0, 0), (0, 0))
    on_it = shape("horse", "linestrip", (1, 1), (4, 4))
    (one,) = read_supports(manifest, 1, labelme(tmp_path, "c", mask, box, void, on_it)).supports
    expected = np.full(disk.SIZE, BACKGROUND, np.uint8)
    expected[2:6, 2:6] = UNKNOWN
    expected[:4, :4] = FOREGROUND
    expected[0, 0] = UNKNOWN
    assert one.spec.kind == "mask"
    np.testing.assert_array_equal(one.map, expected)
    (one,) = read_supports(manifest, 1, labelme(tmp_path, "c", box, void)).supports
    assert (one.map == FOREGROUND).sum() == 16
    assert one.map[0, 0] == UNKNOWN


def test_a_coco_json_in_the_manifest_itself(tmp_path: Path) -> None:
    disk.voc(tmp_path / "data", IMAGES)
    path = disk.coco(tmp_path / "elsewhere", "train", {"c.jpg": [disk.box(1, 2, 3, 4, 30)]}, ("dog", "zebra", "horse"))
    content = json.loads(path.read_text())
    assert len(content["annotations"]) == 1
    manifest = pets(tmp_path, supports={1: str(path)})
    (one,) = read_supports(manifest, 1).supports
    assert (one.spec.image_id, one.spec.kind) == ("c", "mask")
    assert one.map.sum() == 12


def test_the_same_content_has_the_same_digest_in_any_form(tmp_path: Path) -> None:
    manifest = pets(tmp_path)
    path = labelme(tmp_path, "c", shape("horse", "rectangle", (2, 3), (8, 9)))
    rows = tmp_path / "supports.yaml"
    rows.write_text("- {image: c, class: horse, box: [2, 3, 9, 10]}\n")
    assert read_supports(manifest, 1, path).digest == read_supports(manifest, 1, rows).digest


@pytest.mark.parametrize(
    ("name", "size", "drawn", "told"),
    [
        ("nowhere", disk.SIZE, [shape("horse", "rectangle", (0, 0), (1, 1))], "is no image of the step's list"),
        ("c", (3, 4), [shape("horse", "rectangle", (0, 0), (1, 1))], "is 4 x 3 pixels there"),
        ("c", disk.SIZE, [shape("zebra", "rectangle", (0, 0), (1, 1))], "'zebra' is no class"),
        ("c", disk.SIZE, [shape("horse", "polygon", (1e9, 0), (1, 1), (0, 0))], "cannot be drawn"),
        ("c", disk.SIZE, [{"label": "horse", "shape_type": "circle", "points": [[None, 1], [2, 2]]}], "not understood"),
        ("c", disk.SIZE, [shape("horse", "linestrip", (0, 0), (99, 1))], "reaches the pixel (99, 1)"),
        (
            "c",
            disk.SIZE,
            [shape("horse", "rectangle", (0, 0), (1, 1)), shape("horse", "point", (9, 9))],
            "has a line where no box of the class is; draw that object as a box, too.",
        ),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    tmp_path: Path, name: str, size: tuple[int, int], drawn: list[dict[str, Any]], told: str
) -> None:
    manifest = pets(tmp_path)
    labelme(tmp_path, "b", shape("horse", "rectangle", (2, 3), (8, 9)))
    path = labelme(tmp_path, name, *drawn, size=size)
    supports = read_supports(manifest, 1, path, every=False)
    (problem,) = problems_of(supports)
    assert told in problem
    assert [support.spec.image_id for support in supports.usable().supports] == ["b"]
    with pytest.raises(ManifestError, match="labelme"):
        _ = [support.map for support in read_supports(manifest, 1, path).supports]
