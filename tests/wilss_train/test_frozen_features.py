"""`wilss-eval --frozen` judges the features that `wilss-masks generate --source panet` takes by the same manifest."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.wilss.data import data_on_disk as disk
from tests.wilss.models.encoders.tiny import vit_spec
from wilss.data.manifest import Encoders, Manifest, load_manifest
from wilss.errors import ParameterError
from wilss.models.networks.debiasing import positional_basis_of
from wilss_train.commands.episodes import _frozen

BACKBONE = {"backbone": "resnet18", "backbone_args": {"channels": [8, 8, 8, 12]}, "stride": 8, "maps": 2}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    root = tmp_path_factory.mktemp("frozen")
    disk.voc(root / "data", {"a": (1,), "b": (1, 2)})
    found = load_manifest(disk.manifest(root))
    return replace(found, encoders=Encoders(clip=found.encoders.clip, vit=vit_spec()))


@pytest.mark.parametrize("values", [{}, {"features": "keys"}, BACKBONE])
def test_positions_are_taken_out_where_the_manifest_says_so(manifest: Manifest, values: dict[str, Any]) -> None:
    plain, made = (
        _frozen(replace(manifest, masks={"panet": {**values, "vit_size": 32, **more}}), "cpu")
        for more in ({}, {"debias": 0.25})
    )
    image = torch.randint(0, 256, (1, 3, 32, 40), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    basis, features = positional_basis_of(plain, 0.25), plain.features(image)[0]
    assert basis.shape[1] > 0
    wanted = features - torch.einsum("dr,rhw->dhw", basis, torch.einsum("dr,dhw->rhw", basis, features))
    np.testing.assert_allclose(made.features(image)[0].numpy(), wanted.numpy(), atol=1e-4)
    assert {**plain.identity, "debias": 0.25} == made.identity


def test_a_share_of_no_sense_is_refused_by_the_manifests_name(manifest: Manifest) -> None:
    with pytest.raises(ParameterError, match=r"masks\.panet: debias is 2"):
        _frozen(replace(manifest, masks={"panet": {"debias": 2}}), "cpu")
