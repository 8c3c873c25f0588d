"""A labeller's file: the same bytes every time, read back whole, and refused where it is not its segmenter's."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from wilss.data.protocol import StepProtocol
from wilss.data.taxonomy import Taxonomy
from wilss.errors import CheckpointError
from wilss.models.networks.attention_cam import Labeller
from wilss.models.networks.checkpoint import CheckpointInfo, load_segmenter, read_info, write_model
from wilss.models.networks.checkpoint_header import MODEL_FILE
from wilss.models.networks.labeller_file import LABELLER_FILE, labeller_digest, load_labeller, write_labeller
from wilss.models.networks.segmenter import Segmenter, build
from wilss.models.networks.spec import SegmenterSpec

NAMES = ("background", "cat", "dog")
PROTOCOL = StepProtocol(name="2", taxonomy=Taxonomy(name="pets", class_names=NAMES), steps=((1, 2),))
FACTS: dict[str, Any] = {
    "method": "pseudoseg", "step": 0, "mean": [0.0] * 3, "std": [1.0] * 3, "params": {}, "seed": 0, "iterations": 1,
    "parent_digest": None, "store_digest": None, "manifest_name": "pets", "manifest_digest": "",
}  # fmt: skip


def segmenter(seed: int = 0) -> Segmenter:
    spec = SegmenterSpec(backbone="resnet18", args={"channels": [8, 8, 8, 8]}, head_width=8, num_channels=3)
    return build(spec, seed=seed)


def written(folder: Path, seed: int = 0) -> tuple[CheckpointInfo, Labeller]:
    folder.mkdir(parents=True, exist_ok=True)
    network = segmenter(seed)
    labeller = Labeller.like(network, width=6, seed=seed)
    write_labeller(folder / LABELLER_FILE, labeller, network)
    write_model(folder / MODEL_FILE, network.state_dict(), spec=network.spec, protocol=PROTOCOL, facts=FACTS)
    return read_info(folder), labeller


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    info, labeller = written(tmp_path / "a")
    found = load_labeller(info, load_segmenter(info))
    assert not found.training
    assert found.queries.out_channels == 6
    for name, value in labeller.state_dict().items():
        assert torch.equal(value, found.state_dict()[name])
    again, _ = written(tmp_path / "b")
    assert (tmp_path / "a" / LABELLER_FILE).read_bytes() == (tmp_path / "b" / LABELLER_FILE).read_bytes()
    assert labeller_digest(info) == labeller_digest(again)


def test_its_batch_norm_is_said_and_older_files_have_torchs(tmp_path: Path) -> None:
    info, plain = written(tmp_path)
    network = load_segmenter(info)
    assert load_labeller(info, network).norm == plain.norm == "torch"
    assert header_of(tmp_path / LABELLER_FILE).keys() == {
        "format", "format_version", "width", "weights_sha256", "segmenter_sha256"
    }  # fmt: skip
    assert header_of(tmp_path / LABELLER_FILE)["format_version"] == 1
    write_labeller(tmp_path / LABELLER_FILE, Labeller.like(network, norm="published", seed=0), network)
    found: Any = load_labeller(info, network)
    assert (found.norm, found.mapping[1].eps) == ("published", 1e-3)
    assert header_of(tmp_path / LABELLER_FILE)["format_version"] == 2


def header_of(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        header: dict[str, Any] = json.loads(file.metadata()["wilss"])
    return header


def test_one_of_another_network_is_refused(tmp_path: Path) -> None:
    info, _ = written(tmp_path / "a")
    other, _ = written(tmp_path / "b", seed=1)
    (tmp_path / "a" / LABELLER_FILE).write_bytes((tmp_path / "b" / LABELLER_FILE).read_bytes())
    with pytest.raises(CheckpointError, match=r"belongs to another network than .*; keep the files of a run together"):
        load_labeller(info, load_segmenter(info))
    load_labeller(other, load_segmenter(other))


def test_none_is_refused(tmp_path: Path) -> None:
    info, _ = written(tmp_path)
    (tmp_path / LABELLER_FILE).unlink()
    for call in (lambda: labeller_digest(info), lambda: load_labeller(info, load_segmenter(info))):
        with pytest.raises(CheckpointError, match=r"labeller\.safetensors is not there; `wilss-train --method pseudos"):
            call()


@pytest.mark.parametrize("place", [4, 60, -1])
def test_damage_is_refused(tmp_path: Path, place: int) -> None:
    info, _ = written(tmp_path)
    path = tmp_path / LABELLER_FILE
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"labeller\.safetensors (is damaged|cannot be read|is no labeller)"):
        load_labeller(info, load_segmenter(info))


def test_a_checkpoint_in_its_place_is_refused(tmp_path: Path) -> None:
    info, _ = written(tmp_path)
    (tmp_path / LABELLER_FILE).write_bytes((tmp_path / MODEL_FILE).read_bytes())
    with pytest.raises(CheckpointError, match=r"is no labeller of this version"):
        load_labeller(info, load_segmenter(info))
