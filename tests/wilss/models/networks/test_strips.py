"""The first layers in strips of rows give what they give of the whole image, and leave the network as it was."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from wilss.data.images import IMAGENET_MEAN, IMAGENET_STD, normalise
from wilss.models.networks import strips
from wilss.models.networks.segmenter import Segmenter, build
from wilss.models.networks.spec import SegmenterSpec
from wilss.models.networks.strips import in_strips

SMALL = {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}
PREPARE = partial(normalise, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def network(backbone: str, **args: object) -> Segmenter:
    spec = SegmenterSpec(backbone=backbone, args=args, head_width=8, num_channels=4, output_stride=8, rates=(1, 2))
    made = build(spec, seed=0)
    draw = torch.Generator().manual_seed(1)
    for layer in made.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            layer.running_mean.normal_(generator=draw)
    return made.to(memory_format=torch.channels_last).eval()


def images(height: int, width: int, count: int = 1) -> Tensor:
    return torch.randint(
        0, 256, (count, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(2)
    )


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strips of a row or a few of the first layers' maps."""
    monkeypatch.setattr(strips, "_PIXELS", 300)


@pytest.mark.parametrize("size", [(64, 48), (61, 47), (97, 30), (5, 3), (1, 1)])
@pytest.mark.parametrize("backbone", ["resnet18", "resnet18d"])
@torch.inference_mode()
def test_logits_are_those_of_the_whole_image(backbone: str, size: tuple[int, int], tiny: None) -> None:
    whole, pixels = network(backbone, **SMALL), images(*size, count=2)
    bounded = in_strips(whole, PREPARE)
    assert bounded is not None
    expected = whole(PREPARE(pixels))
    torch.testing.assert_close(bounded(pixels), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(whole(PREPARE(pixels)), expected), "the network itself is as it was"


@torch.inference_mode()
def test_no_image_of_floats_ever_exists_and_no_whole_map_of_the_first_layer(tiny: None) -> None:
    heights: list[int] = []

    def prepare(part: Tensor) -> Tensor:
        heights.append(part.shape[-2])
        return PREPARE(part)

    bounded = in_strips(network("resnet18", **SMALL), prepare)
    assert bounded is not None
    bounded(images(128, 32))
    assert len(heights) > 8
    assert max(heights) < 64


@pytest.mark.parametrize("backbone", ["tf_efficientnet_lite0", "wide_resnet38"])
def test_networks_of_another_build_are_taken_whole(backbone: str) -> None:
    spec = SegmenterSpec(backbone=backbone, head_width=8, num_channels=4, output_stride=8, rates=(1, 2))
    with torch.device("meta"):
        assert in_strips(Segmenter(spec), PREPARE) is None
    assert in_strips(nn.Conv2d(3, 4, 1), PREPARE) is None
