"""Small files of annotation tools that would become gigabytes, or lead elsewhere, are refused."""

import base64
import io
import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wilss.data.annotations import read_annotations
from wilss.data.annotations.cvat import read_cvat
from wilss.data.annotations.runs import mask_of_brush, mask_of_rows
from wilss.errors import ManifestError


def png_of(width: int, height: int) -> bytes:
    """A PNG whose head claims these sides."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    packed = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def drawn(path: Path, content: Any, size: tuple[int, int] = (9, 9)) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
    for image in read_annotations(path).images:
        for shape in image.shapes:
            shape.drawn(size)


def test_a_mask_of_labelmes_is_looked_at_before_it_is_unpacked(tmp_path: Path) -> None:
    coded = base64.b64encode(png_of(90_000, 90_000)).decode("ascii")
    shape = {"label": "a", "shape_type": "mask", "points": [[0, 0], [89_999, 89_999]], "mask": coded}
    with pytest.raises(ValueError, match="more than 64 million"):
        drawn(tmp_path / "a.json", {"shapes": [shape], "imagePath": "a.png"})


def test_a_mask_of_fiftyones_is_unpacked_to_a_bound(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|b1", "fortran_order": False, "shape": (100_000, 100_000)})
    packing = zlib.compressobj(9)
    packed = packing.compress(buffer.getvalue())
    zeros = bytes(1 << 20)
    for _ in range(70):
        packed += packing.compress(zeros)
    coded = base64.b64encode(packed + packing.flush()).decode("ascii")
    detection = {"label": "a", "bounding_box": [0, 0, 1, 1], "mask": {"$binary": {"base64": coded, "subType": "00"}}}
    sample = {"filepath": "a.png", "masks": {"_cls": "Detections", "detections": [detection]}}
    with pytest.raises(ValueError, match="cannot be unpacked"):
        drawn(tmp_path / "samples.json", {"samples": [sample]})


def test_an_element_without_end_is_not_collected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wilss.data.annotations.cvat._LONGEST", 1 << 22)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("annotations.xml", '<annotations><image name="' + "a" * (1 << 24))
    with pytest.raises(ManifestError, match="longer than that of any image"):
        list(read_cvat(tmp_path / "a.zip").images)


def test_run_lengths_are_added_up_before_there_is_a_mask() -> None:
    with pytest.raises(ValueError, match="do not add up"):
        mask_of_rows([0, 1 << 60], (4, 4))
    with pytest.raises(ValueError, match="another size"):
        mask_of_brush([255] * 40, (4, 4))


@pytest.mark.parametrize("name", ["../x.png", "/etc/x.png", "a/../../x.png"])
def test_a_panoptic_png_lies_in_its_folder(tmp_path: Path, name: str) -> None:
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 4, "width": 4}],
        "annotations": [{"image_id": 1, "file_name": name, "segments_info": [{"id": 1, "category_id": 1}]}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "p.json").write_text(json.dumps(content), encoding="utf-8")
    (image,) = read_annotations(tmp_path / "p.json").images
    assert image.problem is not None
    assert repr(name) in image.problem
