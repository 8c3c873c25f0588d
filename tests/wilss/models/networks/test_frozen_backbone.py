"""Frozen features of a backbone: what it makes of images, by its own numbers, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from wilss.errors import ParameterError, WeightsError
from wilss.models.networks.embedding import backbone_embedding
from wilss.models.networks.embedding_spec import EmbeddingSpec
from wilss.models.networks.named_backbone import FrozenParams, NamedBackbone

CHANNELS = [8, 8, 12, 16]
IMAGES = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def written(folder: Path, seed: int = 1) -> Path:
    """Weights of a narrow ResNet with its classifier, as timm names them."""
    torch.manual_seed(seed)
    path = folder / f"weights-{seed}.safetensors"
    save_file(timm.create_model("resnet18", channels=CHANNELS).state_dict(), path)
    return path


def named(folder: Path, **values: Any) -> NamedBackbone:
    given = {"backbone": "resnet18", "backbone_args": {"channels": CHANNELS}, "weights": written(folder).name}
    found = FrozenParams(**{**given, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), **values}).named(folder)
    assert found is not None
    return found


def maps_of(folder: Path) -> list[torch.Tensor]:
    """The last two feature maps by timm itself."""
    torch.manual_seed(1)
    whole = timm.create_model("resnet18", channels=CHANNELS)
    network = timm.create_model("resnet18", channels=CHANNELS, features_only=True, output_stride=16, out_indices=(3, 4))
    network.load_state_dict({key: value for key, value in whole.state_dict().items() if not key.startswith("fc.")})
    with torch.no_grad():
        previous, last = network.eval()((IMAGES / 255 - 0.5) / 0.25)
    return [previous, last]


def test_features_are_those_of_timm(tmp_path: Path) -> None:
    previous, last = maps_of(tmp_path)
    one, two = (named(tmp_path).open("cpu", maps) for maps in (1, 2))
    assert (one.patch, one.width, two.width) == (16, 16, 28)
    torch.testing.assert_close(one.features(IMAGES), last, atol=1e-5, rtol=1e-4)
    both = two.features(IMAGES)
    assert both.shape == (2, 28, 2, 3)
    for part, whole in ((both[:, :12], previous), (both[:, 12:], last)):
        torch.testing.assert_close(part, whole / whole.norm(dim=1, keepdim=True), atol=1e-5, rtol=1e-4)


def test_an_embedding_of_a_backbone_is_its_features(tmp_path: Path) -> None:
    made = backbone_embedding(named(tmp_path), spec=EmbeddingSpec(size=32, longest=64))
    image = torch.randint(0, 256, (3, 40, 70), dtype=torch.uint8)
    assert made.input_size(40, 70) == (32, 64)
    features = made.features(made.resized(image)[None])
    assert features.shape == (1, 16, 2, 4)
    assert made.spec.grid(40, 70, made.patch) == (2, 4)
    assert torch.equal(features, named(tmp_path).open("cpu", 1).features(made.resized(image)[None]))


def test_a_transformer_is_a_backbone_too() -> None:
    args = {"img_size": 32, "patch_size": 8, "embed_dim": 12, "depth": 2, "num_heads": 2}
    found = FrozenParams(backbone="vit_tiny_patch16_224", backbone_args=args, stride=8).named(Path())
    assert found is not None
    assert found.open("cpu", 2).features(IMAGES).shape == (2, 24, 4, 6)


def test_identity_tells_networks_apart_and_no_places(tmp_path: Path) -> None:
    first, moved = named(tmp_path), named(tmp_path)
    assert (
        first.identity()
        == replace(moved, folder=tmp_path / "..", weights=f"{tmp_path.name}/{first.weights}").identity()
    )
    others = [
        named(tmp_path, weights=written(tmp_path, 2).name), named(tmp_path, weights=""),
        named(tmp_path, mean=(0.4, 0.5, 0.5)), named(tmp_path, stride=8),
    ]  # fmt: skip
    assert len({str(one.identity()) for one in (first, *others)}) == 5
    assert str(tmp_path) not in str(first.identity())
    maps = [backbone_embedding(first, maps=maps).identity for maps in (1, 2)]
    assert maps[0] != maps[1]


def test_random_weights_are_the_same_every_time(tmp_path: Path) -> None:
    first, second = (named(tmp_path, weights="").open("cpu", 1).features(IMAGES) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"backbone": "resnet18", "stride": 4}, "stride is 4; it must be 8 or 16"),
        ({"backbone": "resnet18", "std": (0.5,)}, "three numbers, or none"),
        ({"weights": "timm"}, "weights is 'timm'; it must be left out where no backbone is named"),
        ({"maps": 2}, "left out where no backbone is named"),
    ],
)
def test_wrong_parameters_are_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        FrozenParams(**values)


def test_weights_that_are_not_there_or_do_not_fit_are_refused(tmp_path: Path) -> None:
    named(tmp_path).check()
    with pytest.raises(WeightsError, match="none.safetensors"):
        named(tmp_path, weights="none.safetensors").check()
    with pytest.raises(WeightsError, match="does not fit the backbone resnet18"):
        named(tmp_path, backbone_args={"channels": [8, 8, 12, 20]}).check()
    with pytest.raises(ParameterError, match="timm has no model 'resnet_18'"):
        named(tmp_path, backbone="resnet_18").check()
    assert FrozenParams().named(tmp_path) is None
