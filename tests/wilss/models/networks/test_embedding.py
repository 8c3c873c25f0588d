"""Embeddings: the paper's VGG-16 by its numbers, projections of frozen features, and their checkpoints."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.wilss.models.encoders.test_identity import noted_before
from tests.wilss.models.networks.test_checkpoint import FACTS, PROTOCOL, SPEC, header, rewrite
from wilss.data.images import normalise
from wilss.data.manifest import EncoderSpec
from wilss.digests import digest_of_json
from wilss.errors import CheckpointError, ParameterError, WeightsError
from wilss.models.encoders.identity import digest_of_encoder
from wilss.models.networks.checkpoint import load_segmenter, read_info, write_model
from wilss.models.networks.checkpoint_header import MODEL_FILE
from wilss.models.networks.embedding import (
    EmbeddingNet,
    build_embedding,
    embedding_of,
    frozen_embedding,
    load_embedding,
)
from wilss.models.networks.embedding_spec import EmbeddingSpec
from wilss.models.networks.segmenter import build
from wilss.models.networks.weights import load_backbone

VIT = EncoderSpec(
    library="timm",
    model="vit_tiny_patch16_224",
    pretrained="random:0",
    args={"img_size": 32, "patch_size": 8, "embed_dim": 12, "depth": 1, "num_heads": 2},
)
OTHER = EncoderSpec(library="timm", model=VIT.model, pretrained="random:1", args=VIT.args)
VGG = EmbeddingSpec(kind="vgg16", size=40)
IMAGES = torch.randint(0, 256, (2, 3, 24, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def projection(**changes: Any) -> EmbeddingSpec:
    return EmbeddingSpec(
        **{
            "kind": "projection",
            "size": 0,
            "width": 6,
            "in_width": 12,
            "encoder": digest_of_encoder(VIT, tokens=True),
            **changes,
        }
    )


def written(folder: Path, net: EmbeddingNet) -> Path:
    folder.mkdir(exist_ok=True)
    write_model(
        folder / MODEL_FILE, net.state_dict(), spec=net.spec, protocol=PROTOCOL, facts={**FACTS, "method": "panet"}
    )
    return folder


def by_hand(weights: dict[str, Tensor], images: Tensor) -> Tensor:
    """VGG-16 as the paper's text describes it, from torchvision's names."""
    x = images
    pools = {3: 2, 8: 2, 15: 2, 22: 1}  # after these layers of torchvision's list, the stride of a 3x3 pool
    for number in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28):
        wide = 2 if number >= 24 else 1
        weight, bias = weights[f"features.{number}.weight"], weights[f"features.{number}.bias"]
        x = F.conv2d(x, weight, bias, padding=wide, dilation=wide)
        x = x if number == 28 else x.relu()
        if number + 1 in pools:
            x = F.max_pool2d(x, 3, stride=pools[number + 1], padding=1)
    return x


def test_the_vgg_is_the_papers() -> None:
    net = build_embedding(VGG, seed=0).eval()
    images = torch.randn(1, 3, 40, 40)
    weights = {name.removeprefix("backbone."): value for name, value in net.state_dict().items()}
    torch.testing.assert_close(net(images), by_hand(weights, images))
    assert bool((net(images) < 0).any()), "there is a ReLU at the end"


@pytest.mark.parametrize(("side", "grid"), [(417, 53), (40, 5), (33, 5)])
def test_a_vgg_feature_is_eight_pixels(side: int, grid: int) -> None:
    spec = EmbeddingSpec(kind="vgg16", size=side)
    assert spec.grid(100, 200, patch=1) == (grid, grid)
    if side < 100:
        assert build_embedding(spec, seed=0)(torch.zeros(1, 3, side, side)).shape == (1, 512, grid, grid)


def test_torchvisions_weights_fit_the_vgg(tmp_path: Path) -> None:
    from safetensors.torch import save_file
    from torchvision.models import vgg16, vgg16_bn

    with torch.device("meta"):  # names and shapes: to draw 138 million weights takes seconds
        given, normalised = (make(weights=None).features.state_dict() for make in (vgg16, vgg16_bn))
    tensors = {f"features.{name}": torch.randn(value.shape) for name, value in given.items()}
    save_file({**tensors, "classifier.0.weight": torch.zeros(2, 2)}, tmp_path / "vgg.safetensors")
    net = build_embedding(VGG, seed=0)
    load_backbone(net, tmp_path / "vgg.safetensors")
    assert all(torch.equal(net.state_dict()[f"backbone.{name}"], value) for name, value in tensors.items())
    others = {f"features.{name}": torch.zeros(value.shape, dtype=value.dtype) for name, value in normalised.items()}
    save_file(others, tmp_path / "bn.safetensors")
    with pytest.raises(WeightsError, match="does not fit the backbone"):
        load_backbone(net, tmp_path / "bn.safetensors")


def test_networks_depend_on_spec_and_seed_alone() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first, second, other = (build_embedding(projection(), seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    name = "head.0.weight"
    assert torch.equal(first.state_dict()[name], second.state_dict()[name])
    assert not torch.equal(first.state_dict()[name], other.state_dict()[name])


@pytest.mark.parametrize("depth", [1, 3])
def test_a_projection_is_convolutions_of_one_pixel(depth: int) -> None:
    net = build_embedding(projection(depth=depth), seed=0)
    given = torch.randn(1, 12, 3, 5)
    vectors = given.flatten(2).transpose(1, 2)
    convolutions = [module for module in net.head.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == depth
    for number, layer in enumerate(convolutions):
        vectors = vectors.relu() if number else vectors
        assert layer.bias is not None
        vectors = vectors @ layer.weight[:, :, 0, 0].T + layer.bias
    torch.testing.assert_close(net(given).flatten(2).transpose(1, 2), vectors)


def test_frozen_features_are_the_vits() -> None:
    from wilss.models.encoders.vit.encoder import open_vit

    for kind in ("tokens", "keys"):
        spec = EmbeddingSpec(features=kind, size=0)
        embedding, vit = frozen_embedding(VIT, spec=spec), open_vit(VIT, "cpu")
        assert (embedding.patch, embedding.spec.kind, embedding.input_size(24, 40)) == (8, "frozen", (24, 40))
        assert torch.equal(embedding.features(IMAGES), vit.features(IMAGES, kind))
        norm = {"final_norm": "applied"} if kind == "tokens" else {}
        assert embedding.identity["vit"] == {**vit.identity, **norm}


@pytest.mark.few(1)
@pytest.mark.parametrize("spec", [projection(depth=2), VGG], ids=["projection", "vgg16"])
def test_a_checkpoint_gives_the_same_embedding(tmp_path: Path, spec: EmbeddingSpec) -> None:
    net = build_embedding(spec, seed=4)
    info = read_info(written(tmp_path, net))
    assert (info.kind, info.spec, info.method) == ("embedding", spec, "panet")
    before = torch.get_rng_state()
    loaded = load_embedding(info, VIT)
    assert torch.equal(torch.get_rng_state(), before)  # nothing is drawn that the file replaces
    images = torch.stack([loaded.resized(one) for one in IMAGES])
    found = loaded.features(images)
    assert not found.requires_grad
    assert found.shape[-2:] == spec.grid(24, 40, patch=8)
    given = embedding_of(EmbeddingNet(EmbeddingSpec(size=0)), VIT).features(images)
    expected = net(given) if spec.kind == "projection" else net(normalise(images, info.mean, info.std))
    torch.testing.assert_close(found, expected)
    assert loaded.identity["checkpoint"] == info.digest


def test_a_projection_refuses_another_frozen_network(tmp_path: Path) -> None:
    info = read_info(written(tmp_path, build_embedding(projection(), seed=0)))
    with pytest.raises(CheckpointError, match=r"model.safetensors: the embedding was trained on the features of anot"):
        load_embedding(info, OTHER)
    with pytest.raises(CheckpointError, match="needs a vision transformer"):
        load_embedding(info, None)


def test_a_projection_of_tokens_without_their_final_norm_is_refused_with_the_reason(tmp_path: Path) -> None:
    args = {"embed_dim": 64, "depth": 2, "num_heads": 2}
    pooled = EncoderSpec(
        library="timm", model="beit3_base_patch16_224", args=args, pretrained="random:1", pos_interp="dino"
    )
    former = digest_of_json(noted_before(pooled))
    info = read_info(written(tmp_path, build_embedding(projection(encoder=former, in_width=64), seed=0)))
    with pytest.raises(CheckpointError, match=r"tokens of this network were not under its final norm .*; or train it"):
        load_embedding(info, pooled)
    keys = projection(encoder=former, in_width=64, features="keys")
    info = read_info(written(tmp_path / "keys", build_embedding(keys, seed=0)))
    assert load_embedding(info, pooled).vit is not None


def test_segmenters_and_embeddings_are_told_apart(tmp_path: Path) -> None:
    embedding = read_info(written(tmp_path / "embedding", build_embedding(projection(), seed=0)))
    with pytest.raises(CheckpointError, match=r"holds an embedding \(panet\), and this takes a segmenter; pass"):
        load_segmenter(embedding)
    path = tmp_path / MODEL_FILE
    write_model(path, build(SPEC, seed=0).state_dict(), spec=SPEC, protocol=PROTOCOL, facts=FACTS)
    assert read_info(path).kind == "segmenter"
    with pytest.raises(CheckpointError, match=r"holds a segmenter \(fmwiss\), and this takes an embedding; pass"):
        load_embedding(read_info(path), VIT)


def test_weights_of_another_embedding_are_refused(tmp_path: Path) -> None:
    weights = build_embedding(projection(width=7), seed=0).state_dict()
    write_model(tmp_path / MODEL_FILE, weights, spec=projection(), protocol=PROTOCOL, facts=FACTS)
    with pytest.raises(CheckpointError, match="does not fit the network that it describes"):
        load_embedding(read_info(tmp_path), VIT)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"kind": "resnet"}, "kind is 'resnet'; choose one of"),
        ({"width": 0}, "width is 0"),
        ({"size": -1}, "size is -1"),
        ({"kind": "vgg16", "size": 4}, "size is 4; it must be 8 or more"),
        ({"kind": "projection"}, "in_width is 0"),
        ({"heads": 2}, "an embedding has no heads"),
    ],
)
def test_what_cannot_be_built_is_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        EmbeddingSpec.from_json(values)


def test_a_spec_survives_json() -> None:
    assert EmbeddingSpec.from_json(projection().as_json()) == projection()


def test_a_file_that_does_not_say_what_it_holds_is_a_segmenters(tmp_path: Path) -> None:
    """Checkpoints of earlier versions."""
    path = tmp_path / MODEL_FILE
    write_model(path, build(SPEC, seed=0).state_dict(), spec=SPEC, protocol=PROTOCOL, facts=FACTS)
    said, tail = header(path)
    facts = json.loads(said["__metadata__"]["wilss"])
    assert facts.pop("kind") == "segmenter"
    rewrite(path, {**said, "__metadata__": {"wilss": json.dumps(facts)}}, tail)
    assert read_info(path).kind == "segmenter"
    assert load_segmenter(read_info(path)).spec == SPEC
