"""The source `cam`: a classifier learns the tags, is kept, and its maps are cut where it looks."""

import dataclasses
import pickle
import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.faults.standin import StandInSource
from tests.wilss.data import data_on_disk as disk
from tests.wilss.models.proposers import tiny_networks
from wilss.data.manifest import Manifest, load_manifest
from wilss.errors import CheckpointError, EncoderError, ManifestError, ParameterError, StoreError, WeightsError
from wilss.models.networks.classifier import Classifier, read_classifier, write_classifier
from wilss.models.networks.spec import SegmenterSpec
from wilss.store import MaskStore, Status
from wilss_masks.inspect.fuse import fuse
from wilss_masks.make.generate import generate
from wilss_masks.make.options import Options
from wilss_masks.make.request import selection_for
from wilss_masks.sources.cam.learn import learn
from wilss_masks.sources.cam.lessons import lessons_of
from wilss_masks.sources.cam.looking import Eyes, Teaching
from wilss_masks.sources.cam.params import CamParams
from wilss_masks.sources.cam.patches import _said_by_layer, along
from wilss_masks.sources.cam.source import CamSource
from wilss_masks.sources.cam.state import read_state, write_state
from wilss_masks.sources.cam.views import input_sizes, view

#: A cat is a red square on grey, a dog a blue one, a horse a green one.
COLOURS = {1: (220, 30, 30), 2: (30, 30, 220), 3: (30, 220, 30)}
IMAGES = {**{f"cat{i}": [1] for i in range(4)}, **{f"dog{i}": [2] for i in range(4)}, "both": [1, 2]}
SMALL: dict[str, Any] = {
    "backbone": "resnet18", "backbone_args": {"channels": [8, 8, 8, 8], "layers": [1, 1, 1, 1]}, "stride": 8,
    "size": 64, "learn_size": 64, "crop": 32, "epochs": 2, "batch_size": 4, "hold": 0.0, "scales": [1.0],
    "longest": 128,
}  # fmt: skip
VIT: dict[str, Any] = {
    "library": "timm", "model": "vit_tiny_patch16_224", "file": "builtin:vit.safetensors",
    "args": {"img_size": 96, "patch_size": 8, "embed_dim": 192, "depth": 3, "num_heads": 3},
}  # fmt: skip


def square(path: Path, identities: list[int], seed: int) -> None:
    """64 x 64 grey noise with a square of 24 pixels for each class."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(110, 140, (64, 64, 3), dtype=np.uint8)
    for place, identity in enumerate(identities):
        top, left = 4 + 32 * place, int(rng.integers(4, 36))
        pixels[top : top + 24, left : left + 24] = COLOURS[identity]
    Image.fromarray(pixels).save(path, quality=95)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pets")
    horses = {f"horse{i}": [3] for i in range(2)}
    disk.voc(root / "data", {**IMAGES, **horses})
    for number, (name, identities) in enumerate({**IMAGES, **horses}.items()):
        square(root / f"data/JPEGImages/{name}.jpg", identities, number)
    steps = [{"classes": [1, 2], "supervision": "tags"}, {"classes": [3]}]
    disk.manifest(root, masks={"cam": SMALL}, steps=steps)
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WILSS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/cam"


def manifest(root: Path) -> Manifest:
    return load_manifest(root / "data_manifest.yaml")


def source(root: Path, step: int = 0, **values: Any) -> CamSource:
    return CamSource.from_manifest(manifest(root), step, values)


def spec(classes: int = 2) -> SegmenterSpec:
    return SegmenterSpec(backbone="resnet18", args={"channels": [8, 8, 8, 8]}, output_stride=8, num_channels=classes)


# -- what is learnt from ------------------------------------------------------------------------------------


def test_lessons_are_the_steps_images_and_an_earlier_steps_show_none_of_its_classes(root: Path) -> None:
    lessons = lessons_of(manifest(root), 0, "step")
    assert [record.image_id for record in lessons.records] == list(IMAGES)
    assert lessons.counts.tolist() == [5, 5]
    later = lessons_of(manifest(root), 1, "earlier")
    assert later.names == ("horse",)
    assert later.tags[:, 0].tolist() == [True] * 2 + [False] * len(IMAGES)


def test_a_class_that_all_images_show_is_refused_with_a_way_out(root: Path) -> None:
    with pytest.raises(ManifestError, match=r"all 2 images of step 1 show horse.*say --set negatives=earlier"):
        source(root, 1)
    assert source(root, 1, negatives="earlier").classes == ("horse",)


def test_few_images_are_warned_of_and_so_are_none(tmp_path: Path) -> None:
    disk.voc(tmp_path / "data", {"a": [1], "b": [3], "c": []})
    disk.manifest(tmp_path, masks={"cam": SMALL}, steps=[{"classes": [1, 2, 3], "supervision": "tags"}])
    none, few = lessons_of(manifest(tmp_path), 0, "step").doubts()
    assert "no image of step 0 shows dog: the classifier learns nothing of it" in none
    assert "(cat 1, horse 1)" in few


def test_a_class_on_half_of_all_images_is_warned_of(tmp_path: Path) -> None:
    disk.voc(tmp_path / "data", {**{f"a{i}": [1] for i in range(9)}, **{f"b{i}": [1, 3] for i in range(4)},
                                 **{f"c{i}": [3] for i in range(7)}, **{f"d{i}": [2] for i in range(10)}})  # fmt: skip
    disk.manifest(tmp_path, masks={"cam": SMALL}, steps=[{"classes": [1, 2, 3], "supervision": "tags"}])
    assert not list(lessons_of(manifest(tmp_path), 0, "step").doubts())
    disk.voc(tmp_path / "data", {f"a{i}": [1, 3] if i < 16 else [3 if i < 20 else 2] for i in range(30)})
    (many,) = lessons_of(manifest(tmp_path), 0, "step").doubts()
    assert many.startswith("half of the 30 images of step 0 or more show some classes (cat 16, horse 20): their maps")
    assert many.endswith("add images without them.")
    steps = [{"classes": [2]}, {"classes": [1, 3], "supervision": "tags"}]
    disk.voc(tmp_path / "more", {f"a{i}": [[1, 3], [3], [1], [2]][i % 4] for i in range(40)})
    disk.manifest(tmp_path, masks={"cam": SMALL}, steps=steps, path="./more")
    (many,) = lessons_of(manifest(tmp_path), 1, "step").doubts()
    assert many.endswith("add images without them, or those of earlier steps by --set negatives=earlier.")


def test_a_step_without_tagged_images_is_refused(tmp_path: Path) -> None:
    disk.voc(tmp_path / "data", {"a": [3], "b": [3]})
    disk.manifest(tmp_path, masks={"cam": SMALL}, steps=[{"classes": [1, 2], "supervision": "tags"}, {"classes": [3]}])
    with pytest.raises(ManifestError, match=r"no image of step 0 that can be opened is tagged"):
        source(tmp_path)


def test_the_digest_follows_images_and_tags(root: Path, tmp_path: Path) -> None:
    before = lessons_of(manifest(root), 0, "step")
    assert lessons_of(manifest(root), 0, "step").digest == before.digest
    other = type(before)(records=before.records, tags=~before.tags, names=before.names, of=before.of)
    assert other.digest != before.digest


# -- views ---------------------------------------------------------------------------------------------------


def test_a_view_is_a_square_of_the_image_in_other_colours() -> None:
    image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    image[0, :, 30:] = 200
    whole = view(image, 16, area=1.0, colour=0.0, rng=np.random.default_rng(0))
    assert whole.shape == (3, 16, 16)
    assert whole[0].amax() == pytest.approx(200 / 255, abs=0.01)
    assert not whole[1:].any()
    views = [view(image, 16, area=0.2, colour=0.3, rng=np.random.default_rng(seed)) for seed in range(6)]
    assert all(one.amin() >= 0 and one.amax() <= 1 for one in views)
    assert len({float(one.mean()) for one in views}) == 6
    torch.testing.assert_close(views[3], view(image, 16, area=0.2, colour=0.3, rng=np.random.default_rng(3)))


def test_inputs_are_multiples_of_the_stride_and_bounded() -> None:
    assert input_sizes(100, 200, shorter=64, longest=1024, scales=(0.5, 1.0), stride=16) == [
        (64, 128), (32, 64), (64, 128),
    ]  # fmt: skip
    assert input_sizes(4000, 6000, shorter=448, longest=512, scales=(), stride=16) == [(336, 512)]


# -- learning -------------------------------------------------------------------------------------------------


def taught(root: Path, state: Path | None = None, **values: Any) -> tuple[Classifier, Teaching]:
    found = source(root, **values)
    assert found.lessons is not None
    teaching = Teaching(
        lessons=found.lessons,
        stride=8,
        params=found.params,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        seed=0,
        device="cpu",
        state=state,
    )
    return Classifier(spec(), seed=0), teaching


def test_rows_alone_tell_the_classes_apart_and_the_backbone_stays(root: Path) -> None:
    classifier, teaching = taught(root, epochs=0)
    before = {name: tensor.clone() for name, tensor in classifier.backbone.state_dict().items()}
    learn(classifier, teaching)
    for name, tensor in classifier.backbone.state_dict().items():
        torch.testing.assert_close(tensor, before[name])
    assert classifier.rows.weight.abs().sum() > 0


def test_what_is_held_stays_and_the_rest_learns(root: Path) -> None:
    classifier, teaching = taught(root, hold=0.5)
    before = [tensor.clone() for tensor in classifier.backbone.parameters()]
    learn(classifier, teaching)
    same = [bool((old == new).all()) for old, new in zip(before, classifier.backbone.parameters(), strict=True)]
    held = round(len(before) / 2)
    assert all(same[:held])
    assert not any(same[held:])


def test_stopped_and_taken_up_again_it_learns_the_same(root: Path, tmp_path: Path, monkeypatch: Any) -> None:
    whole, teaching = taught(root)
    learn(whole, teaching)
    state = tmp_path / "half.state"
    half, teaching = taught(root, state)
    monkeypatch.setattr("wilss_masks.sources.cam.descent._SECONDS_BETWEEN_STATES", 0.0)
    kept = write_state

    def stop_after_two(path: Any, classifier: Any, optimiser: Any, done: int) -> None:
        kept(path, classifier, optimiser, done)
        if done == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("wilss_masks.sources.cam.descent.write_state", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        learn(half, teaching)
    assert state.is_file()
    monkeypatch.setattr("wilss_masks.sources.cam.descent.write_state", lambda *_: None)
    again, teaching = taught(root, state)
    learn(again, teaching)
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, whole.state_dict()[name]), name
    assert not state.exists()


def test_a_damaged_state_is_begun_again(root: Path, tmp_path: Path) -> None:
    classifier, _ = taught(root)
    optimiser = torch.optim.SGD(classifier.parameters(), lr=0.1)
    write_state(tmp_path / "x.state", classifier, optimiser, 7)
    assert read_state(tmp_path / "x.state", classifier, optimiser) == 7
    content = bytearray((tmp_path / "x.state").read_bytes())
    content[-3] ^= 255
    (tmp_path / "x.state").write_bytes(content)
    assert read_state(tmp_path / "x.state", classifier, optimiser) == 0
    assert read_state(tmp_path / "none.state", classifier, optimiser) == 0


def test_a_classifier_in_a_file_is_the_same_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    classifier, path = Classifier(spec(), seed=3).eval(), tmp_path / "c.safetensors"
    write_classifier(path, classifier, {"key": "k"})
    images = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(read_classifier(path)(images), classifier(images))
    content = bytearray(path.read_bytes())
    content[-3] ^= 255
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"c\.safetensors is damaged"):
        read_classifier(path)


def test_patches_learn_where_the_squares_are(root: Path) -> None:
    classifier, teaching = taught(root, epochs=0, patches=True, affinity_from="own", patch_decay=0.001)
    before = classifier.patches.weight.clone()
    learn(classifier, teaching)
    assert classifier.patches.weight.shape == (3, 16)
    assert not torch.equal(before, classifier.patches.weight)
    again, teaching = taught(root, epochs=0, patches=True, affinity_from="own", patch_decay=0.001)
    learn(again, teaching)
    assert torch.equal(again.patches.weight, classifier.patches.weight)


@pytest.mark.wide
def test_patches_learn_from_maps_that_the_vit_has_spread(root: Path, tmp_path: Path) -> None:
    steps = [{"classes": [1, 2], "supervision": "tags"}, {"classes": [3]}]
    disk.manifest(tmp_path, path=str(root / "data"), masks={"cam": SMALL}, steps=steps, encoders={"vit": VIT})
    made = {}
    for affinity in ("none", "vit"):
        found = source(tmp_path, epochs=0, patches=True, affinity_from=affinity)
        assert found.learns_by_vit == (affinity == "vit")
        made[affinity] = found
    weights = [found.prepare("cpu").read_classifier().patches.weight for found in made.values()]
    assert not torch.equal(*weights)
    # By another ViT it is another classifier, but where nothing is learnt from what that says.
    other = made["vit"].vit.model_copy(update={"file": "builtin:backbone.safetensors"})
    assert dataclasses.replace(made["vit"], vit=other).key != made["vit"].key
    one, two = (source(tmp_path, epochs=0, affinity_from=affinity) for affinity in ("none", "vit"))
    assert one.key == two.key


@pytest.mark.parametrize("values", [{}, {"patches": True}])
def test_images_that_are_broken_in_their_bodies_are_a_sentence(tmp_path: Path, values: Any) -> None:
    disk.voc(tmp_path / "data", {"a": [1], "b": [2], "c": [2]})
    disk.manifest(tmp_path, masks={"cam": SMALL}, steps=[{"classes": [1, 2], "supervision": "tags"}, {"classes": [3]}])
    paths = [tmp_path / f"data/JPEGImages/{name}.jpg" for name in "abc"]
    whole = paths[2].read_bytes()
    for path in paths:
        path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(
        ManifestError, match=r"nothing to learn from: of the 3 images of step 0 that show a class none .*a\.jpg"
    ):
        source(tmp_path, epochs=0, **values).prepare("cpu")
    paths[2].write_bytes(whole)
    with pytest.MonkeyPatch.context() as patch:
        told: list[str] = []
        patch.setattr("wilss_masks.sources.cam.looking.log.warning", lambda text, *values: told.append(text % values))
        source(tmp_path, epochs=0, **values).prepare("cpu")
    assert "that shows cat can be read to the end, so that the classifier learns nothing of it" in told[0]


@pytest.mark.wide
def test_patches_are_learnt_again_from_what_they_were_learnt_to_be(root: Path) -> None:
    classifier, teaching = taught(root, epochs=0, patches=True, affinity_from="own", patch_decay=0.001)
    learn(classifier, teaching)
    eyes = Eyes(classifier, teaching)
    shown = torch.from_numpy(teaching.lessons.tags[0]).nonzero().flatten()
    stages = [stage.float() for stage in dict(eyes.walk("once"))[0]]
    features = torch.cat([stage.flatten(1).T for stage in stages], dim=1)  # both stages have one grid here
    shares = classifier.patches(features)[:, [0, *(shown + 1).tolist()]].softmax(dim=1)
    spread = along(stages, (stages[1].shape[-2], stages[1].shape[-1]), 0.1, 3)
    background, *tags = spread(shares.T)
    odds = torch.stack([tag / (tag + background) for tag in tags])
    expected = torch.where(odds.amax(dim=0) >= 0.7, odds.argmax(dim=0) + 1, 0)
    assert torch.equal(_said_by_layer(eyes, 0, stages, shown), expected)
    assert 0 < int((expected > 0).sum()) < len(expected)
    twice, teaching = taught(root, epochs=0, patches=True, affinity_from="own", patch_decay=0.001, patch_rounds=2)
    learn(twice, teaching)
    assert not torch.equal(twice.patches.weight, classifier.patches.weight)


def test_how_patches_are_learnt_again_decides_nothing_where_they_are_learnt_once(root: Path) -> None:
    once = source(root, patches=True, affinity_from="own")
    assert source(root, patches=True, affinity_from="own", patch_again=0.9, patch_temperature=0.3).key == once.key
    again = source(root, patches=True, affinity_from="own", patch_rounds=2)
    assert len({once.key, again.key, source(root, patches=True, affinity_from="own", patch_rounds=3).key}) == 3
    assert source(root, patches=True, affinity_from="own", patch_rounds=2, patch_again=0.9).key != again.key


def test_feature_maps_that_do_not_fit_are_looked_at_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier, teaching = taught(root, epochs=0)
    classifier.eval()
    eyes = Eyes(classifier, teaching)
    first = dict(eyes.walk("once"))
    assert list(first) == list(range(len(IMAGES)))
    monkeypatch.setattr("wilss_masks.sources.cam.looking._MOST", 3 * 2 * 8 * 64 * 2)
    few = Eyes(classifier, teaching)
    for _ in range(2):
        for row, stages in few.walk("again"):
            assert all(torch.equal(one, other) for one, other in zip(stages, first[row], strict=True))
    assert len(few._kept) == 3


# -- the source -----------------------------------------------------------------------------------------------


def test_the_classifier_is_learnt_once_and_found_again(root: Path, cache: Path, monkeypatch: Any) -> None:
    first = source(root).prepare("cpu")
    assert [path.name for path in cache.iterdir()] == [f"{first.key}.safetensors"]
    monkeypatch.setattr("wilss_masks.sources.cam.learn.learn", lambda *_: pytest.fail("it learns again"))
    second = source(root, cut=0.5).prepare("cpu")  # how it is used makes no other classifier
    assert second.key == first.key
    assert pickle.loads(pickle.dumps(second)) == second
    assert source(root, lr=0.5).key != first.key


def test_workers_without_the_file_say_where_it_should_be(root: Path, cache: Path) -> None:
    prepared = source(root).prepare("cpu")
    (cache / f"{prepared.key}.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"set WILSS_CACHE to a folder that all workers see"):
        prepared.open("cpu", 1)


def test_a_cache_that_cannot_be_written_is_told_before_the_classifier_learns(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("WILSS_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr("wilss_masks.sources.cam.learn.learn", lambda *_: pytest.fail("it learns first"))
    with pytest.raises(WeightsError, match=r"file/cam cannot hold the classifier \(.+\); set WILSS_CACHE to a folder"):
        source(root).prepare("cpu")


def test_a_cache_without_room_is_told_before_the_classifier_learns(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wilss_masks.sources.cam.learn.learn", lambda *_: pytest.fail("it learns first"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(WeightsError, match=r"cannot hold the classifier \(File too large\); set WILSS_CACHE"):
            source(root).prepare("cpu")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_without_a_network_the_trainers_is_taken_and_without_that_it_is_refused(tmp_path: Path) -> None:
    disk.voc(tmp_path / "data", {"a": [1], "b": [2]})
    steps = [{"classes": [1, 2], "supervision": "tags"}, {"classes": [3]}]
    disk.manifest(tmp_path, steps=steps)
    with pytest.raises(ParameterError, match=r"needs a network to learn the tags.*--set backbone="):
        source(tmp_path)
    train = {"backbone": "resnet18", "backbone_args": {"channels": [8, 8, 8, 8]}, "output_stride": 8}
    disk.manifest(tmp_path, steps=steps, train=train)
    backbone = source(tmp_path).backbone
    assert (backbone.name, backbone.stride, backbone.weights) == ("resnet18", 8, "")
    assert "resnet18 begins with random weights" in backbone.lack
    named = source(tmp_path, stride=16, weights="here.safetensors").backbone
    assert (named.name, named.stride, named.weights, named.lack) == ("resnet18", 16, "here.safetensors", "")


def test_weights_that_cannot_be_fetched_are_asked_for_as_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    disk.voc(tmp_path / "data", {"a": [1], "b": [2]})
    disk.manifest(tmp_path, steps=[{"classes": [1, 2], "supervision": "tags"}, {"classes": [3]}])
    for name in ("file", "sha256"):
        with pytest.raises(WeightsError, match=r"offline.*set weights to a local copy.*--set weights=FILE"):
            getattr(source(tmp_path, backbone="resnet18", weights="timm").backbone, name)


@pytest.mark.few(1)
@pytest.mark.parametrize(("affinity", "patches"), [("none", False), ("own", False), ("own", True)])
def test_masks_are_where_the_maps_are_and_the_same_when_made_again(
    root: Path, tmp_path: Path, affinity: str, patches: bool
) -> None:
    values: dict[str, Any] = {"affinity_from": affinity, "cut": 0.4, "patches": patches, "epochs": 0}
    options = Options(device="cpu", keep_scores=True, batch_size=2)
    stores = []
    for name in "ab":
        generate(manifest(root), step=0, source=source(root, **values), out=tmp_path / f"{name}.zarr", options=options)
        stores.append(MaskStore.open(tmp_path / f"{name}.zarr"))
    store = stores[0]
    assert store.vector("shard_digest").tolist() == stores[1].vector("shard_digest").tolist()
    assert not list(store.verify())
    for row in range(len(IMAGES)):
        for place in np.flatnonzero(store.vector("tags")[row]).tolist():
            score, attention = (store.plane(layer, row, place) for layer in ("score", "attention"))
            assert np.nanmin(attention) >= 0
            assert np.nanmax(attention) <= 1
            if affinity == "none":
                np.testing.assert_array_equal(score, attention)
            assert store.plane("mask", row, place).any() == bool(np.nanmax(attention) >= 0.4)


def test_regions_of_a_network_vote(root: Path, tmp_path: Path) -> None:
    folder = str(tiny_networks.eomt(tmp_path / "eomt"))
    asked: dict[str, Any] = {"regions": "eomt", "regions_model": folder, "regions_score": 0.01}
    for name, values in {"plain": {}, "voted": asked}.items():
        made = source(root, **values, epochs=0)
        generate(manifest(root), step=0, source=made, out=tmp_path / f"{name}.zarr", options=Options(device="cpu"))
    plain, voted = (MaskStore.open(tmp_path / f"{name}.zarr") for name in ("plain", "voted"))
    assert (voted.vector("status") == Status.DONE).all()
    assert any((voted.read(name).masks != plain.read(name).masks).any() for name in IMAGES)
    assert "regions_sha256" in voted.attributes


def test_fuse_cuts_kept_maps_again_as_generate_does(root: Path, tmp_path: Path) -> None:
    values: dict[str, Any] = {"epochs": 0, "affinity_from": "own"}
    options = Options(device="cpu", keep_scores=True)
    for name, cut in (("low", 0.2), ("high", 0.6)):
        made = source(root, cut=cut, classes="compete", boundaries="pamr", **values)
        generate(manifest(root), step=0, source=made, out=tmp_path / f"{name}.zarr", options=options)
    low, high = (MaskStore.open(tmp_path / f"{name}.zarr") for name in ("low", "high"))
    fused = fuse(low, tmp_path / "fused.zarr", {"cut": "0.6"}, manifest=manifest(root))
    assert fused.vector("shard_digest").tolist() == high.vector("shard_digest").tolist()
    assert fused.attributes["parameters"] == high.attributes["parameters"]
    with pytest.raises(EncoderError, match=r"--set size needs a forward pass"):
        fuse(low, tmp_path / "other.zarr", {"size": "32"})


def test_rounds_of_learning_are_told_while_they_last(root: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    caplog.set_level("INFO", logger="wilss_masks")
    for module in ("looking", "patches"):
        monkeypatch.setattr(f"wilss_masks.sources.cam.{module}.SECONDS_BETWEEN_LINES", -1.0)
    learn(*taught(root, epochs=0, patches=True, affinity_from="own", patch_rounds=2))
    told = [record.getMessage() for record in caplog.records]
    assert [line.rpartition(",")[0] for line in told if "rounds of" in line] == [
        "rounds of learning patches: 1 of 2",
        "rounds of learning patches: 2 of 2",
    ]
    assert any(line.startswith("looking at patches, round 2 of 2: 9 of 9") for line in told)


def test_an_added_image_is_refused_with_the_reason(root: Path, tmp_path: Path, caplog: Any) -> None:
    """Its classifier would be another one, so that nothing of the store can be kept, with --update either."""
    options = Options(device="cpu", update=True)
    shutil.copytree(root, tmp_path / "pets")
    out = tmp_path / "s.zarr"
    values: dict[str, Any] = {"epochs": 0, "affinity_from": "own"}
    caplog.set_level("INFO", logger="wilss_masks")
    told: list[str] = []
    first = source(root, **values)
    generate(
        manifest(root), step=0, source=first, out=out, options=options, progress=lambda *_: told.append(caplog.text)
    )
    assert "a classifier learns 2 tags from 9 images" in told[0]  # which is no part of the images' rate
    disk.text(tmp_path / "pets/data/ImageSets/Segmentation/train.txt", *list(IMAGES)[:-1])
    fewer = tmp_path / "pets"
    with pytest.raises(StoreError, match=r"classifier.sha256: .* \(learnt from all images and tags of the step:"):
        generate(manifest(fewer), step=0, source=source(fewer, **values), out=out, options=options)


def test_an_image_of_a_class_that_was_not_learnt_fails_by_name(tmp_path: Path) -> None:
    disk.voc(tmp_path / "data", {"a": [1], "b": [3]})
    disk.voc(tmp_path / "data", {"c": [2]}, split="val")
    splits = {"train": "train", "val": "val"}
    disk.manifest(tmp_path, masks={"cam": SMALL}, splits=splits, steps=[{"classes": [1, 2, 3], "supervision": "tags"}])
    options = Options(device="cpu", split="val")
    generate(manifest(tmp_path), step=0, source=source(tmp_path), out=tmp_path / "s.zarr", options=options)
    store = MaskStore.open(tmp_path / "s.zarr")
    assert store.vector("status").tolist() == [Status.FAILED]
    assert "is tagged dog, which no training image of the step shows" in str(store.vector("error")[0])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"stride": 32}, "stride is 32; it must be 8 or 16"),
        ({"cut": 0.0}, "cut is 0.0; it must be above 0"),
        ({"scales": ()}, "scales is ()"),
        ({"mean": (0.5,)}, "mean is (0.5,); it must be three numbers"),
    ],
)
def test_impossible_parameters_are_refused(values: Any, said: str) -> None:
    with pytest.raises(ParameterError) as error:
        CamParams(**values)
    assert said in str(error.value)


def test_images_of_which_nobody_knows_what_they_show_are_none_without_a_class(tmp_path: Path) -> None:
    """Where labels are the tags, those without a label neither teach nor are passed over as untagged."""
    for name, held in {"a": [1], "b": [2], "c": [3], "d": [1, 3], "e": None}.items():
        disk.image(tmp_path / f"data/{name}.jpg")
        if held is not None:
            disk.label(tmp_path / f"data/labels/{name}.png", held)
    steps = [{"classes": [1, 2], "supervision": "pixel"}, {"classes": [3], "supervision": "tags"}]
    file = disk.manifest(tmp_path, layout="folder", tags="masks", splits={"train": ""}, steps=steps)
    few = load_manifest(file)
    assert [record.image_id for record in lessons_of(few, 0, "step").records] == ["a", "b", "d"]
    assert sorted(record.image_id for record in lessons_of(few, 1, "earlier").records) == ["a", "b", "c", "d"]
    problems = {one.image_id: one.problem for one in selection_for(few, 0, StandInSource(), "train").records}
    assert "e.jpg has no tags (from masks)" in str(problems.pop("e"))
    assert problems == {"a": None, "b": None, "d": None}
