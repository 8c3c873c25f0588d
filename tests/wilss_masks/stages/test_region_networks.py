"""Regions by a network: those of a batch come together, and where no network is asked a sentence says so."""

from pathlib import Path

import pytest
import torch

from tests.wilss.models.proposers import tiny_networks
from wilss.errors import ParameterError, WeightsError
from wilss_masks.stages.chain import run_stages
from wilss_masks.stages.params import StageParams, noted
from wilss_masks.stages.regions import batch_regions, open_region_network, regions_identity


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory) -> StageParams:
    folder = tiny_networks.eomt(tmp_path_factory.mktemp("networks") / "eomt")
    return StageParams(regions="eomt", regions_model=str(folder), regions_score=0.01, classes="compete")


def pictures() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator) for size in ((24, 40), (32, 16))]


def test_every_region_of_every_picture_takes_its_mode(params: StageParams) -> None:
    network = open_region_network(params, "cpu")
    found = batch_regions(network, pictures(), [None, None])
    for picture, regions in zip(pictures(), found, strict=True):
        assert regions is not None
        height, width = picture.shape[-2], picture.shape[-1]
        evidence = 2 * torch.rand(2, height, width, generator=torch.Generator().manual_seed(1))
        masks = run_stages(evidence, picture, height, width, params, regions=regions).masks
        labels = masks[0] + 2 * masks[1]
        assert int(regions.max()) > 0
        for number in regions[regions >= 0].unique().tolist():
            assert len(labels[regions == number].unique()) == 1


def test_without_a_network_regions_are_those_that_images_brought(params: StageParams) -> None:
    assert open_region_network(StageParams(), "cpu") is None
    known = [torch.zeros(24, 40, dtype=torch.int32), None]
    assert batch_regions(None, pictures(), known) == known


def test_where_no_network_is_asked_a_sentence_says_so(params: StageParams) -> None:
    with pytest.raises(
        ParameterError, match=r"^regions=eomt needs a forward pass, which only .*; set regions=none, or"
    ):
        run_stages(torch.zeros(1, 24, 40), pictures()[0], 24, 40, params)


def test_the_digest_is_noted_and_not_the_folder(params: StageParams, tmp_path: Path) -> None:
    assert "regions_model" not in noted(params, ())
    other = StageParams(regions="eomt", regions_model=str(tiny_networks.eomt(tmp_path / "eomt")))
    assert regions_identity(other) == regions_identity(params)
    with pytest.raises(WeightsError, match="regions_model names no folder"):
        regions_identity(StageParams(regions="sam2"))
