"""Weights in a bucket: the networks, digests and masks that the same files give on disk, each kind of file."""

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from tests.faults.cli import CLIP, content, data_set, generate
from tests.wilss.models.encoders import tiny
from tests.wilss.models.encoders.clip import test_tips, test_tokenizers
from tests.wilss.models.networks import test_checkpoint
from tests.wilss.models.proposers import tiny_networks
from tests.wilss_train.data.semi.world import PARAMS
from wilss.data.manifest import EncoderSpec, load_manifest
from wilss.disk import ObjectUrl, UrlPath, data_path, folder_at
from wilss.disk.buckets import Bucket
from wilss.disk.urls.kept_files import VARIABLE
from wilss.errors import CheckpointError, ManifestError, ParameterError, StoreError, UnreachableError, WeightsError
from wilss.models.encoders.clip.encoder import open_clip_encoder
from wilss.models.encoders.clip.opening import open_what
from wilss.models.encoders.clip.tokenizer_files import tower_config
from wilss.models.encoders.vit.encoder import open_vit
from wilss.models.encoders.weights import digest_of, sha256_of
from wilss.models.networks.checkpoint import load_segmenter, read_info
from wilss.models.networks.checkpoint_header import MODEL_FILE
from wilss.models.networks.named_backbone import FrozenParams
from wilss.models.networks.pretrained import pinned, pretrained_file
from wilss.models.networks.segmenter import build
from wilss.models.networks.spec import SegmenterSpec
from wilss.models.networks.weights import load_backbone
from wilss.models.proposers.folders import NetworkFolder, read_folder
from wilss.models.proposers.regions import open_regions
from wilss.models.tensor_files import read_tensors
from wilss_masks.commands.encoders import _absolute
from wilss_masks.stages.params import StageParams
from wilss_masks.stages.regions import region_folder, regions_identity

from .proxy import Proxy
from .test_commands import said
from .test_data import uploaded


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WILSS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set whose manifest names two encoders by the files beside it."""
    root = data_set(tmp_path_factory.mktemp("encoders"))
    (root / "clip.json").write_text(json.dumps({"model_cfg": CLIP, "preprocess_cfg": tiny.PREPROCESS}))
    manifest = yaml.safe_load((root / "data_manifest.yaml").read_text())
    for name, spec in load_manifest(root / "data_manifest.yaml").encoders:
        encoder: Any = open_clip_encoder(spec, "cpu") if name == "clip" else open_vit(spec, "cpu")
        tensors = {key: value.clone() for key, value in encoder.network.state_dict().items()}
        save_file(tensors, root / f"{name}.safetensors")
        manifest["encoders"][name].pop("pretrained")
        manifest["encoders"][name]["file"] = f"{name}.safetensors"
    manifest["encoders"]["vit"] |= {"pos_interp": "size"}
    manifest["encoders"]["vit"]["args"] |= {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    (root / "data_manifest.yaml").write_text(yaml.safe_dump(manifest))
    return root


@pytest.fixture
def far(root: Path, bucket: ObjectUrl, tmp_path: Path) -> Path:
    """A data set on disk whose encoders are in a bucket."""
    place = uploaded(root, bucket)
    manifest = yaml.safe_load((root / "data_manifest.yaml").read_text())
    for name, spec in manifest["encoders"].items():
        manifest["encoders"][name] = spec | {key: f"{place}/{spec[key]}" for key in ("file", "config") if key in spec}
    shutil.copytree(root / "data", tmp_path / "far/data")
    (tmp_path / "far/data_manifest.yaml").write_text(yaml.safe_dump(manifest))
    return tmp_path / "far"


def test_masks_are_those_of_the_same_files_on_disk(root: Path, far: Path, proxy: Proxy) -> None:
    for place in (root, far):
        made = generate(place, source="fmwiss")
        assert made.code == 0, made.said
    assert content(root / "out/s.zarr") == content(far / "out/s.zarr")
    read = [path for method, path in proxy.asked if method == "GET" and path.endswith("/clip.safetensors")]
    before = len(read)
    generate(far, "--overwrite", source="fmwiss")
    assert content(root / "out/s.zarr") == content(far / "out/s.zarr")
    assert 0 < before <= 4  # for its digest and for itself, and whether it is the same


def test_check_and_lock_read_them_there(root: Path, far: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = ("--manifest", far / "data_manifest.yaml")
    assert said(capsys, "manifest", "check", *manifest)[0] == 0
    code, text = said(capsys, "encoders", "check", "vit", *manifest)
    assert (code, "its attention is flat" in text) == (1, True), text  # it was opened, and never trained
    assert re.search(rf"sha256 +{sha256_of(root / 'vit.safetensors')}", text)
    assert _absolute("s3://bucket/vit.safetensors") == "s3://bucket/vit.safetensors"  # what --file names
    assert said(capsys, "manifest", "lock", *manifest)[0] == 0
    locked = yaml.safe_load((far / "data_manifest.lock.yaml").read_text())["weights"]
    assert {name: entry["sha256"] for name, entry in locked.items()} == {
        name: sha256_of(root / f"{name}.safetensors") for name in ("clip", "vit")
    }
    spec: Any = load_manifest(far / "data_manifest.yaml").encoders.vit
    folder_at(UrlPath(spec.file).parent).write("vit.safetensors", (root / "clip.safetensors").read_bytes())
    with pytest.raises(WeightsError, match=rf"{spec.file} has sha256 .*but .*lock.yaml says"):
        digest_of(spec)
    code, text = said(capsys, "manifest", "check", *manifest)
    assert (code, f"{spec.file} has sha256" in text) == (2, True), text


def test_what_is_not_there_or_no_place_is_told(root: Path, far: Path, bucket: ObjectUrl) -> None:
    folder_at(bucket).remove("vit.safetensors")
    spec = load_manifest(far / "data_manifest.yaml").encoders.vit
    with pytest.raises(WeightsError, match=rf"{spec.file} does not exist or may not be read; check `file:`"):
        digest_of(spec)
    text = (far / "data_manifest.yaml").read_text()
    (far / "data_manifest.yaml").write_text(text.replace("s3://", "ftp://"))
    with pytest.raises(ManifestError, match=r"encoders\.clip\.\w+.*of a kind that is not known"):
        load_manifest(far / "data_manifest.yaml")


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """One network's tensors in each kind of file, and what failed downloads leave."""
    folder = tmp_path / "kinds"
    folder.mkdir()
    tensors = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.int64)}
    save_file(tensors, folder / "new.safetensors")
    torch.save(tensors, folder / "zip.pth")
    torch.save(tensors, folder / "old.pt", _use_new_zipfile_serialization=False)
    arrays: dict[str, Any] = {name: value.numpy() for name, value in tensors.items()}
    np.savez(folder / "many.npz", **arrays)
    (folder / "page.pth").write_text("<html>moved</html>")
    (folder / "pointer.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    for name in ("new.safetensors", "zip.pth", "many.npz"):
        (folder / f"cut-{name}").write_bytes((folder / name).read_bytes()[:-40])
    return folder


def test_each_kind_of_file_is_read_as_on_disk(written: Path, bucket: ObjectUrl) -> None:
    there = uploaded(written, bucket)
    for name in ("new.safetensors", "zip.pth", "old.pt", "many.npz"):
        assert sha256_of(there / name) == sha256_of(written / name)
        wanted, found = read_tensors(written / name), read_tensors(there / name)
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], value) for key, value in wanted.items())
    for name in ("page.pth", "pointer.safetensors", "cut-new.safetensors", "cut-zip.pth", "cut-many.npz"):
        with pytest.raises(WeightsError) as near:
            read_tensors(written / name)
        sentence = re.escape(str(near.value).partition(" (")[0].replace(str(written), str(there)))
        with pytest.raises(WeightsError, match=rf"^{sentence}"):
            read_tensors(there / name)
    with pytest.raises(WeightsError, match=rf"{there}/none.pth is not there; name a file of weights"):
        read_tensors(there / "none.pth")


@pytest.mark.parametrize("limit", ["10 GB", "0"])
def test_weights_are_fetched_and_kept_piece_by_piece(
    limit: str, written: Path, bucket: ObjectUrl, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = uploaded(written, bucket)
    monkeypatch.setenv(VARIABLE, limit)
    monkeypatch.setattr("wilss.disk.buckets._PIECE", 64)
    monkeypatch.setattr("wilss.disk.urls.kept_files._PIECE", 64)
    monkeypatch.setattr("wilss.disk.urls.fetching.read_kept", lambda url: pytest.fail(f"{url} was read whole"))
    for name in ("new.safetensors", "zip.pth", "old.pt", "many.npz"):
        assert sha256_of(there / name) == sha256_of(written / name)
        proxy.once("truncated", "GET", name)
        wanted, found = read_tensors(written / name), read_tensors(there / name)
        assert all(torch.equal(found[key], value) for key, value in wanted.items())
    folder_at(bucket).write("zip.pth", (written / "old.pt").read_bytes())
    assert sha256_of(there / "zip.pth") == sha256_of(written / "old.pt")


def test_a_checkpoint_that_was_replaced_has_the_header_and_digest_of_its_weights(
    bucket: ObjectUrl, tmp_path: Path
) -> None:
    near = []
    for seed in (1, 2):
        weights = build(test_checkpoint.SPEC, seed=seed).state_dict()
        near.append(test_checkpoint.written(tmp_path / f"{seed}", weights, seed=seed))
    place = data_path(str(bucket))
    for path in near:  # by one process, within the minutes in which it need not ask for images again
        folder_at(bucket).write(MODEL_FILE, path.read_bytes())
        wanted, info = read_info(path), read_info(place)
        assert info == replace(wanted, path=place / MODEL_FILE)
        found = load_segmenter(info).state_dict()
        assert all(torch.equal(found[name], value) for name, value in load_segmenter(wanted).state_dict().items())
    folder_at(bucket).write(MODEL_FILE, near[0].read_bytes()[:-4])
    with pytest.raises(CheckpointError, match=f"^{place / MODEL_FILE} cannot be read"):
        load_segmenter(read_info(place))
    folder_at(bucket).write(MODEL_FILE, b"PK\x03\x04 and so on")
    with pytest.raises(CheckpointError, match=f"^{place / MODEL_FILE} is a pickle"):
        read_info(place)
    folder_at(bucket).remove(MODEL_FILE)
    with pytest.raises(CheckpointError, match=rf"^{place}\S* is not there"):
        read_info(place)


def test_a_full_temporary_folder_is_no_fault_of_the_weights(
    written: Path, bucket: ObjectUrl, monkeypatch: pytest.MonkeyPatch
) -> None:
    test_checkpoint.written(written, build(test_checkpoint.SPEC, seed=1).state_dict())
    there = uploaded(written, bucket)
    info = read_info(there)

    def full(path: UrlPath, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    monkeypatch.setattr(UrlPath, "copy_to", full)
    network = NetworkFolder(path=there, way="points", model_type="sam2", files=("new.safetensors",))
    uses: list[Callable[[], object]] = [
        lambda: read_info(there),
        lambda: load_segmenter(info),
        lambda: read_tensors(there / "zip.pth"),
        lambda: sha256_of(there / "zip.pth"),
        lambda: open_regions(network, "cpu"),
    ]
    for use in uses:
        with pytest.raises(StoreError, match=rf"^{tempfile.gettempdir()} cannot be written .*; free some space and"):
            use()


def test_a_file_that_was_begun_is_never_taken_for_the_one_that_is_kept(
    bucket: ObjectUrl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was replaced and brought back between two tries has the version that is kept again."""
    from obstore.exceptions import GenericError, NotModifiedError

    asked: list[Any] = []

    class Answer:
        meta: ClassVar = {"e_tag": "kept"}

        def stream(self, min_chunk_size: int) -> Iterator[bytes]:
            yield b"begun"
            if len(asked) == 1:
                raise GenericError("the connection was lost")
            yield b", and whole"

    def get(client: Any, key: str, *, options: Any = None) -> Answer:
        asked.append(options)
        if len(asked) > 1 and options:
            raise NotModifiedError("304")
        return Answer()

    monkeypatch.setattr("obstore.get", get)
    with (tmp_path / "copy").open("w+b") as file:
        file.write(b"what is kept")
        assert Bucket(bucket).download("a.pth", file, "kept") == "kept"
    assert (tmp_path / "copy").read_bytes() == b"begun, and whole"
    assert asked == [{"if_none_match": "kept"}, None]


def test_a_server_that_does_not_answer_is_told_as_such(
    written: Path, bucket: ObjectUrl, proxy: Proxy, quiet: None
) -> None:
    there, again = uploaded(written, bucket), "cannot be read .*run the same command again"
    network = NetworkFolder(path=there, way="points", model_type="sam2", files=("new.safetensors",))
    proxy.plan = lambda method, path: "refused" if method == "GET" else ""
    with pytest.raises(UnreachableError, match=rf"{there}/zip.pth {again}"):
        read_tensors(there / "zip.pth")
    with pytest.raises(UnreachableError, match=rf"{there}/new.safetensors {again}"):
        open_regions(network, "cpu")
    with pytest.raises(UnreachableError, match=rf"{there}/tokenizer_config.json {again}"):
        tower_config(there)


def test_backbones_start_from_there(bucket: ObjectUrl, tmp_path: Path) -> None:
    spec = SegmenterSpec(backbone="resnet18", args=PARAMS.backbone_args, num_channels=2)
    (tmp_path / "weights").mkdir()
    own = build(spec, seed=7)
    save_file(
        {name: value.contiguous() for name, value in own.backbone.state_dict().items()},
        tmp_path / "weights/r.safetensors",
    )
    there = uploaded(tmp_path / "weights", bucket)
    for word, folder in ((f"{there}/r.safetensors", tmp_path), ("r.safetensors", there)):
        assert pretrained_file(word, "resnet18", folder) == there / "r.safetensors"
        assert pinned(word, "resnet18", folder) == (word, sha256_of(tmp_path / "weights/r.safetensors"))
    network = build(spec, seed=8)
    load_backbone(network, there / "r.safetensors")
    found = network.backbone.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in own.backbone.state_dict().items())
    words = [f"{there}/r.safetensors", str(tmp_path / "weights/r.safetensors")]
    params = [FrozenParams(backbone="resnet18", backbone_args=PARAMS.backbone_args, weights=word) for word in words]
    named = [one.named(tmp_path) for one in params]
    assert named[0] is not None
    assert named[1] is not None
    named[0].check()
    assert named[0].identity() == named[1].identity()
    with pytest.raises(WeightsError, match=rf"{there}/none.safetensors"):
        sha256_of(pretrained_file("none.safetensors", "resnet18", there))


def test_networks_of_regions_are_read_there(bucket: ObjectUrl, tmp_path: Path) -> None:
    near = tiny_networks.sam2(tmp_path / "sam2")
    far = uploaded(near, bucket)
    picture = tiny.images(1, 48, 40)[0]
    made = []
    for place in (near, far):
        params = StageParams(regions="sam2", regions_model=str(place))
        network = open_regions(region_folder(params), "cpu", points=4, least=0.0)
        made.append((regions_identity(params), network.regions([picture])[0]))
    assert made[0][0] == made[1][0]
    assert torch.equal(made[0][1], made[1][1])
    assert len(made[0][1].unique()) > 1
    folder_at(bucket).remove("preprocessor_config.json")
    folder_at(bucket).remove("processor_config.json")
    with pytest.raises(WeightsError, match=rf"{far} has no processor_config.json or preprocessor_config.json"):
        read_folder(str(far), "points", "regions_model")
    with pytest.raises(WeightsError, match=rf"{far}-2 does not exist; name in regions_model the folder"):
        read_folder(f"{far}-2", "points", "regions_model")
    with pytest.raises(ParameterError, match="leave out user names, keys"):
        read_folder("s3://key:secret@bucket/sam2", "points", "regions_model")


@pytest.mark.parametrize("family", ["SigLIP", "XLM-RoBERTa"])
def test_tokenizers_and_text_towers_of_transformers_are_read_there(
    family: str, bucket: ObjectUrl, tmp_path: Path
) -> None:
    spec = test_tokenizers.made(tmp_path, family)
    there = uploaded(tmp_path / "tokenizer", bucket)
    _same_texts(spec, spec.model_copy(update={"tokenizer": str(there)}))


def test_the_text_side_of_tips_is_read_there(bucket: ObjectUrl, tmp_path: Path) -> None:
    (tmp_path / "tips").mkdir()
    spec = test_tips.made(tmp_path / "tips")
    there = uploaded(tmp_path / "tips", bucket)
    for words in (there, there / "tokenizer.model"):
        _same_texts(spec, spec.model_copy(update={"tokenizer": str(words), "text": f"{there}/text.npz"}))


def _same_texts(near: EncoderSpec, far: EncoderSpec) -> None:
    ours, theirs = (open_what(spec, "cpu") for spec in (near, far))
    assert ours.identity == theirs.identity
    words = ["a photo of a cat", "the dog"]
    assert torch.equal(ours.text(words), theirs.text(words))
