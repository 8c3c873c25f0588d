import json
import sys
from pathlib import Path
from typing import Literal

import pytest
import torch

from wilss.data.layouts import ImageRecord
from wilss.digests import version_of
from wilss.errors import ParameterError
from wilss.params import with_values
from wilss_masks.stages.chain import run_stages, stage_picture
from wilss_masks.stages.params import StageParams, noted
from wilss_masks.stages.regions import SUPERPIXELS, regions_identity, stage_regions, superpixels

RECORD = ImageRecord(image_id="a", path=Path("a.jpg"))


def halves(height: int = 32, width: int = 48, edge: int = 20) -> torch.Tensor:
    """A blue and an orange half, uint8 [3, h, w]."""
    image = torch.full((3, height, width), 60, dtype=torch.uint8)
    image[2, :, :edge] = 200
    image[0, :, edge:] = 230
    return image


@pytest.mark.parametrize("kind", SUPERPIXELS)
def test_superpixels_end_at_edges_and_are_always_the_same(kind: str) -> None:
    params = with_values(StageParams(), {"regions": kind, "region_size": 100}, where="here")
    found = superpixels(halves(), params)
    assert found.shape == (32, 48)
    assert found.min() == 0
    assert not set(found[:, :20].flatten().tolist()) & set(found[:, 20:].flatten().tolist())
    assert found.equal(superpixels(halves(), params))


@pytest.mark.parametrize("kind", SUPERPIXELS)
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 2)])
def test_flat_and_tiny_pictures_have_regions(kind: str, size: tuple[int, int]) -> None:
    params = with_values(StageParams(), {"regions": kind}, where="here")
    assert superpixels(torch.full((3, *size), 128, dtype=torch.uint8), params).min() >= 0


@pytest.mark.parametrize("classes", ["overlap", "compete"])
def test_a_mask_takes_the_regions_that_are_mostly_its_own(classes: Literal["overlap", "compete"]) -> None:
    params = StageParams(regions="felzenszwalb", region_size=200, classes=classes)
    evidence = torch.zeros(1, 32, 48)
    evidence[0, 2:, :23] = 2.0
    picture = stage_picture(halves(), params)
    masks = run_stages(evidence, picture, 32, 48, params).masks
    expected = torch.zeros(32, 48, dtype=torch.bool)
    expected[:, :20] = True
    assert masks[0].equal(expected)
    given = stage_regions(RECORD, 32, 48, picture, params)
    assert run_stages(evidence, picture, 32, 48, params, regions=given).masks.equal(masks)


def test_a_file_of_regions_votes_where_it_has_some(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    counts = [0, 32 * 20, 32 * 28]
    path.write_text(json.dumps([{"image_id": "a", "segmentation": {"size": [32, 48], "counts": counts}}]))
    params = with_values(StageParams(), {"regions": "file", "regions_file": str(path)}, where="here")
    evidence = torch.zeros(1, 32, 48)
    evidence[0, 2:, :23] = 2.0
    picture = stage_picture(halves(), params)
    given = stage_regions(RECORD, 32, 48, picture, params)
    masks = run_stages(evidence, picture, 32, 48, params, regions=given).masks
    assert masks[0, :, :20].all()
    assert masks[0, :, 20:].equal(evidence[0, :, 20:] > 1)
    with pytest.raises(ValueError, match="hand them over"):
        run_stages(evidence, picture, 32, 48, params)


def test_a_store_notes_the_digest_of_the_file_and_not_where_it_lies(tmp_path: Path) -> None:
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    for path in (one, other):
        path.write_text("[]")
    params = [with_values(StageParams(), {"regions": "file", "regions_file": str(p)}, where="") for p in (one, other)]
    assert noted(params[0], ()) == {"regions": "file"}
    assert regions_identity(params[0]) == regions_identity(params[1])
    assert len(regions_identity(params[0])["regions_sha256"]) == 64
    assert regions_identity(StageParams()) == {}
    library = f"scikit-image {version_of('scikit-image')}"
    assert regions_identity(StageParams(regions="slic")) == {"regions_library": library}


def test_without_scikit_image_a_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ParameterError, match=r"pip install 'wilss\[regions\]'"):
        regions_identity(StageParams(regions="slic"))


def test_regions_of_patches_are_of_a_source_with_a_vit() -> None:
    params = StageParams(regions="patches")
    assert regions_identity(params, has_patches=True) == {}
    picture = stage_picture(halves(), params)
    assert stage_regions(RECORD, 32, 48, picture, params) is None
    for refused in (
        lambda: regions_identity(params),
        lambda: run_stages(torch.ones(1, 32, 48), picture, 32, 48, params),
    ):
        with pytest.raises(ParameterError, match="only `wilss-masks generate` by fmwiss has; set regions=none"):
            refused()
