"""Dense features by windows: where they lie, what is averaged, and that one window is the whole."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.wilss.models.encoders import tiny
from wilss.models.encoders.clip.encoder import DenseClip, open_clip_encoder
from wilss.models.encoders.clip.windows import Windows, features_by_windows


@pytest.mark.parametrize(
    ("side", "size", "stride", "expected"),
    [
        (6, 32, 16, [(0, 4), (2, 6)]),
        (7, 32, 16, [(0, 4), (2, 6), (3, 7)]),
        (4, 32, 16, [(0, 4)]),
        (3, 32, 16, [(0, 3)]),
        (5, 20, 20, [(0, 2), (2, 4), (3, 5)]),  # 20 pixels are 2 patches
        (3, 8, 100, [(0, 1), (1, 2), (2, 3)]),  # no gaps
        (2, 4, 4, [(0, 1), (1, 2)]),
    ],
)
def test_windows_cover_a_side_and_end_with_it(side: int, size: int, stride: int, expected: Any) -> None:
    assert [(one.start, one.stop) for one in Windows(size=size, stride=stride).along(side, 8)] == expected


@pytest.mark.parametrize("form", ["maskclip", "proxy"])
def test_features_are_the_mean_of_those_of_all_windows_that_see_a_place(tmp_path: Path, form: Any) -> None:
    clip = open_clip_encoder(tiny.clip_spec(tmp_path), "cpu", form=form)
    images = tiny.images(2, 48, 56)
    proxy = torch.randn((2, 5, 6, 7), generator=torch.Generator().manual_seed(1)) if form == "proxy" else None
    found = features_by_windows(clip, images, Windows(size=32, stride=16), proxy)
    seen: dict[tuple[int, int], list[np.ndarray]] = {}
    for top in (0, 2):
        for left in (0, 2, 3):
            pixels = images[..., 8 * top : 8 * top + 32, 8 * left : 8 * left + 32]
            part = None if proxy is None else proxy[..., top : top + 4, left : left + 4]
            own = clip.features(pixels, part).double().numpy()
            for row in range(4):
                for column in range(4):
                    seen.setdefault((top + row, left + column), []).append(own[:, :, row, column])
    for (row, column), several in seen.items():
        expected = F.normalize(torch.from_numpy(np.mean(several, axis=0)), dim=1)
        torch.testing.assert_close(found[:, :, row, column].double(), expected, atol=1e-6, rtol=0)
    assert len(seen) == 42


def test_one_window_over_all_is_no_window(tmp_path: Path) -> None:
    clip, images = open_clip_encoder(tiny.clip_spec(tmp_path), "cpu"), tiny.images(1, 24, 40)
    assert torch.equal(features_by_windows(clip, images, Windows(size=40, stride=8)), clip.features(images))


def test_no_more_than_one_window_is_encoded_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = open_clip_encoder(tiny.clip_spec(tmp_path), "cpu")
    sizes: list[tuple[int, ...]] = []
    run = DenseClip.features

    def noted(self: DenseClip, images: torch.Tensor, proxy: torch.Tensor | None = None) -> torch.Tensor:
        sizes.append(images.shape)
        return run(self, images, proxy)

    monkeypatch.setattr(DenseClip, "features", noted)
    features_by_windows(clip, tiny.images(2, 64, 96), Windows(size=32, stride=32))
    assert sizes == [(2, 3, 32, 32)] * 6
