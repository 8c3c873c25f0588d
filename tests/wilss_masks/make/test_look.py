"""What `generate` says at its end of the masks, against loops over them; and the commands that it names."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.built_in import manifest_of_few
from tests.faults.standin import StandInSource, draw_images, make
from tests.wilss_masks.stores import FAILED, IMAGES, UNTAGGED, make_store
from wilss.console import pasted
from wilss.errors import StoreError
from wilss.store import Look, MaskStore, look_at
from wilss_masks.cli import cli
from wilss_masks.commands.making.outcome import rate, report
from wilss_masks.sources.cam.source import CamSource
from wilss_masks.sources.fmwiss_params import FmwissParams


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> MaskStore:
    return make_store(tmp_path_factory.mktemp("look") / "step-1.zarr", params=FmwissParams(threshold=0.1))


def test_the_look_is_that_of_the_masks(store: MaskStore) -> None:
    shares: dict[str, list[float]] = {name: [] for name in store.category_names}
    covered, agreements = 0, []
    for row in sorted(set(range(len(IMAGES))) - {FAILED, UNTAGGED}):
        found = store.read(row)
        parts = [float(mask.mean()) for mask in found.masks]
        for category, part in zip(found.categories, parts, strict=True):
            shares[store.category_names[category]].append(part)
            agreements.append(float(store.vector("agreement")[row, category]))
        covered += any(part > 0.5 for part in parts)
    look = look_at(store)
    assert (look.images, look.masks, look.covered) == (4, 5, covered)
    assert look.share == pytest.approx({name: np.median(some) for name, some in shares.items()})
    assert look.agreement == pytest.approx(np.median(agreements))
    assert look.differ == sum(agreement < 0.2 for agreement in agreements)
    assert (look.fell_back, look.with_fallback) == (2, 1), "the third image has two tags"
    assert look.empty == {}


def test_masks_that_are_not_made_of_two_maps_have_no_agreement(tmp_path: Path) -> None:
    """A union of M_init and M_seeds has one; one of both alone, a spread map and class activation maps have none."""

    def sentences(**values: Any) -> list[str]:
        masks = make_store(tmp_path / f"{len(list(tmp_path.iterdir()))}.zarr", **values)
        return [line for line in look_at(masks).sentences() if "agree" in line or "M_init" in line]

    def of(**values: Any) -> list[str]:
        return sentences(params=FmwissParams(**values))

    both, drawn = of(threshold=0.1)
    assert both.startswith("M_init and M_seeds agree by ")
    assert drawn.startswith("seeds without foreground (M_init was empty): 2 of 5 masks")
    assert of(threshold=0.1, fusion="seeds") == [drawn]
    assert of(threshold=0.1, fusion="init") == []
    (soft,) = of(threshold=0.1, placing="soft")
    assert soft.startswith("M_init and the mask of the spread map agree by ")
    assert of(placing="soft", fusion="seeds") == []
    assert sentences(source="cam", parameters={"cut": 0.5, "affinity_from": "own"}) == []


def test_what_is_made_is_looked_at_and_nothing_else(tmp_path: Path) -> None:
    partial = make_store(tmp_path / "partial.zarr", finish=False)
    assert look_at(partial).images == 3
    empty = make_store(tmp_path / "empty.zarr", params=FmwissParams(threshold=1.0, fusion="init"))
    look = look_at(empty)
    assert look.empty == {"pottedplant": 2, "sheep": 1, "tvmonitor": 2}
    assert look.share == {}
    assert look.warnings()[-1] == "5 of 5 masks are empty"


def test_masks_of_no_use_are_warned_of() -> None:
    def warned(**values: int) -> str:
        none = {"covered": 0, "differ": 0, "fell_back": 0, "with_fallback": 0}
        whole: dict[str, Any] = {"images": 10, "masks": 12, **none, **values}
        look = Look(share={"cat": 0.6}, agreement=0.5, empty={}, **whole)
        return "; ".join(look.warnings())

    assert warned() == ""
    assert warned(covered=5, fell_back=6, differ=6) == ""
    assert "more than half of its image on 6 of 10 images" in warned(covered=6)
    assert "M_init was empty for 12 of 12 masks, on 10 images" in warned(fell_back=12, with_fallback=10)
    assert "agree by less than 20 % for 7 of 12 masks" in warned(differ=7)


def test_a_command_can_be_pasted() -> None:
    assert pasted("wilss-masks sheet", "a.zarr", manifest="data_manifest.yaml") == "wilss-masks sheet a.zarr"
    line = pasted("wilss-masks sheet", Path("my masks/a.zarr"), manifest=Path("other manifest.yaml"))
    assert shlex.split(line) == ["wilss-masks", "sheet", "my masks/a.zarr", "--manifest", "other manifest.yaml"]


def test_generate_ends_with_what_a_person_would_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of maps that say different things, since M_init is cut too high; a second run says the same."""
    masks = {"fmwiss": {"clip_size": 0, "vit_size": 96, "templates": "plain", "threshold": 1.0}}
    manifest_of_few(tmp_path, drawn=(12, 2), masks=masks).rename(tmp_path / "own.yaml")
    monkeypatch.chdir(tmp_path)
    command = ["generate", "--step", "1", "--manifest", "own.yaml", "--limit", "2", "--out", "s.zarr"]
    first, second = (CliRunner().invoke(cli, command) for _ in range(2))
    assert first.exit_code == 0, first.output
    assert "M_init and M_seeds agree by less than 20 % for 2 of 2 masks" in first.stderr
    assert "for better parameters: wilss-masks tune --step 1 --manifest own.yaml" in first.stderr
    assert "median area of a mask, in % of its image: " in first.stdout
    assert "Next: wilss-masks sheet s.zarr --manifest own.yaml" in first.stdout
    ends = [run.stdout.split("masks per class", 1)[1] for run in (first, second)]
    assert ends[0] == ends[1]
    assert "nothing to do" in second.stdout


def test_generate_says_what_is_next_after_images_that_failed_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_images(tmp_path / "images", 2)
    (tmp_path / "images/image_0000.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    summary = make(tmp_path / "images", tmp_path / "s.zarr")
    for done, last in ((1, f"wilss-train --masks {summary.store}"), (0, "--retry-failed.")):
        report(replace(summary, done=done), StandInSource(), {"step": 1, "manifest_path": Path("data_manifest.yaml")})
        out = capsys.readouterr().out
        assert "run the same command with --retry-failed" in out
        assert (f"\nNext: wilss-masks sheet {summary.store}" in out) == bool(done)
        assert out.endswith(f"{last}\n")


def test_what_learns_from_all_images_is_made_again_where_one_is_fixed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_images(tmp_path / "images", 2)
    (tmp_path / "images/image_0000.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    summary = make(tmp_path / "images", tmp_path / "s.zarr")
    monkeypatch.setattr(StandInSource, "learns_from_all", CamSource.learns_from_all, raising=False)
    report(summary, StandInSource(), {"step": 1, "manifest_path": Path("data_manifest.yaml")})
    out = capsys.readouterr().out
    assert "run the same command with --overwrite, since it learns from all images, or go on without them." in out
    assert "--retry-failed" not in out


def test_classes_that_a_limit_cuts_off_are_not_said_to_be_untagged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_images(tmp_path / "images", 5)
    summary = make(tmp_path / "images", tmp_path / "s.zarr", limit=2)
    assert summary.warnings == (
        "none of the first 2 of 5 images (--limit) is tagged 'c', which others are; leave --limit out before you "
        "train.",
    )
    report(summary, StandInSource(), {"step": 1, "manifest_path": Path("data_manifest.yaml")})
    out = capsys.readouterr().out
    assert "These are 2 of 5 images (--limit); for all of them run the same command with --update and" in out
    few = make(tmp_path / "images", tmp_path / "s.zarr", limit=5, update=True)
    assert (few.left_out, few.warnings) == (0, ())
    (untagged,) = make(tmp_path / "images", tmp_path / "one.zarr", limit=1).warnings
    assert "tagged 'b', 'c', which" in untagged


def test_slow_runs_have_a_rate_too() -> None:
    assert rate(2, 0.5) == "4.0 images/s"
    assert rate(2, 45.0) == "22.5 s an image"
    assert rate(0, 0.0) == "0.0 s an image"


@pytest.mark.wide
def test_a_store_whose_confidences_are_those_of_before_is_left_alone_but_never_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = {"fmwiss": {"clip_size": 0, "vit_size": 96, "templates": "plain", "classes": "compete"}}
    manifest_of_few(tmp_path, drawn=(12, 2), masks=masks).rename(tmp_path / "own.yaml")
    monkeypatch.chdir(tmp_path)
    command = ["generate", "--step", "1", "--manifest", "own.yaml", "--limit", "2", "--out", "s.zarr"]
    with monkeypatch.context() as patch:
        patch.setattr("wilss_masks.sources.fmwiss.confidence_noted", lambda params: {})
        assert CliRunner().invoke(cli, command).exit_code == 0
    again = CliRunner().invoke(cli, command)
    assert again.exit_code == 0, again.output
    assert "nothing to do" in again.stdout
    assert "its confidences are the mean score inside a mask" in again.stderr
    dry = CliRunner().invoke(cli, [*command, "--dry-run"])
    assert "is complete already" in dry.stdout
    refused = CliRunner().invoke(cli, [*command, "--update"])
    assert isinstance(refused.exception, StoreError)
    assert 'confidence_of: "sureness" asked for, null in the store' in str(refused.exception)
    made = CliRunner().invoke(cli, [*command, "--overwrite"])
    assert made.exit_code == 0
    assert "mean score" not in made.stderr
