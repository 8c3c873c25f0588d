"""A folder is looked at before anything of it is opened, and what is wrong with it is one sentence."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.wilss.models.proposers import tiny_networks
from wilss.errors import EncoderError, WeightsError
from wilss.models.proposers import folders
from wilss.models.proposers.folders import read_folder
from wilss.models.proposers.opening import OpenedNetwork
from wilss.models.proposers.words import WordNetwork


def rewritten(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def as_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def without_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["mask_decoder.iou_token.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def with_nan(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["mask_decoder.iou_token.weight"][:] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def as_metas(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "sam2.1_hiera_tiny.pt")
    (folder / "config.json").unlink()


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "gone": (shutil.rmtree, r"does not exist; name in model the folder of a SAM 2"),
    "no config": (as_metas, r"has no config.json beside sam2.1_hiera_tiny.pt; model wants the folder as transformers"),
    "another model": (
        lambda folder: rewritten(folder / "config.json", model_type="vit"),
        r"config.json is of vit, and model wants a SAM 2 \(sam2, sam2_video, .*\); name another folder",
    ),
    "no json": (lambda folder: (folder / "config.json").write_text("{"), r"config.json is not a readable json"),
    "a list": (lambda folder: (folder / "config.json").write_text("[]"), r"config.json holds no json object"),
    "code": (
        lambda folder: rewritten(folder / "config.json", auto_map={"AutoModel": "code.Model"}),
        r"config.json names Python code to be run \(auto_map\), which wilss never does",
    ),
    "code of the processor": (
        lambda folder: rewritten(folder / "processor_config.json", auto_map={"AutoProcessor": "code.P"}),
        r"processor_config.json names Python code",
    ),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), r"has no weights, and wilss reads"),
    "a pickle": (as_pickle, r"has only weights that could run code beside pytorch_model.bin, .* save_pretrained"),
    "no processor": (
        lambda folder: (folder / "processor_config.json").unlink(),
        r"has no processor_config.json or preprocessor_config.json, which say how an image is scaled",
    ),
    "cut": (lambda folder: cut(folder / "model.safetensors"), r"cannot read Sam2Model from .*; copy the whole folder"),
    "a tensor less": (without_tensor, r"do not fit its config.json: 1 missing \(mask_decoder.iou_token.weight\)"),
    "not finite": (with_nan, r"has NaN or infinite values in mask_decoder.iou_token.weight"),
    "an index without its parts": (
        lambda folder: [
            (folder / "model.safetensors").unlink(),
            (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "part-1.safetensors"}}'),
        ],
        r"has no part-1.safetensors, of which model.safetensors.index.json speaks",
    ),
    "an index that leaves its folder": (
        lambda folder: [
            (folder / "model.safetensors").rename(folder.parent / "outside.safetensors"),
            (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../outside.safetensors"}}'),
        ],
        r"has no ../outside.safetensors",
    ),
}


@pytest.mark.few(6)
@pytest.mark.parametrize("fault", BROKEN)
def test_what_is_wrong_with_a_folder_is_one_sentence(
    fault: str, network_folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "sam"
    shutil.copytree(network_folders["sam2"], folder)
    breaks, sentence = BROKEN[fault]
    breaks(folder)
    with pytest.raises(WeightsError, match=sentence) as error:
        OpenedNetwork(read_folder(str(folder), "points", "model"), "cpu")
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


def test_a_folder_without_its_words_is_refused(network_folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(network_folders["sam3"], tmp_path / "sam")
    (tmp_path / "sam/tokenizer.json").unlink()
    with pytest.raises(WeightsError, match=r"has no tokenizer.json, nor vocab.json and merges.txt; copy the tokenizer"):
        read_folder(str(tmp_path / "sam"), "words", "model")


def test_no_folder_and_no_extra_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match=r"^model names no folder; write model=FOLDER, a SAM 3"):
        read_folder("", "words", "model")
    monkeypatch.setattr(folders, "version_of", lambda library: "4.57.1")
    with pytest.raises(
        EncoderError, match=r"transformers, which 4.57.1 is too old; run `pip install 'wilss\[regions\]'`"
    ):
        read_folder("", "words", "model")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EncoderError, match=r"which is not installed; run `pip install"):
        read_folder("", "words", "model")


def test_the_digest_is_of_what_decides_and_of_nothing_else(network_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "sam"
    shutil.copytree(network_folders["sam3"], folder)
    first = read_folder(str(network_folders["sam3"]), "words", "model")
    (folder / "README.md").write_text("notes")
    assert read_folder(str(folder), "words", "model").sha256 == first.sha256
    digests = {first.sha256}
    for name in ("config.json", "processor_config.json", "tokenizer.json"):
        rewritten(folder / name, added=1)
        digests.add(read_folder(str(folder), "words", "model").sha256)
    with_other = load_file(folder / "model.safetensors")
    with_other["text_projection.bias"] += 1
    save_file(with_other, folder / "model.safetensors", metadata={"format": "pt"})
    digests.add(read_folder(str(folder), "words", "model").sha256)
    assert len(digests) == 5


def test_a_checkpoint_for_video_holds_the_network_for_images(network_folders: dict[str, Path], tmp_path: Path) -> None:
    """As facebook/sam3 has it: its detector under another name, beside a tracker."""
    folder = tmp_path / "sam"
    shutil.copytree(network_folders["sam3"], folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"model_type": "sam3_video", "detector_config": config}))
    tensors = load_file(folder / "model.safetensors")
    renamed = {f"detector_model.{name}": value for name, value in tensors.items()}
    renamed["tracker_model.memory"] = torch.zeros(1)
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    video = WordNetwork(read_folder(str(folder), "words", "model"), "cpu").network.state_dict()
    plain = WordNetwork(read_folder(str(network_folders["sam3"]), "words", "model"), "cpu").network.state_dict()
    assert video.keys() == plain.keys()
    assert all(torch.equal(video[name], plain[name]) for name in plain)


@pytest.mark.few(1)
@pytest.mark.parametrize("prefix", ["as it is saved", "as facebook/sam3 has it"])
def test_the_tracker_of_a_checkpoint_for_video_is_read_as_it_was_saved(prefix: str, tmp_path: Path) -> None:
    """Its tensors are those of the tracker, of its own neck, and of the detector's backbone, which both share."""
    folder, video = tiny_networks.sam3_video(tmp_path / "video")
    if prefix != "as it is saved":
        tensors = load_file(folder / "model.safetensors")
        once = {name.replace("tracker_model.tracker_model.", "tracker_model."): one for name, one in tensors.items()}
        save_file(once, folder / "model.safetensors", metadata={"format": "pt"})
    network = OpenedNetwork(read_folder(str(folder), "points", "model"), "cpu").network
    homes = {
        "vision_encoder.backbone.": "detector_model.vision_encoder.backbone.",
        "vision_encoder.neck.": "tracker_neck.",
    }
    known, compared = video.state_dict(), 0
    for name, tensor in network.state_dict().items():
        home = next((new + name.removeprefix(old) for old, new in homes.items() if name.startswith(old)), None)
        torch.testing.assert_close(tensor, known[home or f"tracker_model.{name}"], rtol=0, atol=0)
        compared += 1
    assert compared > 150
    words = WordNetwork(read_folder(str(folder), "words", "model"), "cpu").network.state_dict()
    assert all(torch.equal(tensor, known[f"detector_model.{name}"]) for name, tensor in words.items())


def test_nobody_is_called(network_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a call to the network")

    for name in ("socket.socket.connect", "socket.create_connection", "socket.getaddrinfo"):
        monkeypatch.setattr(name, refused)
    WordNetwork(read_folder(str(network_folders["sam3"]), "words", "model"), "cpu").words(["cat"])
    OpenedNetwork(read_folder(str(network_folders["sam2"]), "points", "model"), "cpu")


def test_a_processor_of_another_size_is_refused(network_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "sam"
    shutil.copytree(network_folders["sam2"], folder)
    settings = json.loads((folder / "processor_config.json").read_text())
    settings["image_processor"]["size"] = {"height": 96, "width": 96}
    (folder / "processor_config.json").write_text(json.dumps(settings))
    opened = OpenedNetwork(read_folder(str(folder), "points", "model"), "cpu")
    with pytest.raises(WeightsError, match=r"makes images of 96 x 96, and its network was built for 64 x 64"):
        opened.inputs([torch.zeros(3, 9, 9, dtype=torch.uint8)])
