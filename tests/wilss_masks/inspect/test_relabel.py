"""`fuse`, `tune` and `suggest` on kept features: with the built-in encoders, on few drawings."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from tests.built_in import manifest_of_few
from tests.wilss_masks.kept_features import VALUES, agreement, no_networks
from wilss.data.manifest import Manifest, load_manifest
from wilss.errors import MasksError, ParameterError, StoreError
from wilss.store import MaskStore
from wilss.store.features import image_vectors
from wilss.store.records import records_for
from wilss_masks.commands.fuse import command as fuse_command
from wilss_masks.commands.suggest import command as suggest_command
from wilss_masks.commands.supports import command as supports_command
from wilss_masks.inspect.fuse import fuse
from wilss_masks.inspect.relabel import needs_features, relabel, with_prompts
from wilss_masks.make.generate import generate
from wilss_masks.make.options import Options
from wilss_masks.review import Correction
from wilss_masks.revision.revise import revise
from wilss_masks.sources import SOURCES, BankSource, FmwissSource
from wilss_masks.sources.bank_features import BankEncoders
from wilss_masks.sources.prototypes import PatchEncoder
from wilss_masks.sources.shots import ShotsSource
from wilss_masks.tuning.sample import draw_sample
from wilss_masks.tuning.tune import tune


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("relabel")
    manifest_of_few(folder, drawn=(12, 1), masks={"fmwiss": VALUES})
    (folder / "prompts.yaml").write_text("tree: [leaf, tree]\ncup: ring\nbackground: [pattern, pebbles]\n")
    return folder


@pytest.fixture(scope="module")
def manifest(folder: Path) -> Manifest:
    return load_manifest(folder / "data_manifest.yaml")


@pytest.fixture(scope="module")
def kept(folder: Path, manifest: Manifest) -> MaskStore:
    return made(manifest, folder / "kept.zarr", keep_features=True)


@pytest.fixture(name="no_networks")
def _no_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    no_networks(monkeypatch)


def made(manifest: Manifest, out: Path, values: Any = MappingProxyType({}), **options: Any) -> MaskStore:
    source = FmwissSource.from_manifest(manifest, 1, values)
    generate(manifest, step=1, source=source, out=out, options=Options(device="cpu", **options))
    return MaskStore.open(out)


def test_prompts_of_a_file_take_the_place_of_the_manifests(folder: Path, manifest: Manifest) -> None:
    changed = with_prompts(manifest, folder / "prompts.yaml")
    assert changed.prompts[16] == ("leaf", "tree")
    assert changed.prompts[20] == ("ring",)
    assert changed.prompts[17] == manifest.prompts[17]
    assert changed.background_prompts == ("pattern", "pebbles")
    assert {16, 20} <= changed.written_prompts


@pytest.mark.parametrize("text", ["", "- tree", "tree: 3", "tree: []", "treee: [leaf]", "tree: [leaf", "tree: ['']"])
def test_a_file_of_no_prompts_is_refused(tmp_path: Path, manifest: Manifest, text: str) -> None:
    path = tmp_path / "prompts.yaml"
    path.write_text(text)
    with pytest.raises(ParameterError, match="prompts"):
        with_prompts(manifest, path)
    with pytest.raises(ParameterError, match="cannot be read"):
        with_prompts(manifest, tmp_path / "none.yaml")


def test_fuse_with_prompts_is_what_generate_makes_of_them(
    tmp_path: Path, folder: Path, manifest: Manifest, kept: MaskStore, request: pytest.FixtureRequest
) -> None:
    changed = with_prompts(manifest, folder / "prompts.yaml")
    expected = made(changed, tmp_path / "images.zarr", {"background": "margin"})
    request.getfixturevalue("no_networks")
    arguments = [str(kept.path), "--manifest", str(manifest.path), "--set", f"prompts={folder / 'prompts.yaml'}"]
    arguments += ["--set", "background=margin", "--out", str(tmp_path / "words.zarr")]
    result = CliRunner().invoke(fuse_command, arguments)
    assert result.exit_code == 0, result.output
    assert "from features" in result.stdout
    found = MaskStore.open(tmp_path / "words.zarr")
    assert agreement(found, expected) > 0.98
    assert found.attributes["prompts_sha256"] == expected.attributes["prompts_sha256"]
    assert found.attributes["parameters"] == expected.attributes["parameters"]
    assert CliRunner().invoke(fuse_command, arguments).exit_code == 1  # it is there already
    assert CliRunner().invoke(fuse_command, [*arguments, "--overwrite"]).exit_code == 0


def test_what_looks_at_images_is_refused(tmp_path: Path, manifest: Manifest, kept: MaskStore) -> None:
    assert needs_features(kept, {"threshold": "0.4"})  # it keeps no maps
    with pytest.raises(StoreError, match=r"vit\.size: 128 asked for, 96 in the store"):
        relabel(kept, tmp_path / "no.zarr", {"vit_size": "128"}, manifest)
    with pytest.raises(StoreError, match="give another --out"):
        relabel(kept, kept.path, {"power": "2"}, manifest, overwrite=True)
    plain = made(manifest, tmp_path / "plain.zarr", limit=1)
    assert not needs_features(plain, {"power": "2"})


@pytest.mark.usefixtures("no_networks")
def test_an_image_whose_features_are_damaged_fails_alone(tmp_path: Path, manifest: Manifest, kept: MaskStore) -> None:
    damaged = Path(shutil.copytree(str(kept.path), tmp_path / "kept.zarr"))
    (shard,) = (path for path in (damaged / "clip_features/c").rglob("*") if path.is_file())
    with shard.open("r+b") as file:
        file.write(b"damaged!")
    summary = relabel(MaskStore.open(damaged), tmp_path / "out.zarr", {"power": "2"}, manifest)
    assert list(summary.failed) == [kept.image_ids[0]]
    assert "'clip_features' cannot be read" in summary.failed[kept.image_ids[0]]
    assert summary.done == len(kept.image_ids) - 1


def test_damaged_features_stop_the_bank_so_that_none_without_them_is_kept(
    tmp_path: Path, manifest: Manifest, kept: MaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WILSS_CACHE", str(tmp_path / "cache"))
    damaged = Path(shutil.copytree(str(kept.path), tmp_path / "kept.zarr"))
    (shard,) = (path for path in (damaged / "clip_features/c").rglob("*") if path.is_file())
    with shard.open("r+b") as file:
        file.write(b"damaged!")
    values = {"store": str(kept.path), "features": "clip", "clip_size": 0, "vit_size": 96}
    source = BankSource.from_manifest(manifest, 1, values).with_features_from([damaged])
    with pytest.raises(MasksError, match="'clip_features' cannot be read"):
        source.prepare("cpu")
    assert not [*(tmp_path / "cache").rglob("*.bank")]


def test_images_of_another_manifest_are_not_taken_for_new_ones(tmp_path: Path, kept: MaskStore) -> None:
    other = load_manifest(manifest_of_few(tmp_path, drawn=(6, 7), masks={"fmwiss": VALUES}))
    with pytest.raises(StoreError, match="made from other data"):
        relabel(kept, tmp_path / "no.zarr", {"power": "2"}, other)
    assert not (tmp_path / "no.zarr").exists()


def test_images_that_came_with_a_step_are_not_masked_as_well(tmp_path: Path, folder: Path, kept: MaskStore) -> None:
    content = yaml.safe_load((folder / "data_manifest.yaml").read_text(encoding="utf-8"))
    del content["protocol"]
    content["names"][21] = "anchor"
    steps = [{"classes": [*range(1, 16)]}, {"classes": [*range(16, 21)]}, {"classes": [21]}]
    (folder / "grown.yaml").write_text(yaml.safe_dump({**content, "steps": steps}), encoding="utf-8")
    lists = folder / "shapes/ImageSets/Main"
    nobody = [f"{line.split()[0]} -1\n" for line in (lists / "cup_train.txt").read_text().splitlines()]
    (lists / "anchor_train.txt").write_text("".join(nobody))
    manifest = load_manifest(folder / "grown.yaml")
    assert len(records_for(kept, manifest)) >= 1, "what makes nothing again takes it"
    with pytest.raises(StoreError, match="made from other data .*manifest digest"):
        relabel(kept, tmp_path / "no.zarr", {"power": "2"}, manifest)
    with pytest.raises(StoreError, match="made from other data .*manifest digest"):
        BankSource.from_manifest(manifest, 1, {"store": str(kept.path)})


@pytest.mark.few(1)
@pytest.mark.parametrize("features", ["clip", "keys"])
def test_a_second_pass_over_features(
    tmp_path: Path, manifest: Manifest, kept: MaskStore, features: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WILSS_CACHE", str(tmp_path / "cache"))
    values = {"store": str(kept.path), "features": features, "clip_size": 0, "vit_size": 96}
    source, options = BankSource.from_manifest(manifest, 1, values), Options(device="cpu")
    generate(manifest, step=1, source=source, out=tmp_path / "images.zarr", options=options)
    tokens = BankSource.from_manifest(manifest, 1, {**values, "features": "tokens"})
    with pytest.raises(StoreError, match="vit: tokens of its last block asked for, not in the store"):
        tokens.with_features_from([kept.path])
    monkeypatch.setattr(BankEncoders, "load_networks", lambda *_: pytest.fail("an image was to be encoded"))
    out = tmp_path / "features.zarr"
    generate(manifest, step=1, source=source, out=out, options=options, features_from=[kept.path])
    found = MaskStore.open(out)
    assert agreement(found, MaskStore.open(tmp_path / "images.zarr")) > 0.97
    assert found.attributes["features_from"] == [kept.digest]


@pytest.mark.wide
def test_tokens_are_kept_for_a_second_pass(tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WILSS_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "kept.zarr"
    store = made(manifest, out, keep_features=True, feature_parts=("tokens",), feature_dims=256)
    assert store.layout.features[1].notes["parts"] == ["queries", "keys", "tokens"]
    assert made(manifest, out).digest == store.digest  # the parts are said once
    values = {"store": str(out), "clip_size": 0, "vit_size": 96}
    source, options = BankSource.from_manifest(manifest, 1, {**values, "features": "tokens"}), Options(device="cpu")
    generate(manifest, step=1, source=source, out=tmp_path / "images.zarr", options=options)
    monkeypatch.setattr(BankEncoders, "load_networks", lambda *_: pytest.fail("an image was to be encoded"))
    found = tmp_path / "features.zarr"
    generate(manifest, step=1, source=source, out=found, options=options, features_from=[out])
    assert agreement(MaskStore.open(found), MaskStore.open(tmp_path / "images.zarr")) > 0.97


@pytest.mark.wide
@pytest.mark.parametrize("name", ["panet", "insid3"])
def test_few_shots_over_features(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Supports go through the network, images of which there are features do not."""
    shots = load_manifest(manifest_of_few(tmp_path, drawn=(32, 1), masks={"fmwiss": VALUES}))
    drawn = ["draw", "--step", "1", "--kind", "mask", "--shots", "1", "--out", str(tmp_path / "supports"), "--fewer"]
    result = CliRunner().invoke(supports_command, [*drawn, "--manifest", str(shots.path)])
    assert result.exit_code == 0, result.output
    store = made(shots, tmp_path / "kept.zarr", keep_features=True, feature_parts=("tokens",), feature_dims=256)
    values = {"supports": str(tmp_path / "supports"), "vit_size": 96, "keep_masks": False}
    source, options = SOURCES[name].from_manifest(shots, 1, values), Options(device="cpu")
    generate(shots, step=1, source=source, out=tmp_path / "images.zarr", options=options)
    read, load = [], PatchEncoder.load
    monkeypatch.setattr(PatchEncoder, "load", lambda self, path: read.append(path) or load(self, path))
    out = tmp_path / "features.zarr"
    generate(shots, step=1, source=source, out=out, options=options, features_from=[store.path])
    assert len(read) <= 5  # the supports
    found = MaskStore.open(out)
    assert agreement(found, MaskStore.open(tmp_path / "images.zarr")) > 0.97
    assert found.attributes["features_from"] == [store.digest]
    smaller = SOURCES[name].from_manifest(shots, 1, {**values, "vit_size": 64})
    assert isinstance(smaller, ShotsSource)
    with pytest.raises(StoreError, match=r"vit\.size"):
        smaller.with_features_from([store.path])


@pytest.mark.usefixtures("no_networks")
def test_tune_searches_over_features(
    tmp_path: Path, manifest: Manifest, kept: MaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wilss_masks.tuning.settings.THRESHOLDS", (0.4,))  # a search of seconds
    monkeypatch.setattr("wilss_masks.tuning.settings.KEEPS", (("std", 1.0),))
    monkeypatch.setattr("wilss_masks.tuning.settings.BACKGROUNDS", ("minmax",))
    monkeypatch.setattr("wilss_masks.tuning.tune.levers", lambda words: ())
    sample = draw_sample(manifest, 1, count=3)
    tuning = tune(manifest, 1, sample, device="cpu", folder=tmp_path / "scratch", features_from=[kept.path])
    assert tuning.found.judged == len(sample.records)
    assert tuning.present.score > 0


def test_suggestions_are_spread_over_features(tmp_path: Path, manifest: Manifest, kept: MaskStore) -> None:
    vectors = image_vectors(kept)
    assert vectors is not None
    assert vectors.shape == (len(kept.image_ids), 128)
    assert (np.linalg.norm(vectors, axis=1) > 0).all()
    np.save(tmp_path / "vectors.npy", vectors)
    asked = [str(kept.path), "--budget", "3"]
    by_store = CliRunner().invoke(suggest_command, asked).stdout
    assert by_store == CliRunner().invoke(suggest_command, [*asked, "--features", str(tmp_path / "vectors.npy")]).stdout
    assert image_vectors(made(manifest, tmp_path / "plain.zarr", limit=1)) is None


def test_fused_and_revised_stores_have_the_features_still(tmp_path: Path, manifest: Manifest) -> None:
    both = made(manifest, tmp_path / "both.zarr", keep_features=True, keep_scores=True, shard_size=2)
    assert not needs_features(both, {"keep_amount": "0.5"})
    assert needs_features(both, {"keep_amount": "0.5", "regions": "patches"})
    patches = {"keep_amount": "0.5", "regions": "patches"}
    relabel(both, tmp_path / "patches.zarr", patches, manifest)
    by_images = made(manifest, tmp_path / "by_images.zarr", {**patches, "keep_amount": 0.5})
    assert agreement(MaskStore.open(tmp_path / "patches.zarr"), by_images) > 0.95
    fused = fuse(both, tmp_path / "fused.zarr", {"keep_amount": 0.5}, manifest=manifest)
    name = both.image_ids[0]
    tagged = int(np.flatnonzero(both.vector("tags")[0])[0])
    mask = np.zeros((int(both.vector("height")[0]), int(both.vector("width")[0])), np.bool_)
    mask[:9, :9] = True
    said = {"verdict": "corrected", "author": "me", "origin": "test", "at": datetime.now(UTC)}
    drawn = Correction(image_id=name, category=both.category_ids[tagged], mask=mask, **said)  # type: ignore[arg-type]
    revised = revise(both, tmp_path / "revised.zarr", corrections={"by hand": [drawn]}).store
    for store in (fused, revised):
        assert not list(store.verify())
        for array in ("clip_features", "clip_scale", "vit_features", "vit_scale"):
            for image in both.image_ids:
                np.testing.assert_array_equal(store.plane(array, image), both.plane(array, image))
        np.testing.assert_array_equal(store.vector("vit_basis"), both.vector("vit_basis"))
    again = tmp_path / "again.zarr"
    relabel(fused, again, {"power": "2"}, manifest)
    assert (
        agreement(MaskStore.open(again), made(manifest, tmp_path / "images.zarr", {"power": 2, "keep_amount": 0.5}))
        > 0.98
    )
    with pytest.raises(StoreError, match="people judged"):
        relabel(revised, tmp_path / "no.zarr", {"power": "2"}, manifest)
