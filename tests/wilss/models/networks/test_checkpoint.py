"""The checkpoint's file: what goes in comes out, damage is named, nothing in it can run code."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from wilss.data.images import normalise
from wilss.data.protocol import StepProtocol
from wilss.data.taxonomy import Taxonomy
from wilss.errors import CheckpointError
from wilss.models.networks import checkpoint
from wilss.models.networks.checkpoint import load_segmenter, read_info, write_model
from wilss.models.networks.checkpoint_header import MODEL_FILE
from wilss.models.networks.segmenter import Segmenter, build
from wilss.models.networks.spec import SegmenterSpec

SPEC = SegmenterSpec(backbone="resnet18", args={"channels": [4, 4, 4, 4]}, head_width=4, num_channels=3)
PROTOCOL = StepProtocol(
    name="1-1", taxonomy=Taxonomy(name="pets", class_names=("background", "cat", "dög")), steps=((2,), (1,))
)
FACTS: dict[str, Any] = {
    "method": "fmwiss", "step": 1, "mean": [0.5, 0.4, 0.3], "std": [0.25, 0.25, 0.2], "params": {"lr": 0.1}, "seed": 3,
    "iterations": 7, "parent_digest": "p" * 64, "store_digest": None, "manifest_name": "pets", "manifest_digest": "m",
}  # fmt: skip


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return build(SPEC, seed=1).state_dict()


def written(folder: Path, weights: dict[str, Tensor], **facts: Any) -> Path:
    path = folder / MODEL_FILE
    write_model(path, weights, spec=SPEC, protocol=PROTOCOL, facts={**FACTS, **facts})
    return path


def header(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def rewrite(path: Path, said: dict[str, Any], tail: bytes, pad: int = 0) -> None:
    head = json.dumps(said).encode() + b" " * pad
    path.write_bytes(len(head).to_bytes(8, "little") + head + tail)


def test_what_goes_in_comes_out(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path = written(tmp_path, weights)
    info = read_info(tmp_path)
    assert read_info(path) == info
    assert (info.path, info.spec, info.protocol) == (path, SPEC, PROTOCOL)
    assert (info.mean, info.std) == ((0.5, 0.4, 0.3), (0.25, 0.25, 0.2))
    for name in FACTS.keys() - {"mean", "std"}:
        assert getattr(info, name) == FACTS[name]
    assert info.seen == (0, 2, 1)
    assert info.channel_names == ("background", "dög", "cat")
    loaded = load_segmenter(info)
    kernels = [value for value in loaded.state_dict().values() if value.ndim == 4]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    assert not loaded.training
    assert loaded.state_dict().keys() == weights.keys()
    assert all(torch.equal(loaded.state_dict()[name], weights[name]) for name in weights)


def test_weights_of_a_file_that_was_replaced_meanwhile_never_have_the_old_header(
    tmp_path: Path, weights: dict[str, Tensor]
) -> None:
    info = read_info(written(tmp_path, weights))
    written(tmp_path, weights, mean=[0.0, 0.0, 0.0])
    with pytest.raises(CheckpointError, match=rf"{MODEL_FILE} was replaced after .* was {info.digest[:12]} and is now"):
        load_segmenter(info)


def test_what_is_read_is_not_drawn_first(
    tmp_path: Path, weights: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    info = read_info(written(tmp_path, weights))
    monkeypatch.setattr("wilss.models.networks.segmenter.build", lambda spec, seed: pytest.fail("weights were drawn"))
    first, second = load_segmenter(info), load_segmenter(info)
    with torch.no_grad():
        next(first.parameters()).zero_()
    assert all(torch.equal(second.state_dict()[name], weights[name]) for name in weights)
    assert all(parameter.requires_grad for parameter in second.parameters())


def test_what_no_file_holds_is_made_by_building(
    tmp_path: Path, weights: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    class WithTable(Segmenter):
        def __init__(self, spec: SegmenterSpec) -> None:
            super().__init__(spec)
            self.register_buffer("table", torch.arange(3), persistent=False)

    monkeypatch.setattr("wilss.models.networks.segmenter.Segmenter", WithTable)
    monkeypatch.setattr("wilss.models.networks.segmenter.build", lambda spec, seed: pytest.fail("weights were drawn"))
    checkpoint._on_meta.cache_clear()
    before = torch.get_rng_state()
    loaded = load_segmenter(read_info(written(tmp_path, weights)))
    assert torch.equal(torch.get_rng_state(), before)
    checkpoint._on_meta.cache_clear()
    assert torch.equal(loaded.get_buffer("table"), torch.arange(3))
    assert all(torch.equal(loaded.state_dict()[name], weights[name]) for name in weights)


def test_equal_content_is_equal_bytes(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    first = written(tmp_path / "a", weights)
    turned = {name: weights[name].clone() for name in reversed(list(weights))}
    strided = {
        name: w.contiguous(memory_format=torch.channels_last) if w.ndim == 4 else w for name, w in turned.items()
    }
    second = write_again(tmp_path / "b", strided)
    assert first.read_bytes() == second.read_bytes()
    assert read_info(first).digest == read_info(second).digest
    assert read_info(written(tmp_path / "c", weights, seed=4)).digest != read_info(first).digest


def write_again(folder: Path, weights: dict[str, Tensor]) -> Path:
    path = folder / MODEL_FILE
    facts = dict(reversed(FACTS.items()))
    write_model(path, weights, spec=SPEC, protocol=PROTOCOL, facts=facts)
    return path


@pytest.mark.parametrize("left", [0, 5, 8, 60, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, weights: dict[str, Tensor], left: int) -> None:
    path = written(tmp_path, weights)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(CheckpointError, match=MODEL_FILE):
        load_segmenter(read_info(path))


def test_a_flipped_bit_in_the_weights_is_found(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path = written(tmp_path, weights)
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match=r"model.safetensors is damaged: its weights do not match their digest"):
        load_segmenter(read_info(path))


def test_a_pickle_is_refused_unopened(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "zip.pt")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps({"weight": [0.0] * 9}))
    for name in ("zip.pt", "plain.pkl"):
        with pytest.raises(CheckpointError, match=rf"{name} is a pickle, which may run code"):
            read_info(tmp_path / name)


def test_a_header_whose_length_looks_like_a_pickle_is_read(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    """A length of 0x..80 bytes begins with the byte that a pickle begins with."""
    path = written(tmp_path, weights)
    said, tail = header(path)
    rewrite(path, said, tail, pad=-(len(json.dumps(said).encode()) - 0x80) % 0x100)
    assert path.read_bytes()[:1] == b"\x80"
    assert load_segmenter(read_info(path)).spec == SPEC


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format_version": 2}, r"format_version 2, this wilss reads up to 1; upgrade wilss"),
        ({"format_version": None}, r"format_version None"),
        ({"format": "other"}, r"is no wilss checkpoint"),
        ({"step": "one"}, r"is damaged: its header makes no sense"),
        ({"protocol": {}}, r"is damaged: its header makes no sense"),
        ({"spec": {"num_channels": 0}}, r"is damaged: its header makes no sense"),
        ({"mean": [1, 2]}, r"is damaged: its header makes no sense"),
    ],
)
def test_a_header_of_another_kind_is_refused(
    tmp_path: Path, weights: dict[str, Tensor], change: dict[str, Any], sentence: str
) -> None:
    path = written(tmp_path, weights)
    said, tail = header(path)
    facts = {**json.loads(said["__metadata__"]["wilss"]), **change}
    rewrite(path, {**said, "__metadata__": {"wilss": json.dumps(facts)}}, tail)
    with pytest.raises(CheckpointError, match=sentence):
        read_info(path)


def test_other_files_are_refused(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    from safetensors.torch import save_file

    with pytest.raises(CheckpointError, match=r"model.safetensors is not there; `wilss-train` makes it"):
        read_info(tmp_path)
    save_file(dict(weights), tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match=r"foreign.safetensors is no wilss checkpoint"):
        read_info(tmp_path / "foreign.safetensors")
    (tmp_path / "text").write_text("a text that is long enough to have a length")
    with pytest.raises(CheckpointError, match=r"is no safetensors file"):
        read_info(tmp_path / "text")


def test_weights_of_another_network_are_refused(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path = written(tmp_path, {name: weight for name, weight in weights.items() if not name.endswith("classifier.bias")})
    with pytest.raises(CheckpointError, match=r"does not fit the network that it describes"):
        load_segmenter(read_info(path))


def test_normalised_input_is_the_formula() -> None:
    images = torch.arange(24, dtype=torch.uint8).view(1, 3, 2, 4) * 10
    found = normalise(images, (0.5, 0.4, 0.3), (0.25, 0.5, 1.0))
    assert found.dtype == torch.float32
    for channel, (mean, std) in enumerate(zip((0.5, 0.4, 0.3), (0.25, 0.5, 1.0), strict=True)):
        expected = (images[0, channel].double() / 255 - mean) / std
        torch.testing.assert_close(found[0, channel].double(), expected, rtol=1e-6, atol=1e-6)
