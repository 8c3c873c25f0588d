"""Regions of pictures: the same as transformers' own post-processing says, in any batch, at any size."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from wilss.errors import WeightsError
from wilss.models.proposers.folders import Way, read_folder
from wilss.models.proposers.mask_pile import MaskPile
from wilss.models.proposers.points import PointRegions, boxes_of, distinct, point_grid, stability
from wilss.models.proposers.queries import QueryRegions
from wilss.models.proposers.regions import RegionNetwork, open_regions

KINDS: dict[str, Way] = {"sam2": "points", "eomt": "queries", "dinov3": "queries", "sam3": "words", "tracker": "points"}
SIZES = ((40, 70), (64, 64), (90, 30))


def pictures() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator) for size in SIZES]


def opened(name: str, network_folders: dict[str, Path], **options: Any) -> RegionNetwork:
    return open_regions(read_folder(str(network_folders[name]), KINDS[name], "regions_model"), "cpu", **options)


@pytest.mark.few(2)
@pytest.mark.parametrize("name", KINDS)
def test_every_picture_has_a_map_of_its_size(name: str, network_folders: dict[str, Path]) -> None:
    maps = opened(name, network_folders, points=4, least=0.0).regions(pictures())
    for found, size in zip(maps, SIZES, strict=True):
        assert found.shape == size
        assert found.dtype == torch.int32
        assert found.min() >= -1
        assert found.max() >= 0
    again = opened(name, network_folders, points=4, least=0.0).regions(pictures())
    assert all(torch.equal(first, second) for first, second in zip(maps, again, strict=True))


@pytest.mark.few(2)
@pytest.mark.parametrize("name", KINDS)
def test_masks_of_too_little_quality_are_no_regions(name: str, network_folders: dict[str, Path]) -> None:
    maps = opened(name, network_folders, points=2, least=1.0).regions(pictures())
    assert all((found == -1).all() for found in maps)


@pytest.mark.few(2)
@pytest.mark.parametrize("name", KINDS)
def test_alone_a_picture_has_the_regions_that_it_has_in_a_batch(name: str, network_folders: dict[str, Path]) -> None:
    network = opened(name, network_folders, points=3, least=0.0)
    together = network.regions(pictures())
    for picture, found in zip(pictures(), together, strict=True):
        assert (
            network.regions([picture])[0] == found
        ).float().mean() > 0.99  # a batch of another shape rounds otherwise


def test_smaller_masks_lie_on_top() -> None:
    pile = MaskPile(5, 7)
    masks = torch.zeros(4, 5, 7, dtype=torch.bool)
    masks[0, 1, 1], masks[1, :3, :3], masks[2, :, :5], masks[3, :2, 4:] = True, True, True, True
    pile.add(masks[:1])
    pile.add(masks[1:1])
    pile.add(masks[1:])
    expected = torch.full((5, 7), -1, dtype=torch.int32)
    expected[:, :5], expected[:3, :3], expected[:2, 4:], expected[1, 1] = 2, 1, 3, 0
    assert torch.equal(pile.regions(), expected)
    assert pile.regions([3, 0])[:2].tolist() == [[-1, -1, -1, -1, 3, 3, 3], [-1, 0, -1, -1, 3, 3, 3]]
    assert (MaskPile(2, 2).regions() == -1).all()


def test_five_hundred_masks_take_a_bit_a_pixel() -> None:
    pile = MaskPile(512, 512)
    for _ in range(50):
        pile.add(torch.ones(10, 512, 512, dtype=torch.bool))
    assert sum(one.nbytes for one in pile._packed) == 500 * 512 * 512 // 8


def test_the_grid_of_points_is_transformers() -> None:
    from transformers.models.sam2.image_processing_sam2 import _build_point_grid

    torch.testing.assert_close(point_grid(5, 64), _build_point_grid(5) * 64)


def test_stability_and_boxes_are_transformers() -> None:
    from transformers.models.sam2.image_processing_sam2 import _batched_mask_to_box, _compute_stability_score

    logits = 2 * torch.randn(6, 9, 12, generator=torch.Generator().manual_seed(1)) - 2
    torch.testing.assert_close(stability(logits), _compute_stability_score(logits, 0, 1))
    found = boxes_of(logits > 1)
    theirs = _batched_mask_to_box(logits > 1).float()
    torch.testing.assert_close(found, theirs + torch.tensor([0.0, 0, 1, 1]))  # ours end after the last pixel
    assert not boxes_of(torch.zeros(1, 4, 4, dtype=torch.bool)).any()
    assert stability(torch.full((1, 4, 4), -9.0)).tolist() == [0.0]


def test_of_masks_with_nearly_one_box_the_best_stays() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 4, 4]])
    assert sorted(distinct(boxes, torch.tensor([0.8, 0.9, 0.85]))) == [1, 2]
    assert distinct(boxes[:0], torch.zeros(0)) == []


def test_points_reach_every_part_of_a_picture_that_is_not_square(network_folders: dict[str, Path]) -> None:
    network = opened("sam2", network_folders, points=4, least=0.0)
    assert isinstance(network, PointRegions)
    assert network.points.amin(dim=0).tolist() == [8.0, 8.0]
    assert network.points.amax(dim=0).tolist() == [56.0, 56.0]


def test_queries_are_laid_over_the_picture_as_transformers_does(network_folders: dict[str, Path]) -> None:
    network = opened("eomt", network_folders, least=0.0)
    assert isinstance(network, QueryRegions)
    processor = network.opened.processor
    for picture in pictures():
        with network.opened.asking():
            answer = network.opened.network(network._inputs([picture]))
        side = network.opened.side
        whole = torch.nn.functional.interpolate(answer.masks_queries_logits, size=(side, side), mode="bilinear")
        (theirs,) = processor.unpad_image(
            whole, [tuple(picture.shape[-2:])], {"shortest_edge": side, "longest_edge": side}
        )
        pile = MaskPile(*picture.shape[-2:])
        pile.add(theirs > 0)
        assert torch.equal(network.regions([picture])[0], pile.regions())


@pytest.mark.parametrize("name", ["eomt", "dinov3"])
def test_a_network_that_draws_by_chance_is_refused(name: str, network_folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(network_folders[name], tmp_path / "eomt")
    tensors = load_file(tmp_path / "eomt/model.safetensors")
    tensors["attn_mask_probs"][:] = 0.5
    save_file(tensors, tmp_path / "eomt/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"stopped while its masked attention was being taken away .*0\.5"):
        open_regions(read_folder(str(tmp_path / "eomt"), "queries", "regions_model"), "cpu")


def test_a_checkpoint_that_is_meant_for_windows_sees_the_whole_picture(
    network_folders: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(network_folders["eomt"], tmp_path / "eomt")
    file = tmp_path / "eomt/preprocessor_config.json"
    settings = {**json.loads(file.read_text()), "do_split_image": True, "do_pad": False}
    file.write_text(json.dumps({**settings, "size": {"shortest_edge": 64, "longest_edge": None}}))
    windows = open_regions(read_folder(str(tmp_path / "eomt"), "queries", "regions_model"), "cpu", least=0.0)
    plain = opened("eomt", network_folders, least=0.0)
    for first, second in zip(windows.regions(pictures()), plain.regions(pictures()), strict=True):
        assert torch.equal(first, second)
