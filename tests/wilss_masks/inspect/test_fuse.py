"""`fuse`: the very bytes that `generate` would have written, and nothing that looks like more than it is."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from tests.paths import on_disk
from tests.wilss_masks.stores import UNTAGGED, files_of, make_annotation_store, make_manifest, make_store
from wilss.data.contents import content_of
from wilss.data.images import read_image
from wilss.digests import digest_of_file
from wilss.errors import EncoderError, ImageError, ParameterError, StoreError
from wilss.store import MaskStore, Status, shows_none, write_shard
from wilss_masks.commands.fuse import command
from wilss_masks.inspect.evaluate import evaluate
from wilss_masks.inspect.fuse import fuse, new_params, newly_failed, region_warnings
from wilss_masks.inspect.kept_scores import KeptReader
from wilss_masks.inspect.pictures import StagePictures
from wilss_masks.sources.cam.params import CutParams
from wilss_masks.sources.fmwiss_params import FmwissParams
from wilss_masks.stages.chain import stage_picture
from wilss_masks.stages.unsure import sureness_inside

OTHER: dict[str, Any] = {"fusion": "intersection", "keep": "std", "keep_amount": 0.5, "threshold": 0.6}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> MaskStore:
    return make_store(tmp_path_factory.mktemp("s") / "step-1.zarr")


def without_root(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if name != "zarr.json"}


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "values",
    [
        {},
        OTHER,
        {"fusion": "seeds", "keep": "locations"},
        {"fusion": "init"},
        {"classes": "compete", "unsure": 0.6, "calibration": ((0.5, 0.5), (0.9, 0.9))},
    ],
)
def test_every_byte_but_the_attributes_is_what_generate_writes(
    tmp_path: Path, store: MaskStore, values: dict[str, Any]
) -> None:
    fused = fuse(store, tmp_path / "fused.zarr", values)
    generated = make_store(tmp_path / "generated.zarr", params=FmwissParams(**values))
    assert without_root(files_of(on_disk(fused))) == without_root(files_of(on_disk(generated)))
    assert fused.is_complete
    assert not list(fused.verify())


def test_an_image_that_is_known_to_show_none_of_the_classes_stays_one(tmp_path: Path) -> None:
    store = make_store(tmp_path / "step-1.zarr", bare=Status.DONE)
    fused = fuse(store, tmp_path / "fused.zarr", OTHER)
    generated = make_store(tmp_path / "generated.zarr", params=FmwissParams(**OTHER), bare=Status.DONE)
    assert without_root(files_of(on_disk(fused))) == without_root(files_of(on_disk(generated)))
    assert shows_none(fused).tolist() == [row == UNTAGGED for row in range(6)]


def test_attributes_tell_what_was_done(tmp_path: Path, store: MaskStore) -> None:
    fused = fuse(store, tmp_path / "fused.zarr", OTHER)
    told = fused.attributes
    assert told["parameters"] == {**store.attributes["parameters"], **OTHER}
    assert told["fused_from"]["parameters"] == store.attributes["parameters"]
    assert told["fused_from"]["seal"] == store.attributes["seal"]
    assert told["fused_from"]["versions"] == store.attributes["versions"]
    assert told["versions"]["torch"] != store.attributes["versions"]["torch"]
    assert told["records_sha256"] == store.attributes["records_sha256"]
    assert str(tmp_path) not in json.dumps(told)


def test_the_way_makes_no_difference(tmp_path: Path, store: MaskStore) -> None:
    direct = fuse(store, tmp_path / "direct.zarr", OTHER)
    detour = fuse(
        fuse(store, tmp_path / "between.zarr", {"fusion": "seeds", "keep": "locations"}),
        tmp_path / "d.zarr",
        OTHER,
    )
    assert files_of(on_disk(direct)) == files_of(on_disk(detour))


def test_void_comes_and_goes_with_its_parameter(tmp_path: Path, store: MaskStore) -> None:
    sure = fuse(store, tmp_path / "sure.zarr", {"unsure": "0.6"})
    void = sure.read(0).void
    assert void is not None
    assert 0 < void.mean() < 1
    assert not (sure.read(0).masks & void).any()
    back = fuse(sure, tmp_path / "back.zarr", {"unsure": "0"})
    assert back.read(0).void is None
    assert without_root(files_of(on_disk(back))) == without_root(files_of(on_disk(store)))
    assert back.attributes["parameters"] == store.attributes["parameters"]


def test_masks_of_stages_have_confidences_of_their_own(tmp_path: Path, store: MaskStore) -> None:
    fused = fuse(store, tmp_path / "fused.zarr", {"classes": "compete"})
    known = np.isfinite(store.vector("confidence"))
    assert known.sum() == 5
    assert (fused.vector("confidence")[known] != store.vector("confidence")[known]).all()
    for row, image_id in enumerate(store.image_ids):
        if fused.vector("status")[row] == 1:
            maps, masks = KeptReader(store).read(row), torch.from_numpy(fused.read(image_id).masks)
            evidence = maps.evidence((maps.height, maps.width), FmwissParams(classes="compete"))
            expected = sureness_inside(evidence, masks)
            np.testing.assert_array_equal(fused.vector("confidence")[row, list(maps.categories)], expected.numpy())


BOUNDARIES: dict[str, Any] = {"classes": "compete", "boundaries": "guided", "guided_radius": 2, "stage_size": 48}


def test_images_are_read_where_a_stage_looks_at_them(tmp_path: Path, store: MaskStore) -> None:
    """The masks are those of the chain over the kept maps and the picture; a missing image is a failed one."""
    manifest: Any = make_manifest(tmp_path / "images")
    gone, other = (manifest.records_[row] for row in (1, 2))
    gone.path.unlink()
    Image.new("RGB", (5, 7)).save(other.path)
    fused = fuse(store, tmp_path / "fused.zarr", BOUNDARIES, manifest=manifest)
    params, record = FmwissParams(**BOUNDARIES), manifest.records_[0]
    picture = stage_picture(torch.from_numpy(read_image(record.path)).permute(2, 0, 1), params)
    expected = KeptReader(store).read(0).refine(params, picture).fused
    np.testing.assert_array_equal(fused.read(0).masks, expected.numpy())
    assert (fused.read(0).masks != store.read(0).masks).any()
    failed = newly_failed(store, fused)
    assert list(failed) == [gone.image_id, other.image_id]
    assert str(gone.path) in failed[gone.image_id]
    assert "is not the image that the maps of step-1.zarr were made of; bring it back" in failed[other.image_id]
    assert fused.vector("status").tolist() == [1, 2, 2, 2, 3, 1]
    assert not list(fused.verify())


def test_regions_of_a_file_vote_and_what_they_were_is_noted(tmp_path: Path, store: MaskStore) -> None:
    """One proposal over the whole of the first image, none of the others; its maps are judged without a file."""
    manifest: Any = make_manifest(tmp_path / "images")
    record, (height, width) = manifest.records_[0], store.read(0).masks.shape[-2:]
    whole = {"image_id": record.image_id, "segmentation": {"size": [height, width], "counts": [0, height * width]}}
    path = tmp_path / "proposals.json"
    path.write_text(json.dumps([whole]))
    values = {"classes": "compete", "regions": "file", "regions_file": str(path)}
    fused = fuse(store, tmp_path / "fused.zarr", values, manifest=manifest)
    assert all(mask.all() or not mask.any() for mask in fused.read(0).masks)
    assert fused.attributes["regions_sha256"] == digest_of_file(path)
    assert fused.attributes["confidence_of"] == "sureness"
    assert "regions_file" not in fused.attributes["parameters"]
    assert list(evaluate(fused, manifest, ablation=True).scores) == ["stored", "init", "seeds", "intersection", "union"]
    back = fuse(fused, tmp_path / "back.zarr", {"regions": "none", "classes": "overlap"})
    assert "confidence_of" not in back.attributes
    assert files_of(on_disk(back)) == files_of(on_disk(fuse(store, tmp_path / "same.zarr", {})))
    (said,) = region_warnings(store, new_params(store, values))
    assert "no region votes on them" in said
    path.write_text(json.dumps([{**whole, "image_id": "of another data set"}]))
    with pytest.raises(ParameterError, match="has no proposal of any of these images"):
        fuse(store, tmp_path / "none.zarr", values, manifest=manifest)
    assert not (tmp_path / "none.zarr").exists()
    with pytest.raises(ParameterError, match="--set: pamr_rounds=3 changes nothing without boundaries=pamr"):
        fuse(store, tmp_path / "idle.zarr", {"pamr_rounds": 3})
    with pytest.raises(ParameterError, match="say which, e.g. --set regions_file"):
        fuse(fused, tmp_path / "other.zarr", {"threshold": 0.6}, manifest=manifest)


def test_an_image_of_the_same_size_that_changed_is_noticed(tmp_path: Path) -> None:
    manifest: Any = make_manifest(tmp_path / "images")
    noted = [content_of(record, "images") for record in manifest.records_]
    store: Any = make_store(tmp_path / "s.zarr")
    vectors = {"height": store.vector("height"), "width": store.vector("width"), "content": np.array(noted, np.uint64)}
    layout = type("Layout", (), {"has_content": True})
    known: Any = type("Store", (), {"layout": layout, "vector": staticmethod(vectors.get), "image_ids": store.image_ids,
                                    "path": store.path, "step": 1})  # fmt: skip
    records = {record.image_id: record for record in manifest.records_}
    pictures = StagePictures(known, records, FmwissParams(**BOUNDARIES))
    assert pictures(0) is not None
    image = Image.open(manifest.records_[0].path)
    image.putpixel((0, 0), (1, 2, 3))
    image.save(manifest.records_[0].path)
    with pytest.raises(ImageError, match="is not the image that the maps of s.zarr were made of"):
        pictures(0)


def test_a_stage_that_looks_at_images_needs_their_manifest(tmp_path: Path, store: MaskStore) -> None:
    with pytest.raises(StoreError, match="look at the images, of which .* holds none; name its manifest"):
        fuse(store, tmp_path / "fused.zarr", BOUNDARIES)
    other: Any = make_manifest(tmp_path / "images")
    with pytest.raises(StoreError, match="was made from other data"):
        fuse(store, tmp_path / "fused.zarr", BOUNDARIES, manifest=replace(other, digest="f" * 64))
    assert not (tmp_path / "fused.zarr").exists()


def test_threads_make_no_difference(tmp_path: Path, store: MaskStore) -> None:
    one, many = (fuse(store, tmp_path / f"{n}.zarr", OTHER, threads=n) for n in (1, 7))
    assert files_of(on_disk(one)) == files_of(on_disk(many))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"draws": "4"}, "needs a forward pass.*generate --set draws=4"),
        ({"form": "value"}, "needs a forward pass"),
        ({"regions": "sam2"}, "regions=sam2 needs a forward pass, which only `wilss-masks generate` and `bank` make"),
        ({"treshold": "0.4"}, "did you mean threshold"),
        ({"threshold": "4"}, "threshold is 4.0; it must be between 0 and 1"),
        ({"fusion": "xor"}, "choose one of union"),
    ],
)
def test_what_it_cannot_change_is_refused(
    tmp_path: Path, store: MaskStore, values: dict[str, str], sentence: str
) -> None:
    with pytest.raises((EncoderError, ParameterError), match=sentence):
        fuse(store, tmp_path / "fused.zarr", values)
    assert not any(tmp_path.iterdir())


def test_stores_without_maps_are_refused(tmp_path: Path) -> None:
    for made in (make_store(tmp_path / "a.zarr", keep=False), make_annotation_store(tmp_path / "b.zarr")):
        with pytest.raises(StoreError, match="--keep scores"):
            fuse(made, tmp_path / "fused.zarr", {})


def test_nothing_is_replaced_unasked_and_only_stores_at_all(tmp_path: Path, store: MaskStore) -> None:
    out = tmp_path / "fused.zarr"
    first = files_of(on_disk(fuse(store, out, {})))
    with pytest.raises(StoreError, match="--overwrite"):
        fuse(store, out, OTHER)
    assert files_of(out) == first
    assert files_of(on_disk(fuse(store, out, OTHER, overwrite=True))) != first
    with pytest.raises(StoreError, match="is the store to be fused"):
        fuse(store, store.path, OTHER, overwrite=True)
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "chapter.tex").write_text("...")
    with pytest.raises(StoreError, match="not a readable mask store"):
        fuse(store, precious, OTHER, overwrite=True)
    assert (precious / "chapter.tex").exists()


def test_images_whose_maps_are_damaged_fail_and_the_others_are_fused(tmp_path: Path, store: MaskStore) -> None:
    shutil.copytree(on_disk(store), tmp_path / "s.zarr")
    for shard in (path for path in (tmp_path / "s.zarr/score/c/1").rglob("*") if path.is_file()):
        shard.write_bytes(b"damaged")
    words = [str(tmp_path / "s.zarr"), "--out", str(tmp_path / "fused.zarr"), "--set", "threshold=0.6"]
    result = CliRunner().invoke(command, words, catch_exceptions=False)
    assert result.exit_code == 3
    damaged, fused = MaskStore.open(tmp_path / "s.zarr"), MaskStore.open(tmp_path / "fused.zarr")
    whole = fuse(store, tmp_path / "whole.zarr", {"threshold": "0.6"})
    rows = [row for row in damaged.layout.rows(1) if store.vector("status")[row] == 1]
    failed = newly_failed(damaged, fused)
    assert list(failed) == [store.image_ids[row] for row in rows]
    assert all("the array 'score' cannot be read" in why for why in failed.values())
    assert f"{len(store.image_ids) - len(failed)} images fused" in result.stdout
    for row in fused.layout.rows(0):
        if store.vector("status")[row] == 1:
            np.testing.assert_array_equal(fused.read(row).masks, whole.read(row).masks)


def test_a_stop_half_way_leaves_the_old_and_nothing_new(
    tmp_path: Path, store: MaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "fused.zarr"
    first = files_of(on_disk(fuse(store, out, {})))

    def stopped(root: Path, layout: Any, shard: int, images: Any) -> Any:
        if shard == 1:
            raise KeyboardInterrupt
        return write_shard(root, layout, shard, images)

    monkeypatch.setattr("wilss_masks.inspect.fuse.write_shard", stopped)
    for path in (out, tmp_path / "new.zarr"):
        with pytest.raises(KeyboardInterrupt):
            fuse(store, path, OTHER, overwrite=True)
    assert files_of(out) == first
    assert {entry.name for entry in tmp_path.iterdir() if entry.is_dir()} == {"fused.zarr"}


def test_a_killed_fuse_is_swept_by_the_next(tmp_path: Path, store: MaskStore) -> None:
    left_over = tmp_path / "fused.zarr.building"
    left_over.mkdir()
    (left_over / "junk").write_text("half a shard")
    assert not list(fuse(store, tmp_path / "fused.zarr", {}).verify())
    assert not left_over.exists()


def test_a_full_disk_is_a_sentence(tmp_path: Path, store: MaskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("wilss_masks.inspect.fuse.write_shard", full)
    with pytest.raises(StoreError, match=r"No space left on device.*free some space"):
        fuse(store, tmp_path / "fused.zarr", {})


def test_the_command(tmp_path: Path, store: MaskStore) -> None:
    out = tmp_path / "new" / "fused.zarr"
    arguments = [str(store.path), "--out", str(out), "--set", "fusion=intersection", "--set", "threshold=0.6"]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "6 images fused by intersection (keep 0.7 by mass, threshold 0.6)" in result.stdout
    area, before = (s.vector("area") for s in (MaskStore.open(out), store))
    assert (area <= before).all()
    assert (area < before).any()
    np.testing.assert_array_equal(MaskStore.open(out).vector("fallback"), store.vector("fallback"))


def test_the_command_names_what_can_be_done_next(
    tmp_path: Path, store: MaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First what needs no pixel labels; and to say so no manifest is opened, whose data might be drawn for it."""
    monkeypatch.setattr("wilss.data.manifest.load_manifest", lambda path: pytest.fail("it is opened"))
    out = tmp_path / "a.zarr"
    words = [str(store.path), "--out", str(out), "--set", "classes=compete"]
    result = CliRunner().invoke(command, words, catch_exceptions=False)
    assert result.stdout.splitlines()[-2:] == [
        f"Next: wilss-masks sheet {out}",
        f"      wilss-masks evaluate {out}  # where there are pixel labels",
    ]
    assert "of cam: cut" in " ".join(CliRunner().invoke(command, ["--help"]).stdout.split())


def test_parameters_that_are_idle_are_not_told() -> None:
    from wilss_masks.commands.fuse import _stages

    assert _stages(CutParams(regions="slic", region_size=100)) == ", regions slic, region_size 100"
    assert _stages(CutParams(region_size=100, boundaries="pamr", guided_radius=4)) == ", boundaries pamr"
