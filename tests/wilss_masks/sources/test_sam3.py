"""The source `sam3`: what it keeps is what the network says, its masks follow from that, in any store the same."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.paths import on_disk
from tests.wilss.data import data_on_disk as disk
from tests.wilss.models.proposers import tiny_networks
from wilss.data.images import read_image, to_pixels
from wilss.data.manifest import Manifest, load_manifest
from wilss.digests import version_of
from wilss.equations.sam3 import lead, tag_score
from wilss.errors import ParameterError, StoreError, WeightsError
from wilss.models.proposers.folders import grid_of_masks, read_folder
from wilss.models.proposers.words import WordNetwork
from wilss.store import MaskStore
from wilss_masks.inspect.fuse import fuse
from wilss_masks.make.cluster import ClusterOptions
from wilss_masks.make.generate import generate
from wilss_masks.make.options import Options
from wilss_masks.sources.base import ImageTask
from wilss_masks.sources.sam3 import Sam3Params, Sam3Source
from wilss_masks.sources.sam3_proposer import evidence_of, staged_of
from wilss_masks.sources.section import faults

IMAGES = {"im0": [1], "im1": [2], "im2": [1, 2], "im3": [1, 2, 3], "im4": [3], "im5": [2, 1]}
SIZES = ((24, 32), (27, 30), (40, 24))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images, one of them grey, and a network with random weights whose answers differ from place to place."""
    root = tmp_path_factory.mktemp("pets")
    disk.voc(root / "data", IMAGES)
    for number, name in enumerate(IMAGES):
        disk.image(root / f"data/JPEGImages/{name}.jpg", SIZES[number % 3], seed=number)
    Image.open(root / "data/JPEGImages/im4.jpg").convert("L").save(root / "data/JPEGImages/im4.jpg")
    disk.manifest(root, splits={"train": "train"}, steps=[{"classes": [1, 2, 3], "supervision": "tags"}])
    folder = tiny_networks.sam3(root / "sam3")
    tensors = load_file(folder / "model.safetensors")
    for name in ("mask_decoder.semantic_projection.weight", "mask_decoder.instance_projection.weight"):
        tensors[name] *= 6
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return root


def manifest(root: Path) -> Manifest:
    return load_manifest(root / "data_manifest.yaml")


def source(root: Path, **values: Any) -> Sam3Source:
    return Sam3Source.from_manifest(manifest(root), 0, {"model": str(root / "sam3"), "least": 0.2, **values})


def made(root: Path, out: Path, options: Options | None = None, **values: Any) -> MaskStore:
    options = options or Options(device="cpu", keep_scores=True, batch_size=2, shard_size=2)
    generate(manifest(root), step=0, source=source(root, **values), out=out, options=options)
    return MaskStore.open(out)


@pytest.fixture(scope="module")
def store(root: Path, tmp_path_factory: pytest.TempPathFactory) -> MaskStore:
    return made(root, tmp_path_factory.mktemp("stores") / "store.zarr")


def test_kept_scores_are_the_networks_and_masks_follow_from_them(root: Path, store: MaskStore) -> None:
    """The network is asked for one image and one word at a time, as its own documentation does."""
    from transformers import Sam3Processor

    network = WordNetwork(read_folder(str(root / "sam3"), "words", "model"), "cpu").network
    processor = Sam3Processor.from_pretrained(str(root / "sam3"))
    areas = []
    for row, (name, tags) in enumerate(IMAGES.items()):
        image = torch.from_numpy(read_image(root / f"data/JPEGImages/{name}.jpg")).permute(2, 0, 1)
        kept = []
        for identity in sorted(tags):
            plane = store.plane("score", row, identity - 1)
            with torch.inference_mode():
                said = network(**processor(images=[image], text=[disk.CLASSES[identity]], return_tensors="pt"))
                scores = said.pred_logits[0].sigmoid() * said.presence_logits[0].sigmoid()
                expected = tag_score(said.pred_masks[0], scores, said.semantic_seg[0, 0], 0.2)
            np.testing.assert_allclose(plane, expected.half(), atol=3e-3)
            kept.append(torch.from_numpy(plane.copy()))
        pixels = to_pixels(torch.stack(kept).float(), *image.shape[1:])
        masks = store.read(row).masks
        assert np.array_equal(masks, (lead(pixels) >= 1).numpy())
        assert masks.sum(axis=0).max() <= 1
        areas += masks.mean(axis=(1, 2)).tolist()
    assert min(areas) < max(areas)
    assert max(areas) > 0.05
    assert not list(store.verify())


def test_a_tag_alone_is_cut_lower_than_beside_a_rival(root: Path, tmp_path: Path, store: MaskStore) -> None:
    overlapping = made(root, tmp_path / "overlap.zarr", classes="overlap")
    alone, beside = (one.read("im3").masks for one in (overlapping, store))
    assert (alone | beside == alone).all()
    assert alone.sum() > beside.sum()
    assert np.array_equal(overlapping.read("im0").masks, store.read("im0").masks)


def test_a_run_that_was_stopped_gives_the_same_bytes(root: Path, tmp_path: Path, store: MaskStore) -> None:
    def stop(done: int, total: int) -> None:
        if 0 < done < total:
            raise KeyboardInterrupt

    out, options = tmp_path / "again.zarr", Options(device="cpu", keep_scores=True, batch_size=2, shard_size=2)
    with pytest.raises(KeyboardInterrupt):
        generate(manifest(root), step=0, source=source(root), out=out, options=options, progress=stop)
    assert MaskStore.open(out, allow_partial=True).pending_shards()
    assert made(root, out).vector("shard_digest").tolist() == store.vector("shard_digest").tolist()


def test_a_store_of_before_does_not_say_which_transformers_and_that_is_told(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, options, identity = tmp_path / "old.zarr", Options(device="cpu"), Sam3Source.identity
    with monkeypatch.context() as patch:
        patch.setattr(Sam3Source, "identity", lambda self: dict(list(identity(self).items())[:-1]))
        summary = generate(manifest(root), step=0, source=source(root), out=out, options=options)
    assert "networks_library" not in MaskStore.open(out).attributes
    assert not any("transformers" in warning for warning in summary.warnings)
    again = generate(manifest(root), step=0, source=source(root), out=out, options=options)
    assert again.made_now == 0
    assert any("did not note the version of transformers" in warning for warning in again.warnings)


def test_by_another_transformers_it_is_another_store(
    root: Path, store: MaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wilss_masks.sources.sam3.version_of", lambda name: "4")
    with pytest.raises(StoreError, match='networks_library: "transformers 4" asked for'):
        made(root, on_disk(store))


@pytest.mark.long
def test_two_workers_give_the_same_bytes(root: Path, tmp_path: Path, store: MaskStore) -> None:
    cluster = ClusterOptions(workers=2)
    options = Options(device="cpu", keep_scores=True, batch_size=2, shard_size=2, cluster=cluster)
    other = made(root, tmp_path / "workers.zarr", options)
    assert other.vector("shard_digest").tolist() == store.vector("shard_digest").tolist()


@pytest.mark.wide
def test_later_stages_apply(root: Path, tmp_path: Path, store: MaskStore) -> None:
    moved = made(root, tmp_path / "moved.zarr", boundaries="pamr", pamr_rounds=3, stage_size=24)
    assert any((moved.read(name).masks != store.read(name).masks).any() for name in IMAGES)
    assert all(moved.read(name).masks.sum(axis=0).max() <= 1 for name in IMAGES)
    unsure = made(root, tmp_path / "unsure.zarr", unsure=0.55)
    some = False
    for name in IMAGES:
        first, second = store.read(name), unsure.read(name)
        assert second.void is not None
        assert np.array_equal(second.masks, first.masks & ~second.void)
        some |= bool(second.void.any())
    assert some


@pytest.mark.few(1)
@pytest.mark.parametrize("kind", ["sam2", "eomt", "sam3"])
def test_regions_of_a_network_vote(kind: str, root: Path, tmp_path: Path, store: MaskStore) -> None:
    make = {"sam2": tiny_networks.sam2, "eomt": tiny_networks.eomt, "sam3": tiny_networks.sam3}[kind]
    folder = str(make(tmp_path / kind))
    asked: dict[str, Any] = {"regions": kind, "regions_model": folder, "regions_score": 0.01, "stage_size": 32}
    asked |= {"regions_points": 4} if kind == "sam2" else {}
    voted = made(root, tmp_path / "voted.zarr", **asked)
    again = made(root, tmp_path / "again.zarr", **asked)
    assert voted.vector("shard_digest").tolist() == again.vector("shard_digest").tolist()
    assert any((voted.read(name).masks != store.read(name).masks).any() for name in IMAGES)
    assert set(voted.attributes["parameters"]) >= {*asked} - {"regions_model"}
    assert "regions_model" not in voted.attributes["parameters"]
    assert voted.attributes["regions_sha256"] != source(root).folder.sha256


def test_regions_of_a_file_vote(root: Path, tmp_path: Path, store: MaskStore) -> None:
    boxes = [{"image_id": name, "bbox": [0, 0, 20, 20], "segmentation": [[0, 0, 20, 0, 20, 20, 0, 20]], "score": 0.9}
             for name in IMAGES]  # fmt: skip
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    voted = made(root, tmp_path / "voted.zarr", regions="file", regions_file=str(tmp_path / "boxes.json"))
    corners = [(one.read("im0").masks[0, :20, :20].mean(), one.read("im0").masks[0, 20:]) for one in (voted, store)]
    assert corners[0][0] in (0, 1)
    assert 0 < corners[1][0] < 1
    assert np.array_equal(corners[0][1], corners[1][1])


def test_a_region_network_that_is_not_there_is_refused_with_the_plan(root: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"regions_model names no folder; write regions_model=FOLDER, an EoMT"):
        source(root, regions="eomt").identity()
    with pytest.raises(WeightsError, match=r"is of sam3, and regions_model wants a SAM 2"):
        made(root, tmp_path / "store.zarr", regions="sam2", regions_model=str(root / "sam3"))
    assert not (tmp_path / "store.zarr").exists()


def test_identity_follows_network_and_words_and_not_the_place(root: Path, tmp_path: Path) -> None:
    told = source(root).identity()
    assert told["parameters"] == {"names": "first", "least": 0.2, "threshold": 0.4, "precision": "auto"}
    shutil.copytree(root / "sam3", tmp_path / "elsewhere")
    assert source(root, model=str(tmp_path / "elsewhere")).identity() == told
    assert source(root, classes="overlap").identity() != told
    assert told["networks_library"] == f"transformers {version_of('transformers')}"
    config = tmp_path / "elsewhere/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "added": 1}))
    assert source(root, model=str(tmp_path / "elsewhere")).identity()["models"] != told["models"]


def test_all_names_of_a_class_count_where_they_are_asked(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "pets")
    names = {0: "background", 1: {"name": "cat", "prompts": ["dog", "cat"]}, 2: "dog", 3: "horse"}
    disk.manifest(
        tmp_path / "pets", splits={"train": "train"}, names=names, steps=[{"classes": [1, 2, 3], "supervision": "tags"}]
    )
    assert source(tmp_path / "pets").classes[0] == ("cat", ("dog",))
    both = source(tmp_path / "pets", names="all")
    assert both.classes[0] == ("cat", ("dog", "cat"))
    assert list(both.places(1)) == [2]
    stores = {
        names: made(tmp_path / "pets", tmp_path / f"{names}.zarr", names=names).plane("score", 0, 0)
        for names in ("first", "all")
    }
    cat = made(root, tmp_path / "cat.zarr").plane("score", 0, 0)
    assert np.array_equal(stores["all"], np.maximum(stores["first"], cat))
    assert (stores["all"] != stores["first"]).any()


def test_a_folder_of_the_manifest_is_seen_from_it_and_checked(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "pets")
    step = [{"classes": [1, 2, 3], "supervision": "tags"}]

    def with_masks(**values: Any) -> Manifest:
        path = disk.manifest(tmp_path / "pets", splits={"train": "train"}, steps=step, masks={"sam3": values})
        return load_manifest(path)

    assert Sam3Source.from_manifest(with_masks(model="sam3"), 0).folder.path == tmp_path / "pets/sam3"
    assert not list(faults(with_masks(model="sam3"), weights=True))
    assert not list(faults(with_masks(threshold=0.5), weights=True))
    (fault,) = faults(with_masks(model="sam4"), weights=True)
    assert "masks.sam3: " in fault
    assert "sam4 does not exist; name in model the folder of a SAM 3" in fault
    assert not list(faults(with_masks(model="sam4"), weights=False))
    (fault,) = faults(with_masks(regions="sam2", regions_model="nowhere"), weights=True)
    assert "nowhere does not exist; name in regions_model the folder of a SAM 2" in fault
    assert not list(faults(with_masks(model="sam3", regions="sam3", regions_model="sam3"), weights=True))
    (fault,) = faults(with_masks(model="sam3", regions="patches"), weights=False)
    assert "regions=patches are of the ViT's keys" in fault
    (tmp_path / "pets/boxes.json").write_text("[]")
    assert not list(faults(with_masks(model="sam3", regions="file", regions_file="boxes.json"), weights=True))
    named = {"regions": "file", "regions_file": "boxes.json", "model": str(tmp_path / "pets/sam3")}
    found = Sam3Source.from_manifest(with_masks(), 0, named).params
    assert found.regions_file == "boxes.json"  # seen from where the command is given
    (fault,) = faults(with_masks(modl="sam3"), weights=True)
    assert "no parameter 'modl'; did you mean model?" in fault


def test_what_cannot_be_asked_is_refused(root: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"^model names no folder; write model=FOLDER, a SAM 3 as transformers saves"
    ):
        Sam3Source.from_manifest(manifest(root), 0)
    for threshold in (0, 1.5):
        with pytest.raises(ParameterError, match=r"threshold is .*; it must be above 0 and at most 1"):
            source(root, threshold=threshold)


def test_its_store_is_not_fused_as_one_of_fmwiss(store: MaskStore, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"was made by sam3, whose masks are not fused"):
        fuse(store, tmp_path / "fused.zarr", {})


def test_bands_of_a_large_photograph_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    score = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0)).half()
    for classes in ("compete", "overlap"):
        params = Sam3Params(classes=classes)
        whole = evidence_of(score, (31, 45), params)
        monkeypatch.setattr("wilss_masks.sources.sam3_proposer._PIXELS_AT_ONCE", 100)
        assert torch.equal(evidence_of(score, (31, 45), params), whole)
        monkeypatch.undo()
    assert staged_of(score, 31, 45, Sam3Params()).masks.shape == (2, 31, 45)


def test_masks_of_another_grid_than_the_config_says_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert grid_of_masks(source(root).folder) == (16, 16)
    proposer = source(root).prepare("cpu").open("cpu", 1)
    monkeypatch.setattr("wilss_masks.sources.sam3.grid_of_masks", lambda folder: (18, 18))
    wrong = source(root).prepare("cpu")
    proposer.source = wrong
    record = manifest(root).records(0, "train").records[0]
    task = ImageTask(record=record, height=24, width=32, categories=(0,))
    with pytest.raises(WeightsError, match=r"makes masks of 16 x 16, which its config.json does not say"):
        proposer.propose([task], [proposer.load(task)])
