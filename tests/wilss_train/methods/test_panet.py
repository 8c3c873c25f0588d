"""PANet's objective against the slow twin, and whole runs of it on a store."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.drills import turns
from tests.faults.train_cli import data_set, make_masks
from tests.references import panet as slow
from tests.wilss.models.encoders.test_identity import noted_before
from tests.wilss_train.data.episodes.pictures import VIT, Pictures, frozen
from tests.wilss_train.logs import untimed_lines
from wilss.data.manifest import Encoders, Manifest, load_manifest
from wilss.data.taxonomy import VOID
from wilss.digests import digest_of_json
from wilss.errors import CheckpointError, ParameterError, StoreError, WeightsError
from wilss.models.encoders.identity import digest_of_encoder
from wilss.models.networks.checkpoint import read_info
from wilss.models.networks.checkpoint_header import MODEL_FILE
from wilss.models.networks.embedding import EmbeddingNet, build_embedding, load_embedding
from wilss.models.networks.embedding_spec import EmbeddingSpec
from wilss_train.context import EpochState, RunContext
from wilss_train.data.episodes.batches import EpisodeBatch, EpisodeBatchSource, EpisodeSample, Shape
from wilss_train.data.episodes.features import FeatureBank
from wilss_train.inputs import RunInputs, open_inputs
from wilss_train.methods.panet import Panet, PanetObjective
from wilss_train.params import TrainParams
from wilss_train.results.report.log import LOG_FILE
from wilss_train.results.report.page import REPORT_FILE
from wilss_train.run.fit import Stopped
from wilss_train.run.train import Options, Summary, run_training
from wilss_train.run_folder import RUN_FILE

FIRST = EpochState(epoch=0, epochs=1)
SPEC = EmbeddingSpec(
    kind="projection", size=0, width=6, depth=2, in_width=12, encoder=digest_of_encoder(VIT, tokens=True)
)


def batch(count: int = 3, **shape: Any) -> EpisodeBatch:
    bank = FeatureBank(frozen(), Pictures(), mib=10)
    maker = EpisodeBatchSource(bank, Pictures().index, Shape(**shape), count=count, batch_size=count, seed=0)
    return next(maker.stream(0, 1))[0]


def objective(net: EmbeddingNet | None = None, **values: Any) -> PanetObjective:
    return PanetObjective(Panet(width=6, **values), net or build_embedding(SPEC, seed=0), TrainParams())


def by_hand(sample: EpisodeSample, net: EmbeddingNet, alpha: float) -> tuple[float, float]:
    """L_seg and L_PAR of one episode."""
    with torch.no_grad():
        query, *supports = (
            net(one[None].float())[0].double().numpy() for one in (sample.query, *sample.supports)
        )  # fmt: skip
    maps, labels = [one.numpy() for one in sample.maps], sample.labels.numpy()
    vectors = slow.prototypes(supports, maps, sample.ways, max(sample.ways))
    on_grid = slow.scores(query, vectors, alpha)
    seg = slow.query_ce(slow.upsampled(on_grid, *labels.shape), labels)
    return seg, slow.alignment_loss(query, on_grid, supports, maps, sample.ways, alpha)


@pytest.mark.few(1)
@pytest.mark.parametrize("shape", [{}, {"shots": 2, "support": "box"}, {"ways": 2, "shots": 2}])
def test_losses_are_the_slow_twins(shape: dict[str, Any]) -> None:
    made, given = objective(), batch(2, **shape)
    terms = made(given, FIRST)
    expected = np.mean([by_hand(sample, made.student, 20.0) for sample in given.samples], axis=0)
    assert terms.keys() == {"seg", "par"}
    assert [terms["seg"].item(), terms["par"].item()] == pytest.approx(expected.tolist(), rel=1e-4)
    doubled = objective(par=2.0)(given, FIRST)
    assert doubled["par"].item() == pytest.approx(2 * terms["par"].item())
    assert objective(par=0.0)(given, FIRST).keys() == {"seg"}


def test_supports_may_be_aligned_by_the_querys_label() -> None:
    """As by a prediction that is right: one of few pixels of the way, whatever the network says."""
    made, given = objective(par_mask="labelled"), batch(2)
    with torch.no_grad():
        expected = []
        for sample in given.samples:
            query, *supports = (made.student(one[None].float())[0].double() for one in (sample.query, *sample.supports))
            shares = [(sample.labels == channel).double() for channel in (0, 1)]
            on_grid = torch.nn.functional.adaptive_avg_pool2d(torch.stack(shares), query.shape[-2:]).numpy()
            maps = [one.numpy() for one in sample.maps]
            features = [one.numpy() for one in supports]
            expected.append(slow.alignment_loss(query.numpy(), on_grid, features, maps, sample.ways, 20.0))
    found = made(given, FIRST)["par"].item()
    assert found == pytest.approx(np.mean(expected), rel=1e-4)
    assert found != pytest.approx(objective()(given, FIRST)["par"].item(), rel=1e-2)


def test_only_the_embedding_is_trained() -> None:
    made = objective()
    terms = made(batch(), FIRST)
    torch.stack(list(terms.values())).sum().backward()
    assert {name for name, one in made.named_parameters() if one.grad is not None} == {
        f"student.head.{place}.{kind}" for place in (0, 2) for kind in ("weight", "bias")
    }
    assert all(bool(one.grad.isfinite().all()) for one in made.parameters() if one.grad is not None)


def test_autocast_does_not_touch_the_scores() -> None:
    made, given = objective(), batch()
    plain = made(given, FIRST)
    with torch.autocast("cpu", torch.bfloat16):
        found = made(given, FIRST)
    assert all(term.dtype == torch.float32 for term in found.values())
    assert found["seg"].item() == pytest.approx(plain["seg"].item(), rel=0.1)


def test_ways_without_a_support_pixel_are_not_asked_for() -> None:
    (sample,) = batch(1, ways=2).samples
    hidden = torch.full_like(sample.maps[1], VOID)
    given = EpisodeBatch((replace(sample, maps=(sample.maps[0], hidden)),))
    terms = objective()(given, FIRST)
    assert all(bool(term.isfinite()) for term in terms.values())
    torch.stack(list(terms.values())).sum().backward()


def test_an_episode_of_void_alone_teaches_nothing() -> None:
    (sample,) = batch(1).samples
    maps = tuple(torch.full_like(one, VOID) for one in sample.maps)
    void = replace(sample, maps=maps, labels=torch.full_like(sample.labels, VOID))
    made = objective()
    terms = made(EpisodeBatch((void,)), FIRST)
    assert terms["seg"].item() == 0
    torch.stack(list(terms.values())).sum().backward()
    assert all(one.grad is None or bool(one.grad.isfinite().all()) for one in made.parameters())


def test_the_vgg_learns_from_images() -> None:
    net = build_embedding(EmbeddingSpec(kind="vgg16", size=24), seed=0)
    bank = FeatureBank(replace_vit(net), Pictures(), mib=10)
    given = next(EpisodeBatchSource(bank, Pictures().index, Shape(), count=1, batch_size=1, seed=0).stream(0, 1))[0]
    assert given.samples[0].query.dtype == torch.uint8
    made = objective(net, embedding="vgg16", size=24)
    terms = made(given, FIRST)
    torch.stack(list(terms.values())).sum().backward()
    first = net.get_parameter("backbone.features.0.weight")
    assert first.grad is not None
    assert bool(first.grad.any())


def replace_vit(net: EmbeddingNet) -> Any:
    from wilss.models.networks.embedding import embedding_of

    return embedding_of(net, None)


def test_learning_lowers_the_loss() -> None:
    made, given = objective(), batch(6)
    optimiser = torch.optim.Adam(made.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        terms = made(given, FIRST)
        optimiser.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimiser.step()
        losses.append(terms["seg"].item())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"embedding": "resnet"}, "embedding is 'resnet'; choose one of projection, vgg16"),
        ({"shots": 0}, "shots is 0"),
        ({"alpha": 0.0}, "alpha is 0.0"),
        ({"par": -1.0}, "par is -1.0"),
        ({"embedding": "vgg16", "size": 4}, "size is 4"),
        ({"support": "dot"}, "support is 'dot'"),
    ],
)
def test_wrong_parameters_are_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        Panet(**values)


# -- runs ---------------------------------------------------------------------------------------------------

METHOD = Panet(size=0, width=6, episodes=6, judged=5)
PARAMS = TrainParams(epochs=4, batch_size=2, lr=0.01, head_lr=1.0, optimiser="adamw", cache_mib=10)
QUIET = Options(threads=1, device="cpu", split=None, workers=2)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = data_set(tmp_path_factory.mktemp("pets"))
    make_masks(root, 0)
    make_masks(root, 1)
    return root


def manifest_of(root: Path) -> Manifest:
    manifest = load_manifest(root / "data_manifest.yaml")
    return replace(manifest, encoders=Encoders(clip=manifest.encoders.clip, vit=VIT))


def inputs(root: Path) -> RunInputs:
    return open_inputs(manifest_of(root), root / "masks/step-0.zarr", None, "panet")


def run(root: Path, out: Path, method: Panet = METHOD, options: Options = QUIET, **changes: Any) -> Summary:
    return run_training(inputs(root), method, replace(PARAMS, **changes), out, options)


@pytest.fixture(scope="module")
def whole(root: Path) -> Path:
    run(root, root / "whole")
    return root / "whole"


def test_a_run_is_reproducible_and_says_what_it_is(root: Path, whole: Path, tmp_path: Path) -> None:
    run(root, tmp_path / "again", options=replace(QUIET, workers=1))
    assert (whole / MODEL_FILE).read_bytes() == (tmp_path / "again" / MODEL_FILE).read_bytes()
    assert untimed_lines(whole / LOG_FILE) == untimed_lines(tmp_path / "again" / LOG_FILE)
    info = read_info(whole)
    assert (info.kind, info.method, info.step, info.iterations) == ("embedding", "panet", 0, 12)
    assert info.params["width"] == 6
    assert info.store_digest == inputs(root).store_digest
    untrained = METHOD.network(manifest_of(root), seed=0)
    loaded = load_embedding(info, VIT)
    assert not torch.equal(loaded.net.get_parameter("head.0.weight"), untrained.get_parameter("head.0.weight"))
    run(root, tmp_path / "other", options=replace(QUIET, seed=1))
    assert (whole / MODEL_FILE).read_bytes() != (tmp_path / "other" / MODEL_FILE).read_bytes()


# elsewhere in the loop, which all methods share: run/test_fit
@pytest.mark.parametrize("after", turns([1, 7], short=[7]))
def test_stopped_and_gone_on_with_is_uninterrupted(root: Path, whole: Path, tmp_path: Path, after: int) -> None:
    with pytest.raises(Stopped):
        run(root, tmp_path / "run", options=replace(QUIET, asked_to_stop=stop_after(after)))
    run(root, tmp_path / "run", options=replace(QUIET, resume=True))
    assert (whole / MODEL_FILE).read_bytes() == (tmp_path / "run" / MODEL_FILE).read_bytes()


def test_a_run_of_before_is_gone_on_with_where_its_frozen_network_computes_the_same(
    root: Path, whole: Path, tmp_path: Path
) -> None:
    """Whatever digest it was noted by."""
    out = Path(shutil.copytree(whole, tmp_path / "run"))
    noted = json.loads((out / RUN_FILE).read_text())
    former = digest_of_json(noted_before(VIT))
    assert noted["method_inputs"]["vit"] != former
    for digest in (former, "0" * 64):
        (out / RUN_FILE).write_text(json.dumps({**noted, "method_inputs": {"vit": digest}}))
        if digest == former:
            assert run(root, out, options=replace(QUIET, resume=True)).was_complete
            continue
        with pytest.raises(CheckpointError, match=r"method_inputs\.vit was"):
            run(root, out, options=replace(QUIET, resume=True))
    pooled = VIT.model_copy(update={"args": {**VIT.args, "global_pool": "avg"}})
    manifest = replace(manifest_of(root), encoders=Encoders(vit=pooled))
    with pytest.raises(CheckpointError, match="tokens of this network were not under its final norm before"):
        METHOD.inputs_as_noted_now({"vit": digest_of_json(noted_before(pooled))}, manifest)
    other = {"vit": "0" * 64}
    assert METHOD.inputs_as_noted_now(other, manifest) == other


def stop_after(count: int) -> Callable[[], bool]:
    asked = iter(range(1, 10**6))
    return lambda: next(asked) >= count


def test_it_is_judged_on_classes_that_it_has_not_seen(root: Path, tmp_path: Path) -> None:
    summary = run(root, tmp_path / "run", options=replace(QUIET, split="val"))
    assert summary.results is not None
    assert summary.results.scores is not None
    assert list(summary.results.scores["iou"]) == ["horse"]
    assert any("foreground mIoU" in line for line in summary.results.table())
    report = json.loads((tmp_path / "run" / REPORT_FILE).read_text())
    assert report["scores"] == summary.results.scores
    again = run(root, tmp_path / "run", options=replace(QUIET, split="val"))
    assert again.was_complete
    assert again.results == summary.results


def test_too_few_images_to_judge_on_are_no_fault_of_the_training(root: Path, tmp_path: Path) -> None:
    summary = run(root, tmp_path / "run", replace(METHOD, shots=5), options=replace(QUIET, split="val"))
    assert summary.results is not None
    assert summary.results.scores is None
    assert "horse is in 2 images, and 5 shots and a query need 6" in summary.results.why_not
    assert (tmp_path / "run" / MODEL_FILE).exists()


def test_what_decides_the_outcome_is_told(root: Path) -> None:
    manifest = manifest_of(root)
    assert METHOD.input_digests(manifest) == {"vit": digest_of_encoder(VIT, tokens=True)}
    assert replace(METHOD, features="keys").input_digests(manifest) == {"vit": digest_of_encoder(VIT)}
    assert Panet(embedding="vgg16", size=24).input_digests(manifest) == {}
    with pytest.raises(WeightsError, match="vgg.pth"):
        Panet(embedding="vgg16", size=24, weights="vgg.pth").input_digests(manifest)


def test_a_later_step_is_refused(root: Path) -> None:
    given = replace(inputs(root), step=1)
    with pytest.raises(StoreError, match="holds step 1, and panet learns to compare from the classes of step 0"):
        METHOD.experiment(RunContext(inputs=given, params=PARAMS, seed=0))


@pytest.mark.wide
def test_the_vgg_trains_on_a_store(root: Path, tmp_path: Path) -> None:
    run(root, tmp_path / "run", Panet(embedding="vgg16", size=16, episodes=2), epochs=1, lr=1e-4)
    info = read_info(tmp_path / "run")
    assert info.spec == EmbeddingSpec(kind="vgg16", size=16)
    found = load_embedding(info).features(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))
    assert found.shape == (1, 512, 2, 2)
    assert bool(F.normalize(found, dim=1).isfinite().all())
