"""Features that a store keeps, and masks made of them: with the built-in encoders, on few drawings."""

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

from tests.built_in import manifest_of_few
from tests.paths import on_disk
from tests.wilss_masks.kept_features import VALUES, agreement, no_networks
from wilss.data.manifest import Manifest, load_manifest
from wilss.errors import ParameterError, StoreError, WilssError
from wilss.models.encoders.vit.encoder import LastBlock, SeedViT
from wilss.store import MaskStore, MaskStoreWriter, Status
from wilss_masks.commands.generate import command as generate_command
from wilss_masks.commands.info import command as info_command
from wilss_masks.make.generate import generate
from wilss_masks.make.options import Options
from wilss_masks.make.request import plan_for
from wilss_masks.sources import AnnotationSource, FmwissSource

PLAIN = Options(device="cpu", shard_size=2)
KEEP = dataclasses.replace(PLAIN, keep_features=True)
OTHER_PROMPTS = {16: {"name": "tree", "prompts": ["leaf", "tree"]}, 20: {"name": "cup", "prompts": ["ring"]}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("features")
    manifest_of_few(folder, drawn=(12, 1), masks={"fmwiss": VALUES})
    return folder


@pytest.fixture(scope="module")
def manifest(folder: Path) -> Manifest:
    return load_manifest(folder / "data_manifest.yaml")


@pytest.fixture(scope="module")
def kept(folder: Path, manifest: Manifest) -> MaskStore:
    return made(manifest, folder / "kept.zarr", KEEP)


@pytest.fixture(scope="module")
def plain(folder: Path, manifest: Manifest) -> MaskStore:
    return made(manifest, folder / "plain.zarr")


def made(manifest: Manifest, out: Path, options: Options = PLAIN, *features: MaskStore, **values: Any) -> MaskStore:
    source = FmwissSource.from_manifest(manifest, 1, values)
    generate(manifest, step=1, source=source, out=out, options=options, features_from=[one.path for one in features])
    return MaskStore.open(out)


def with_prompts(folder: Path, manifest: Manifest) -> Manifest:
    content = yaml.safe_load(manifest.path.read_text())
    path = folder / "other_prompts.yaml"
    path.write_text(yaml.safe_dump({**content, "names": {**content["names"], **OTHER_PROMPTS}}))
    return load_manifest(path)


def test_features_stand_beside_the_same_masks(kept: MaskStore, plain: MaskStore) -> None:
    assert agreement(kept, plain) == 1
    assert not plain.layout.features
    added = {*kept.attributes} - {*plain.attributes}
    assert added == {"features"}
    assert kept.attributes["keep"] == ["features"]
    clip, vit = kept.layout.features
    assert (clip.dims, clip.width, clip.prefix) == (128, 128, 0)
    assert (vit.dims, vit.width, vit.prefix) == (128, 384, 1)
    assert vit.notes["parts"] == ["queries", "keys"]
    assert not list(kept.verify())


def test_masks_of_features_agree_without_a_look_at_an_image(
    tmp_path: Path, manifest: Manifest, kept: MaskStore, plain: MaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_networks(monkeypatch)
    found = made(manifest, tmp_path / "found.zarr", PLAIN, kept)
    assert agreement(found, plain) > 0.99
    assert found.attributes["features_from"] == [kept.digest]
    assert not list(found.verify())
    with pytest.raises(StoreError, match="features_from: null asked for"):
        made(manifest, tmp_path / "found.zarr")


@pytest.mark.few(1)
@pytest.mark.parametrize("values", [{"affinity": "kk"}, {"background": "margin", "passes": 1}])
def test_other_recipes_and_prompts_need_no_image_either(
    tmp_path: Path, folder: Path, manifest: Manifest, kept: MaskStore, values: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = with_prompts(folder, manifest)
    by_images = made(changed, tmp_path / "images.zarr", PLAIN, **values)
    no_networks(monkeypatch)
    assert agreement(made(changed, tmp_path / "features.zarr", PLAIN, kept, **values), by_images) > 0.98


def test_seeds_that_are_drawn_may_be_others(tmp_path: Path, manifest: Manifest, kept: MaskStore) -> None:
    told: list[str] = []
    source = FmwissSource.from_manifest(manifest, 1, {"preset": "paper", "vit_size": 96, "clip_size": 0})
    out = tmp_path / "drawn.zarr"
    generate(manifest, step=1, source=source, out=out, options=PLAIN, features_from=[kept.path], tell=told.append)
    assert "placing: drawn" in " ".join(told)
    assert MaskStore.open(out).is_complete


@pytest.mark.wide
def test_all_dimensions_of_blocks_and_parts(tmp_path: Path, manifest: Manifest) -> None:
    values = {"attention_blocks": 2, "affinity": "outputs"}
    options = dataclasses.replace(KEEP, feature_dims=2000)
    whole = made(manifest, tmp_path / "whole.zarr", options, **values)
    vit = whole.layout.features[1]
    assert (vit.width, vit.notes["blocks"], vit.notes["parts"]) == (2 * 3 * 192, 2, ["queries", "keys", "outputs"])
    assert vit.dims == vit.width
    assert agreement(made(manifest, tmp_path / "again.zarr", PLAIN, whole, **values), whole) > 0.995
    fewer = made(manifest, tmp_path / "one.zarr", PLAIN, affinity="kk")
    assert agreement(made(manifest, tmp_path / "fewer.zarr", PLAIN, whole, affinity="kk"), fewer) > 0.995


@pytest.mark.wide
def test_images_that_no_store_has_are_encoded_and_told(
    tmp_path: Path, manifest: Manifest, kept: MaskStore, plain: MaskStore
) -> None:
    few = made(manifest, tmp_path / "few.zarr", dataclasses.replace(KEEP, limit=1))
    told: list[str] = []
    generate(
        manifest,
        step=1,
        source=FmwissSource.from_manifest(manifest, 1),
        out=tmp_path / "all.zarr",
        options=dataclasses.replace(PLAIN, batch_size=1),
        features_from=[few.path],
        tell=told.append,
    )
    missing = len(plain.image_ids) - 1
    assert f"{missing} images of {missing + 1} have no features in {few.path}" in told[1]
    found = MaskStore.open(tmp_path / "all.zarr")
    by_images = made(manifest, tmp_path / "images.zarr", dataclasses.replace(PLAIN, batch_size=1))
    for name in plain.image_ids[1:]:
        np.testing.assert_array_equal(found.read(name).masks, by_images.read(name).masks)
    both = made(manifest, tmp_path / "both.zarr", PLAIN, few, kept)
    assert both.attributes["features_from"] == [few.digest, kept.digest]
    assert agreement(both, plain) > 0.99


def test_a_projection_is_fitted_on_numbers_alone(
    tmp_path: Path, manifest: Manifest, kept: MaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image of which a network gives NaN is passed over; its features would be in every direction."""
    last_blocks, calls = SeedViT.last_blocks, list[int]()

    def diverged(self: SeedViT, *arguments: Any) -> tuple[LastBlock, ...]:
        blocks = last_blocks(self, *arguments)
        if not calls:
            blocks[-1].keys[:, :, -1] = float("nan")
        calls.append(1)
        return blocks

    monkeypatch.setattr(SeedViT, "last_blocks", diverged)
    found = made(manifest, tmp_path / "kept.zarr", dataclasses.replace(KEEP, batch_size=1))
    assert len(calls) == 2 * len(kept.image_ids)
    assert np.isfinite(found.vector("vit_basis")).all()
    assert not (found.current_status() == Status.FAILED).any()

    calls.clear()
    with pytest.raises(StoreError, match=r"no image can be decoded and encoded.* without --keep features"):
        made(manifest, tmp_path / "one.zarr", dataclasses.replace(KEEP, limit=1))


def test_steps_whose_lists_overlap_share_features(tmp_path: Path) -> None:
    """The classes one by one, as in 15-1: an image of several is encoded for the first of them."""
    steps = load_manifest(manifest_of_few(tmp_path, drawn=(40, 1), masks={"fmwiss": VALUES}, protocol="15-1"))
    lists = {step: [record.image_id for record in steps.records(step).records] for step in range(1, 6)}
    first, second = max(
        ((a, b) for a in lists for b in lists if a < b), key=lambda pair: len({*lists[pair[0]]} & {*lists[pair[1]]})
    )
    missing = len({*lists[second]} - {*lists[first]})
    assert missing < len(lists[second])
    source = FmwissSource.from_manifest(steps, first)
    generate(steps, step=first, source=source, out=tmp_path / "first.zarr", options=KEEP)
    told: list[str] = []
    for name, more in (("images", ()), ("features", (tmp_path / "first.zarr",))):
        source = FmwissSource.from_manifest(steps, second)
        out = tmp_path / f"{name}.zarr"
        generate(steps, step=second, source=source, out=out, options=PLAIN, features_from=more, tell=told.append)
    assert agreement(MaskStore.open(tmp_path / "features.zarr"), MaskStore.open(tmp_path / "images.zarr")) > 0.98
    assert f"{missing} image" in told[-1] if missing else "no features" not in told[-1]


def test_a_run_that_is_resumed_has_the_same_bytes(tmp_path: Path, manifest: Manifest, kept: MaskStore) -> None:
    again = made(manifest, tmp_path / "again.zarr", KEEP)
    assert again.digest == kept.digest
    writer = MaskStoreWriter(again)
    source = FmwissSource.from_manifest(manifest, 1)
    writer.reopen([0], plan_for(manifest, 1, source, manifest.records(1).records, KEEP).header({}))
    assert made(manifest, tmp_path / "again.zarr", PLAIN).digest == kept.digest  # what is kept is said once


@pytest.mark.wide
def test_a_longer_list_keeps_shards_and_projection(tmp_path: Path, manifest: Manifest, kept: MaskStore) -> None:
    out = tmp_path / "longer.zarr"
    first = made(manifest, out, dataclasses.replace(KEEP, limit=2))
    basis = first.vector("vit_basis")
    grown = made(manifest, out, dataclasses.replace(KEEP, update=True))
    np.testing.assert_array_equal(grown.vector("vit_basis"), basis)
    assert agreement(grown, kept) == 1
    assert not list(grown.verify())
    assert agreement(made(manifest, tmp_path / "of.zarr", PLAIN, grown), kept) > 0.99


@pytest.mark.wide
def test_an_image_that_is_another_now_is_encoded(tmp_path: Path, manifest: Manifest) -> None:
    content = yaml.safe_load(manifest.path.read_text())
    path = tmp_path / "data_manifest.yaml"
    path.write_text(yaml.safe_dump({**content, "generate": {**content["generate"], "train": 12, "val": 1}}))
    own = load_manifest(path)
    store = made(own, tmp_path / "kept.zarr", dataclasses.replace(KEEP, limit=1))
    name = store.image_ids[0]
    record = own.records(1).records[0]
    with Image.open(record.path) as image:
        turned = image.convert("RGB").rotate(180)
    turned.save(record.path)
    one = dataclasses.replace(PLAIN, limit=1)
    found = made(own, tmp_path / "found.zarr", one, store)
    expected = made(own, tmp_path / "expected.zarr", one)
    np.testing.assert_array_equal(found.read(name).masks, expected.read(name).masks)


def test_features_of_something_else_are_refused(tmp_path: Path, manifest: Manifest, kept: MaskStore) -> None:
    def refused(*stores: MaskStore, **values: Any) -> str:
        with pytest.raises((StoreError, ParameterError)) as error:
            made(manifest, tmp_path / "no.zarr", PLAIN, *stores, **values)
        return str(error.value)

    assert "vit.size: 128 asked for, 96 in the store" in refused(kept, vit_size=128)
    assert "clip.window: 48 asked for, 0 in the store" in refused(kept, window=48)
    assert "vit: values of its last block asked for, not in the store" in refused(kept, affinity="vv")
    assert "vit: 2 last blocks asked for, 1 in the store" in refused(kept, attention_blocks=2)
    assert "score: gradcam takes the gradient" in refused(kept, score="gradcam")
    assert "the blocks of CLIP are not among kept features" in refused(kept, clip_attention=True)
    other = manifest.encoders.vit.model_copy(update={"pretrained": "random:3", "file": None, "sha256": None})
    source = dataclasses.replace(FmwissSource.from_manifest(manifest, 1), vit=other)
    with pytest.raises(StoreError, match=r"vit\.sha256: .* asked for, .* in the store"):
        generate(manifest, step=1, source=source, out=tmp_path / "no.zarr", options=PLAIN, features_from=[kept.path])
    assert not (tmp_path / "no.zarr").exists()


def test_what_keeps_no_features_says_why(tmp_path: Path, manifest: Manifest, plain: MaskStore, kept: MaskStore) -> None:
    with pytest.raises(StoreError, match="not made with --keep features"):
        made(manifest, tmp_path / "no.zarr", PLAIN, plain)
    labels = AnnotationSource.from_manifest(manifest, 1)
    with pytest.raises(ParameterError, match="annotation keeps no features: its masks are the pixel labels"):
        generate(manifest, step=1, source=labels, out=tmp_path / "no.zarr", options=KEEP)
    source = FmwissSource.from_manifest(manifest, 1)
    with pytest.raises(ParameterError, match="leave one out"):
        generate(manifest, step=1, source=source, out=tmp_path / "no.zarr", options=KEEP, features_from=[kept.path])


def test_other_dimensions_are_another_store(manifest: Manifest, kept: MaskStore) -> None:
    with pytest.raises(WilssError, match=r"features\.dims: 64 asked for, 128 in the store"):
        made(manifest, on_disk(kept), dataclasses.replace(KEEP, feature_dims=64))


@pytest.mark.parametrize("words", ["--feature-dims 64", "--feature-projection random", "--feature-parts values"])
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_how_features_are_kept_is_not_said_of_none(folder: Path, words: str, more: list[str]) -> None:
    asked = ["--step", "1", "--manifest", str(folder / "data_manifest.yaml"), "--out", str(folder / "none.zarr")]
    result = CliRunner().invoke(generate_command, [*asked, *words.split(), *more])
    assert result.exit_code != 0
    assert "add --keep features" in f"{result.output} {result.exception}"
    assert not (folder / "none.zarr").exists()


@pytest.mark.parametrize("words", ["--source annotation", "--set score=gradcam"])
def test_a_dry_run_refuses_features_that_cannot_be_kept(folder: Path, words: str) -> None:
    asked = ["--step", "1", "--manifest", str(folder / "data_manifest.yaml"), "--out", str(folder / "none.zarr")]
    result = CliRunner().invoke(generate_command, [*asked, "--keep", "features", "--dry-run", *words.split()])
    assert result.exit_code != 0, result.output
    assert isinstance(result.exception, ParameterError)


def test_a_store_is_not_thrown_away_whose_features_are_read(manifest: Manifest, kept: MaskStore) -> None:
    out, digest = on_disk(kept), kept.digest
    with pytest.raises(StoreError, match="whose features are read; give another --out"):
        made(manifest, out, dataclasses.replace(PLAIN, overwrite=True), kept)
    asked = ["--step", "1", "--manifest", str(manifest.path), "--out", str(out), "--features-from", str(out)]
    result = CliRunner().invoke(generate_command, [*asked, "--overwrite", "--dry-run"])
    assert isinstance(result.exception, StoreError)
    assert MaskStore.open(out).digest == digest


def test_random_directions_need_no_sample(tmp_path: Path, manifest: Manifest) -> None:
    options = dataclasses.replace(KEEP, feature_projection="random", limit=2)
    store = made(manifest, tmp_path / "random.zarr", options)
    assert store.attributes["features"]["projection"] == "random"
    assert "sample" not in store.attributes["features"]
    assert not store.vector("vit_mean").any()


def test_the_command_line_and_xarray(tmp_path: Path, folder: Path, kept: MaskStore) -> None:
    xarray = pytest.importorskip("xarray")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = xarray.open_zarr(kept.path)
    assert dataset.clip_features.dims == ("image", "clip_token", "clip_feature")
    assert dataset.vit_features.attrs["heads"] == 3
    assert dataset.vit_features.dtype == np.int8
    out, manifest = tmp_path / "out.zarr", str(folder / "data_manifest.yaml")
    arguments = ["--step", "1", "--manifest", manifest, "--out", str(out), "--features-from", str(kept.path)]
    dry = CliRunner().invoke(generate_command, [*arguments, "--dry-run"])
    assert dry.exit_code == 0, dry.output
    result = CliRunner().invoke(generate_command, [*arguments, "--keep", "scores"])
    assert result.exit_code == 0, result.output
    assert MaskStore.open(out).layout.score_grid is not None
    told = CliRunner().invoke(info_command, [str(kept.path)]).output
    assert "features: clip 128 of 128 numbers" in told
    assert "kB an image" in told
