"""Supports drawn from pixel labels are read back as what was drawn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.wilss.data import data_on_disk as disk
from wilss.data.manifest import Manifest, load_manifest
from wilss.data.supports.drawing import draw_supports, save_supports
from wilss.data.supports.maps import BACKGROUND, FOREGROUND
from wilss.data.supports.reading import read_supports
from wilss.errors import ManifestError, StoreError

IMAGES = {f"2007_{i:06}": (1 + i % 2, 3) for i in range(6)}


def pets(folder: Path, **changes: Any) -> Manifest:
    disk.voc(folder / "data", IMAGES)
    return load_manifest(disk.manifest(folder, **changes))


@pytest.mark.parametrize("kind", ["mask", "box", "scribble"])
def test_what_is_drawn_is_read_back(tmp_path: Path, kind: Any) -> None:
    manifest = pets(tmp_path)
    drawn = draw_supports(manifest, 1, 3, seed=4)
    save_supports(drawn, kind, tmp_path / "sup", seed=4)
    found = read_supports(manifest, 1, tmp_path / "sup").shots(3)
    assert sorted(one.spec.image_id for one in found.supports) == sorted(one.image_id for one in drawn)
    for support in found.supports:
        assert (support.map == FOREGROUND)[:, 1].any()
        assert not (support.map == FOREGROUND)[:, 3:].any()
        assert (support.map == BACKGROUND)[:, 3:].any()
        assert support.spec.kind == kind


def test_the_draw_is_the_same_anywhere_and_for_every_kind(tmp_path: Path) -> None:
    first, again = (draw_supports(pets(tmp_path), 1, 2, seed=1) for _ in range(2))
    assert [one.image_id for one in first] == [one.image_id for one in again]
    others = {tuple(one.image_id for one in draw_supports(pets(tmp_path), 1, 2, seed=seed)) for seed in range(9)}
    assert len(others) > 3
    for name in ("one", "two"):
        save_supports(first, "scribble", tmp_path / name, seed=1)
    assert [p.read_bytes() for p in sorted((tmp_path / "one").rglob("*.*"))] == [
        p.read_bytes() for p in sorted((tmp_path / "two").rglob("*.*"))
    ]


def test_without_tags_labels_are_read(tmp_path: Path) -> None:
    by_labels = pets(tmp_path, tags="masks")
    assert {one.class_name for one in draw_supports(by_labels, 0, 2)} == {"cat", "dog"}


def test_specks_are_passed_over(tmp_path: Path) -> None:
    manifest = pets(tmp_path)
    share = 1 / disk.SIZE[1]
    assert len(draw_supports(manifest, 1, 6, smallest=share)) == 6
    with pytest.raises(ManifestError, match=r"has 0 labelled image\(s\) in which 'horse' covers at least 20 %"):
        draw_supports(manifest, 1, 1, smallest=0.2)


def test_too_many_shots_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"has 6 labelled image\(s\) .*, fewer than the 7 shots; use fewer shots"):
        draw_supports(pets(tmp_path), 1, 7)


def test_fewer_than_the_shots_are_taken_if_told_so(tmp_path: Path) -> None:
    manifest = pets(tmp_path)
    every, six = (draw_supports(manifest, 1, shots, seed=3, fewer=True) for shots in (100, 6))
    assert [one.image_id for one in every] == [one.image_id for one in six]
    assert len(six) == 6
    with pytest.raises(ManifestError, match="or --fewer to take those"):
        draw_supports(manifest, 1, 100)
    with pytest.raises(ManifestError, match="has 0 labelled"):
        draw_supports(manifest, 1, 1, smallest=1.0, fewer=True)


def test_a_damaged_label_is_no_candidate(tmp_path: Path) -> None:
    manifest = pets(tmp_path)
    (tmp_path / "data/SegmentationClass/2007_000000.png").write_bytes(b"")
    drawn = draw_supports(manifest, 1, 5)
    assert "2007_000000" not in {one.image_id for one in drawn}


def test_a_folder_is_not_drawn_over_unasked(tmp_path: Path) -> None:
    drawn = draw_supports(pets(tmp_path), 1, 1)
    save_supports(drawn, "box", tmp_path / "sup")
    with pytest.raises(StoreError, match=r"supports\.yaml exists; give another path"):
        save_supports(drawn, "box", tmp_path / "sup")
    save_supports(drawn, "box", tmp_path / "sup", overwrite=True)
    assert np.array([one.inside.any() for one in drawn]).all()
