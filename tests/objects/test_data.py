"""Data in a bucket: the masks, figures and weights that the same data give on disk."""

import pickle
import re
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tests.faults.standin import make as make_stand_in
from tests.wilss.models.networks.test_labeller_file import written
from tests.wilss_train.data.semi.world import make, masks
from tests.wilss_train.logs import untimed_lines
from tests.wilss_train.run.test_train import METHOD, PARAMS, QUIET
from wilss.data.contents import contents_of, stamps_of
from wilss.data.images import read_image, read_size
from wilss.data.manifest import load_manifest
from wilss.disk import FileStates, ObjectUrl, UrlPath, data_path, folder_at, state_now
from wilss.disk.urls import fetching
from wilss.disk.urls.kept_files import VARIABLE
from wilss.errors import CheckpointError, ImageError, ManifestError, ParameterError, UnreachableError
from wilss.models.networks.checkpoint import load_segmenter, read_info
from wilss.models.networks.checkpoint_header import MODEL_FILE
from wilss.models.networks.labeller_file import labeller_digest, load_labeller
from wilss.store import MaskStore
from wilss_masks.make.generate import generate
from wilss_masks.make.options import Options
from wilss_masks.sources.annotation import AnnotationSource
from wilss_train import MaskDataset, load_model
from wilss_train.data.image_lists import find_images, targets_of
from wilss_train.inputs import open_inputs
from wilss_train.results.report.log import LOG_FILE
from wilss_train.run.train import run_training

from .proxy import Proxy
from .servers import SIGNED
from .test_commands import said

QUICK = Options(device="cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WILSS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/data"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("pets"))


def uploaded(folder: Path, url: ObjectUrl) -> UrlPath:
    """A folder's files in a bucket."""
    there = folder_at(url)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            there.write(path.relative_to(folder).as_posix(), path.read_bytes())
    place = data_path(str(url))
    assert isinstance(place, UrlPath)
    return place


def manifest_of(root: Path, out: Path, place: object) -> Path:
    """The manifest of `root` for data in another place."""
    content = yaml.safe_load((root / "data_manifest.yaml").read_text())
    out.mkdir(parents=True, exist_ok=True)
    (out / "data_manifest.yaml").write_text(yaml.safe_dump({**content, "path": str(place)}, sort_keys=False))
    return out / "data_manifest.yaml"


@pytest.fixture
def data(root: Path, bucket: ObjectUrl) -> UrlPath:
    return uploaded(root / "data", bucket)


@pytest.fixture
def far(root: Path, data: UrlPath, tmp_path: Path) -> Path:
    """A manifest of the data in the bucket."""
    return manifest_of(root, tmp_path / "far", data)


def made(manifest_path: Path, out: Path, step: int = 0) -> MaskStore:
    manifest = load_manifest(manifest_path)
    source = AnnotationSource.from_manifest(manifest, step)
    generate(manifest, step=step, source=source, out=out, options=QUICK)
    return MaskStore.open(out)


def files(store: Path) -> dict[str, bytes]:
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def test_a_store_is_that_of_the_same_data_on_disk(root: Path, far: Path, tmp_path: Path) -> None:
    assert made(far, tmp_path / "far.zarr").digest == MaskStore.open(masks(root)).digest
    assert files(tmp_path / "far.zarr") == files(masks(root))
    assert load_manifest(far).digest == load_manifest(root / "data_manifest.yaml").digest


def test_a_manifest_may_lie_there_too(root: Path, data: UrlPath, bucket: ObjectUrl, tmp_path: Path) -> None:
    folder_at(bucket.parent).write("data_manifest.yaml", manifest_of(root, tmp_path, "voc").read_bytes())
    manifest = load_manifest(str(bucket.parent / "data_manifest.yaml"))
    assert manifest.data["main"].root == data
    assert load_manifest(str(bucket.parent)).digest == manifest.digest == load_manifest(root).digest
    folder_at(bucket.parent).write("elsewhere.yaml", manifest_of(root, tmp_path, root / "data").read_bytes())
    assert load_manifest(str(bucket.parent / "elsewhere.yaml")).data["main"].root == root / "data"


def test_contents_of_images_are_those_on_disk(images: Path, bucket: ObjectUrl, tmp_path: Path) -> None:
    there = uploaded(images, bucket)
    near, far = make_stand_in(images, tmp_path / "near.zarr"), make_stand_in(there, tmp_path / "far.zarr")
    assert near.done == far.done == 10
    assert files(tmp_path / "near.zarr") == files(tmp_path / "far.zarr")


def test_an_image_that_was_replaced_is_noticed_also_by_the_process_that_has_read_it(
    root: Path, far: Path, data: UrlPath, bucket: ObjectUrl
) -> None:
    records = load_manifest(far).records(0).records
    rows = np.arange(len(records))
    before = [function(records, rows, "images") for function in (stamps_of, contents_of)]
    again = [function(records, rows, "images") for function in (stamps_of, contents_of)]
    assert all((ours == theirs).all() for ours, theirs in zip(before, again, strict=True))
    folder_at(bucket).write("JPEGImages/im3.jpg", (root / "data/JPEGImages/im6.jpg").read_bytes())
    after = [function(records, rows, "images") for function in (stamps_of, contents_of)]
    for ours, theirs in zip(before, after, strict=True):
        assert [records[row].image_id for row in rows.tolist() if ours[row] != theirs[row]] == ["im3"]
    assert (read_image(data / "JPEGImages/im3.jpg") == read_image(root / "data/JPEGImages/im6.jpg")).all()


def test_a_missing_image_fails_alone_and_a_missing_list_or_bucket_in_a_sentence(
    root: Path, far: Path, data: UrlPath, bucket: ObjectUrl, tmp_path: Path
) -> None:
    folder_at(bucket).remove("JPEGImages/im3.jpg")
    manifest = load_manifest(far)
    problems = [record.problem for record in manifest.records(0).records if record.problem is not None]
    assert [f"{data}/JPEGImages/im3 is named in {data}/ImageSets/Segmentation/train.txt" in p for p in problems] == [
        True
    ]
    for image in (data / "JPEGImages/im3.jpg", data / "JPEGImages"):
        for read in (read_image, read_size):
            with pytest.raises(ImageError, match="is not there; copy it there, or leave it out|is a folder, not"):
                read(image)
    folder_at(bucket).remove("ImageSets/Segmentation/train.txt")
    with pytest.raises(ManifestError, match=rf"the list 'train' is not there \(looked for {data}/"):
        load_manifest(far).records(0)
    elsewhere = load_manifest(manifest_of(root, tmp_path / "elsewhere", f"s3://{data.url.bucket}/other"))
    with pytest.raises(ManifestError, match="the data folder s3://.*/other is not there"):
        elsewhere.records(0)
    nowhere = load_manifest(manifest_of(root, tmp_path / "nowhere", "s3://no-such-bucket/other"))
    with pytest.raises((ManifestError, UnreachableError), match="s3://no-such-bucket"):
        nowhere.records(0)


def test_only_the_beginning_of_a_large_image_is_fetched_for_its_size(
    bucket: ObjectUrl, proxy: Proxy, tmp_path: Path, cache: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    for ending in ("png", "jpg", "bmp", "tif", "webp"):
        Image.fromarray(pixels).save(tmp_path / f"large.{ending}", lossless=True)  # WebP; the others pass it over
        size = (tmp_path / f"large.{ending}").stat().st_size
        assert size > 1 << 16
        folder_at(bucket).write(f"large.{ending}", (tmp_path / f"large.{ending}").read_bytes())
        image = data_path(f"{bucket}/large.{ending}")
        assert read_size(image) == (300, 400)
        assert not [*cache.rglob("?" * 64)]  # nothing whole was fetched
        assert (read_image(image) == read_image(tmp_path / f"large.{ending}")).all()
        (kept,) = cache.rglob("?" * 64)
        asked = len(proxy.asked)
        assert read_size(image) == (300, 400)
        assert len(proxy.asked) == asked
        kept.unlink()


def test_what_was_fetched_is_asked_for_once_and_kept_from_run_to_run(
    far: Path, proxy: Proxy, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(far, tmp_path / "first.zarr")
    sent = fetched_whole(proxy)
    assert max(sent.values()) <= 3  # asked whether it is the same, and sent once
    fetching._memory.cache_clear()  # as in another process
    proxy.asked.clear()
    made(far, tmp_path / "second.zarr")
    assert files(tmp_path / "second.zarr") == files(tmp_path / "first.zarr")
    monkeypatch.setenv(VARIABLE, "0")
    made(far, tmp_path / "third.zarr")
    assert files(tmp_path / "third.zarr") == files(tmp_path / "first.zarr")


def fetched_whole(proxy: Proxy) -> dict[str, int]:
    paths = [path for method, path in proxy.asked if method == "GET" and "list-type" not in path]
    return {path: paths.count(path) for path in paths}


def test_a_server_that_fails_for_a_while_changes_nothing(root: Path, far: Path, proxy: Proxy, tmp_path: Path) -> None:
    proxy.at_random(0.3, seed=1)
    assert made(far, tmp_path / "far.zarr").digest == MaskStore.open(masks(root)).digest
    assert sum(proxy.happened.values()) > 10


def test_a_server_that_dies_stops_the_run_which_goes_on_when_it_is_back(
    images: Path, bucket: ObjectUrl, proxy: Proxy, tmp_path: Path, quiet: None
) -> None:
    there = uploaded(images, bucket)
    near = make_stand_in(images, tmp_path / "near.zarr")
    reads: list[str] = []

    def plan(method: str, path: str) -> str:
        if method == "GET" and path.endswith(".png"):
            reads.append(path)
        return "refused" if len(reads) > 16 else ""

    proxy.plan = plan
    with pytest.raises(
        UnreachableError, match=r"s3://\S+/image_00\d\d.png cannot be read .*run the same command again"
    ):
        make_stand_in(there, tmp_path / "far.zarr")
    proxy.plan = lambda method, path: ""
    assert make_stand_in(there, tmp_path / "far.zarr").done == near.done
    assert files(tmp_path / "near.zarr") == files(tmp_path / "far.zarr")
    assert not re.search("a-key-that|a-secret-that", "".join(map(str, files(tmp_path / "far.zarr").values())))


def test_training_reads_the_same_batches(root: Path, far: Path, proxy: Proxy, tmp_path: Path, cache: Path) -> None:
    for manifest, out in ((root / "data_manifest.yaml", tmp_path / "near"), (far, tmp_path / "run")):
        inputs = open_inputs(load_manifest(manifest), masks(root), None, "finetune")
        run_training(inputs, METHOD, replace(PARAMS, epochs=2), out, QUIET)
    assert (tmp_path / "near" / MODEL_FILE).read_bytes() == (tmp_path / "run" / MODEL_FILE).read_bytes()
    assert untimed_lines(tmp_path / "near" / LOG_FILE) == untimed_lines(tmp_path / "run" / LOG_FILE)
    near, distant = (MaskDataset(masks(root), manifest) for manifest in (root / "data_manifest.yaml", far))
    for ours, theirs in zip(near, pickle.loads(pickle.dumps(distant)), strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in ("image", "masks", "void"))
    sent = {path: count for path, count in fetched_whole(proxy).items() if path.endswith(".jpg")}
    assert len(sent) == 9
    assert max(sent.values()) <= 4  # its size, its digest, and whether it is the same; not once an epoch


def test_a_training_ends_where_the_server_does(
    root: Path, far: Path, proxy: Proxy, tmp_path: Path, quiet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "0")
    inputs = open_inputs(load_manifest(far), masks(root), None, "finetune")
    proxy.plan = lambda method, path: "refused" if path.endswith("im4.jpg") else ""
    with pytest.raises(UnreachableError, match=r"/JPEGImages/im4.jpg cannot be read"):
        run_training(inputs, METHOD, replace(PARAMS, epochs=1), tmp_path / "run", QUIET)


def test_commands_take_data_in_buckets(
    root: Path, data: UrlPath, far: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    code, text = said(capsys, "manifest", "init", "--layout", "voc", data, "--out", "init.yaml", "--val", 0)
    assert (code, f'path: "{data}"' in (tmp_path / "init.yaml").read_text()) == (0, True), text
    said(capsys, "manifest", "init", "--layout", "voc", root / "data", "--out", "here.yaml", "--val", 0)
    ours, theirs = (yaml.safe_load((tmp_path / name).read_text()) for name in ("init.yaml", "here.yaml"))
    own = {"path": "", "name": "", "title": ""}
    assert ours | own == theirs | own
    figures, few = [], ("--count", 2)
    for manifest in (far, root / "data_manifest.yaml"):
        code, text = said(capsys, "evaluate", masks(root), "--manifest", manifest, "--json", "-")
        figures.append(text)
        assert code == 0
        assert said(capsys, "sheet", masks(root), *few, "--manifest", manifest, "--out", f"{len(figures)}.png")[0] == 0
        assert said(capsys, "manifest", "check", "--manifest", manifest, "--no-weights")[0] == 0
        assert said(capsys, "audit", masks(root), "--manifest", manifest, "--out", f"audit-{len(figures)}")[0] == 0
    assert figures[0] == figures[1]
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()
    assert said(capsys, "verify", masks(root), "--manifest", far)[0] == 0
    for form, out in (("labelme", "labelme"), ("coco", "masks.json"), ("huggingface", "hf")):
        assert said(capsys, "export", form, masks(root), out, "--manifest", far)[0] == 0
    assert "im0.jpg" in (tmp_path / "labelme/im0.json").read_text()


def test_images_to_predict_are_named_as_on_disk(root: Path, data: UrlPath, tmp_path: Path) -> None:
    near = find_images([root / "data/JPEGImages", root / "data/SegmentationClass/im1.png"], tmp_path)
    far = find_images([data / "JPEGImages", data / "SegmentationClass/im1.png"], tmp_path)
    assert [record.image_id for record in far.images] == [record.image_id for record in near.images]
    assert all(isinstance(record.path, UrlPath) for record in far.images)
    assert [path.folder for path in targets_of(far.images, tmp_path)] == [
        path.folder for path in targets_of(near.images, tmp_path)
    ]
    with pytest.raises(ParameterError, match="several disks or buckets"):
        find_images([data / "JPEGImages", root / "data/JPEGImages"], tmp_path)


@pytest.mark.parametrize(
    "words",
    [
        ("sheet", "s", "--out", "s3://key:secret@bucket/x.png"),
        ("export", "coco", "s", "s3://bucket/x.json"),
        ("manifest", "init", "photos", "--out", "s3://bucket/x.yaml"),
        ("evaluate", "s", "--json", "s3://bucket/x.json"),
        ("audit", "s", "--json", "s3://bucket/x.json"),
        ("suggest", "s", "--json", "s3://bucket/x.json"),
        ("review", "s", "--static", "gs://bucket/page"),
        ("review", "s", "--only", "https://server/list.txt?token=secret"),
    ],
)
def test_where_no_url_is_taken_it_is_refused_and_makes_no_folder(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, text = said(capsys, *words)
    assert (code, "is a URL, and this is read or written on disk alone; name a path." in text) == (2, True), text
    assert "secret" not in text
    assert not [*tmp_path.iterdir()]


def test_a_checkpoint_is_read_there(root: Path, data: UrlPath, far: Path, bucket: ObjectUrl, tmp_path: Path) -> None:
    inputs = open_inputs(load_manifest(far), masks(root), None, "finetune")
    run_training(inputs, METHOD, replace(PARAMS, epochs=1), tmp_path / "run", QUIET)
    folder_at(bucket.parent).write(f"run/{MODEL_FILE}", (tmp_path / "run" / MODEL_FILE).read_bytes())
    image = "JPEGImages/im0.jpg"
    near = load_model(tmp_path / "run", "cpu").predict(root / "data" / image)
    distant = load_model(f"{bucket.parent}/run", "cpu").predict(f"{data}/{image}")
    np.testing.assert_array_equal(near, distant)
    with pytest.raises(CheckpointError, match=rf"s3://{bucket.bucket}/none is not there"):
        load_model(f"s3://{bucket.bucket}/none", "cpu")


def test_a_labeller_is_read_beside_its_checkpoint_there(bucket: ObjectUrl, tmp_path: Path) -> None:
    info, labeller = written(tmp_path / "run")
    far = read_info(uploaded(tmp_path / "run", bucket))
    assert labeller_digest(far) == labeller_digest(info)
    found = load_labeller(far, load_segmenter(far)).state_dict()
    assert all(torch.equal(value, found[name]) for name, value in labeller.state_dict().items())


def test_tune_says_before_it_searches_that_it_writes_beside_the_manifest(
    far: Path, bucket: ObjectUrl, capsys: pytest.CaptureFixture[str]
) -> None:
    folder_at(bucket.parent).write("voc.yaml", far.read_bytes())
    code, text = said(capsys, "tune", "--manifest", bucket.parent / "voc.yaml", "--step", 0)
    assert (code, "copy the manifest to disk" in text) == (2, True), text


def test_supports_are_shown_there(
    far: Path, bucket: ObjectUrl, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    drawn = said(capsys, "supports", "draw", "--manifest", far, "--step", 1, "--shots", 1, "--out", "shots")
    assert drawn[0] == 0, drawn[1]
    there = uploaded(tmp_path / "shots", bucket.parent / "shots")
    code, text = said(capsys, "supports", "check", there, "--manifest", far, "--step", 1)
    assert (code, text) == (0, "supports.png: 1 supports (horse 1)\n")
    assert (tmp_path / "supports.png").stat().st_size  # in this folder, since nothing stands beside a bucket


@pytest.mark.parametrize("versioned", [False, True])
def test_a_listing_and_a_look_at_a_file_name_the_same_version(bucket: ObjectUrl, server: str, versioned: bool) -> None:
    if versioned:
        wanted = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
        address, headers = f"{server}/{bucket.bucket}?versioning", {**SIGNED, "Content-Type": "application/xml"}
        with urllib.request.urlopen(urllib.request.Request(address, wanted, headers, method="PUT"), timeout=10):
            pass
    folder_at(bucket).write("a.png", b"1")
    image = data_path(f"{bucket}/a.png")
    assert isinstance(image, UrlPath)
    first = FileStates().of(image)
    assert first == state_now(image) is not None
    folder_at(bucket).write("a.png", b"2")
    assert first != FileStates().of(image) == state_now(image)


def test_a_name_that_no_path_has_is_told(bucket: ObjectUrl, server: str) -> None:
    request = urllib.request.Request(f"{server}/{bucket.bucket}/voc//a.jpg", method="PUT", data=b"1", headers=SIGNED)
    with urllib.request.urlopen(request, timeout=10):
        pass
    with pytest.raises(UnreachableError, match=r'voc cannot be listed: .*"voc//" contained.*; rename or remove it'):
        next(data_path(str(bucket)).iterdir())
