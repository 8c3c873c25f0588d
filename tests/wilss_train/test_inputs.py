"""What a run reads: masks whose labels or images are others by now are refused before anything is trained."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.faults import train_cli
from wilss.data import contents
from wilss.data.manifest import load_manifest
from wilss.errors import StoreError
from wilss_train.inputs import RunInputs, open_inputs


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = train_cli.data_set(tmp_path_factory.mktemp("data"))
    label = root / "data/SegmentationClass/im03.png"
    Image.fromarray(np.array(Image.open(label))).save(label, compress_level=0)
    for path in (root / "data").rglob("*.*"):
        os.utime(path, ns=(10**18, 10**18))  # a file that was written just now is read again
    train_cli.make_masks(root, 0)
    return root


def inputs(root: Path) -> RunInputs:
    return open_inputs(load_manifest(root / "data_manifest.yaml"), root / "masks/step-0.zarr", None, "fmwiss")


def test_labels_that_changed_since_the_masks_were_made_are_refused(root: Path) -> None:
    inputs(root).verify()
    inputs(root).verify(check_digests=True)
    label = root / "data/SegmentationClass/im03.png"
    before, state = label.read_bytes(), label.stat()
    Image.fromarray(np.array(Image.open(label))[:, ::-1]).save(label, compress_level=0)
    with pytest.raises(StoreError, match=r"1 label has changed: .*im03.png; make those masks again with `wilss-masks"):
        inputs(root).verify()
    os.utime(label, ns=(state.st_atime_ns, state.st_mtime_ns))  # now size and time are those of before
    inputs(root).verify()
    with pytest.raises(StoreError, match="1 label has changed"):
        inputs(root).verify(check_digests=True)
    label.write_bytes(before)


def test_a_copied_data_folder_is_read_once_and_labels_that_are_gone_are_no_change(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (root / "data").rglob("*.png"):
        os.utime(path, ns=(10**17, 10**17))
    read, of = [], contents.content_of
    monkeypatch.setattr(contents, "content_of", lambda record, made_of: read.append(record) or of(record, made_of))
    inputs(root).verify()
    assert len(read) == len(inputs(root).store.image_ids)
    read.clear()
    inputs(root).verify()
    assert not read
    label = root / "data/SegmentationClass/im03.png"
    label.rename(root / "im03.png")
    inputs(root).verify(check_digests=True)
    (root / "im03.png").rename(label)
