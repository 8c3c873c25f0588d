"""`pseudoseg`: which terms train what, where labels come from, and runs that go on where they stopped."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.drills import turns
from tests.wilss_train.data.semi.world import IMAGES, PARAMS, inputs, make, masks
from tests.wilss_train.logs import untimed_lines
from wilss.data.images import IMAGENET_MEAN, IMAGENET_STD, normalise
from wilss.data.manifest import load_manifest
from wilss.data.taxonomy import VOID
from wilss.errors import CheckpointError, ParameterError, StoreError
from wilss.models.networks.attention_cam import Labeller, soft_labels
from wilss.models.networks.checkpoint import load_segmenter, read_info
from wilss.models.networks.checkpoint_header import MODEL_FILE
from wilss.models.networks.labeller_file import LABELLER_FILE, load_labeller
from wilss.models.networks.segmenter import build
from wilss.models.networks.spec import SegmenterSpec
from wilss.store import MaskStore
from wilss_masks.make.generate import generate
from wilss_masks.make.options import Options as MaskOptions
from wilss_masks.sources.pseudoseg import PseudosegSource
from wilss_train.context import EpochState
from wilss_train.data.semi.batches import SemiBatch
from wilss_train.methods.alignment import Alignment
from wilss_train.methods.consistency import PseudosegObjective, classes_in
from wilss_train.methods.pseudoseg import Pseudoseg
from wilss_train.results.report.log import LOG_FILE, read_log
from wilss_train.run.fit import Stopped
from wilss_train.run.train import Options, Summary, run_training

QUIET = Options(threads=1, device="cpu", split=None, workers=2)
NOW = EpochState(epoch=3, epochs=10)
TERMS = {
    "fused": {"sup", "cons", "cls", "sgc"},
    "sgc": {"sup", "cons", "cls", "sgc"},
    "decoder": {"sup", "cons"},
    "fixmatch": {"sup", "cons"},
    "none": {"sup"},
}


def batch(known: int = 2, others: int = 3, stored: bool = False, seed: int = 0) -> SemiBatch:
    generator = torch.Generator().manual_seed(seed)

    def pixels(count: int) -> Tensor:
        return torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)

    labels = torch.randint(0, 4, (known, 16, 16), generator=generator, dtype=torch.uint8)
    targets = torch.rand(others if stored else 0, 4, 16, 16, generator=generator).softmax(dim=1).half()
    everywhere = torch.ones(others, 16, 16, dtype=torch.bool)
    return SemiBatch(
        images=pixels(known), labels=labels, inside=torch.ones(known, 16, 16, dtype=torch.bool),
        weak=pixels(0 if stored else others), strong=pixels(others), shown=everywhere[: 0 if stored else others],
        valid=everywhere, targets=targets, image_ids=("a",) * (known + others),
    )  # fmt: skip


def objective(target: str = "fused", **more: Any) -> PseudosegObjective:
    spec = SegmenterSpec(backbone="resnet18", args={"channels": [8, 8, 8, 8]}, head_width=8, num_channels=4)
    student, method = build(spec, seed=0), Pseudoseg(target=target, **more)  # type: ignore[arg-type]
    labeller = Labeller.like(student, width=6, seed=1) if target in ("fused", "sgc") else None
    alignment = Alignment(4, method.align, lambda rows: rows) if method.align else None
    return PseudosegObjective(method, student, labeller, PARAMS, alignment)


def moved(module: nn.Module) -> set[str]:
    """Names of what has a gradient other than 0."""
    return {name for name, p in module.named_parameters() if p.grad is not None and bool(p.grad.abs().sum() > 0)}


@pytest.mark.parametrize("target", TERMS)
def test_terms_of_every_kind_of_labels(target: str) -> None:
    terms = objective(target)(batch(), NOW)
    assert set(terms) == TERMS[target]
    assert all(bool(torch.isfinite(term)) for term in terms.values())


def test_weights_scale_their_terms() -> None:
    whole = objective()(batch(), NOW)
    some = objective(unlabelled=0.5, classes=3.0, attention=0.0)(batch(), NOW)
    torch.testing.assert_close(some["cons"], 0.5 * whole["cons"])
    torch.testing.assert_close(some["cls"], 3 * whole["cls"])
    assert some["sgc"] == 0


def test_the_first_epochs_may_learn_from_labelled_images_alone() -> None:
    quiet = objective(supervised_epochs=2)
    assert set(quiet(batch(), EpochState(epoch=1, epochs=9))) == {"sup", "cls", "sgc"}
    assert set(quiet(batch(), EpochState(epoch=2, epochs=9))) == TERMS["fused"]


def test_queries_keys_and_mapping_learn_from_the_sgc_loss_alone_and_nothing_else_does() -> None:
    made = objective()
    made(batch(), NOW)["sgc"].backward()
    assert {name.removeprefix("labeller.") for name in moved(made)} == {
        "queries.weight", "keys.weight", "mapping.0.weight", "mapping.1.weight", "mapping.1.bias",
    }  # fmt: skip
    for term in ("sup", "cons", "cls"):
        made = objective()
        made(batch(), NOW)[term].backward()
        own = {name for name in moved(made) if name.startswith("labeller.")}
        assert own == ({"labeller.classes.weight", "labeller.classes.bias"} if term == "cls" else set())
        assert any(name.startswith("student.backbone") for name in moved(made))


def test_labels_are_those_of_weak_views_by_the_network_as_it_would_be_used() -> None:
    made, given = objective(temperature=0.7, share=0.3), batch()
    made(given, NOW)  # statistics have moved by now
    targets, valid = made._targets(given)
    assert valid is given.valid
    assert made.training
    made.eval()
    images = normalise(given.weak, IMAGENET_MEAN, IMAGENET_STD)
    with torch.no_grad():
        wanted = soft_labels(made.student, made.labeller, images, Pseudoseg(temperature=0.7, share=0.3).labels)
    wanted = nn.functional.interpolate(wanted, (16, 16), mode="bilinear")
    torch.testing.assert_close(targets, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(3, 16, 16))


def test_a_label_depends_on_no_batch_mate() -> None:
    made, given, other = objective(), batch(), batch(seed=1)
    made(given, NOW)
    mixed = replace(given, weak=torch.cat([given.weak[:1], other.weak[1:]]))
    torch.testing.assert_close(made._targets(given)[0][:1], made._targets(mixed)[0][:1], rtol=1e-4, atol=1e-6)
    of_batch = PseudosegObjective(Pseudoseg(norm="batch"), made.student, made.labeller, PARAMS)
    assert not torch.allclose(of_batch._targets(given)[0][:1], of_batch._targets(mixed)[0][:1], atol=1e-5)


def test_weak_views_move_no_statistics() -> None:
    made, given = objective(), batch()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    made._targets(given)
    assert all(torch.equal(before[name], value) for name, value in made.state_dict().items())


@pytest.mark.parametrize("norm", ["own", "shared"])
def test_strong_views_move_statistics_where_they_share_them(norm: str) -> None:
    given, others = batch(), batch(seed=1).strong
    kept = []
    for strong in (given.strong, others):
        made = objective(strong_norm=norm)
        made(replace(given, strong=strong), NOW)
        kept.append(dict(made.student.named_buffers()))
    assert all(torch.equal(value, kept[1][name]) for name, value in kept[0].items()) == (norm == "own")
    assert Pseudoseg().strong_norm == "shared"


def test_fixmatch_learns_hard_labels_where_the_decoder_is_sure() -> None:
    made, given = objective("fixmatch", threshold=0.3), batch()
    targets, valid = made._targets(given)
    assert set(targets.unique().tolist()) == {0.0, 1.0}
    soft, _ = objective("decoder", temperature=1.0)._targets(given)
    assert torch.equal(targets.argmax(dim=1), soft.argmax(dim=1))
    assert torch.equal(valid, soft.amax(dim=1) >= 0.3)
    none = objective("fixmatch", threshold=1.0)
    assert none(given, NOW)["cons"] == 0


def test_aligned_labels_have_the_classes_of_the_drawn_ones() -> None:
    """Drawn labels of one class alone: soft ones are of that class then, and hard ones where they are surer."""
    given = batch()
    given = replace(given, labels=torch.full_like(given.labels, 2))
    plain, _ = objective("decoder")._targets(given)
    whole, _ = objective("decoder", align=1.0)._targets(given)
    half, _ = objective("decoder", align=0.5)._targets(given)
    shares = [labels.mean(dim=(0, 2, 3))[2].item() for labels in (plain, half, whole)]
    assert shares == sorted(shares)
    assert shares[0] < 0.9
    assert shares[2] > 0.99
    sure = [objective("fixmatch", threshold=0.95, align=share)._targets(given)[1] for share in (0.0, 1.0)]
    assert int(sure[0].sum()) < int(sure[1].sum()) == sure[1].numel()
    stored = replace(batch(stored=True), labels=given.labels)
    assert objective("decoder", targets="store.zarr", align=1.0)._targets(stored)[0].mean(dim=(0, 2, 3))[2] > 0.99


def test_stored_labels_take_the_place_of_made_ones() -> None:
    given = batch(stored=True)
    made = objective("decoder", targets="store.zarr")
    torch.testing.assert_close(made._targets(given)[0], given.targets.float())
    assert set(made(given, NOW)) == {"sup", "cons"}


def test_what_is_not_valid_is_not_learnt() -> None:
    given = batch()
    hidden = replace(given, valid=torch.zeros_like(given.valid), labels=torch.full_like(given.labels, VOID))
    terms = objective()(hidden, NOW)
    assert terms["sup"] == terms["cons"] == terms["sgc"] == 0
    sum(terms.values(), torch.zeros(())).backward()


def test_classes_of_a_label_map() -> None:
    labels = torch.tensor([[[0, 2], [VOID, 2]], [[VOID, VOID], [3, 1]]])
    wanted = [[True, False, True, False], [False, True, False, True]]
    assert classes_in(labels, 4).tolist() == wanted


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"target": "mixed"}, r"target is 'mixed'; choose one of fused, decoder, sgc, fixmatch, none"),
        ({"temperature": 0.0}, r"temperature is 0\.0; it must be above 0"),
        ({"share": 1.5}, r"share is 1\.5"),
        ({"cutout": 2.0}, r"cutout is 2\.0"),
        ({"jitter": (0.5,)}, r"jitter is \(0\.5,\); it must be four numbers"),
        ({"target": "none", "targets": "a.zarr"}, r"`none` learns from none"),
        ({"target": "none", "align": 0.5}, r"align is 0\.5; it must be 0 with target=none"),
    ],
)
def test_parameters_without_meaning_are_refused(values: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        Pseudoseg(**values)


# -- runs ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("pets"))


def method(root: Path, **more: Any) -> Pseudoseg:
    return Pseudoseg(labelled=str(root / "labelled.txt"), width=6, **more)


def run(root: Path, out: Path, *, options: Options = QUIET, made: Pseudoseg | None = None, **changes: Any) -> Summary:
    return run_training(inputs(root), made or method(root), replace(PARAMS, **changes), out, options)


@pytest.fixture(scope="module")
def whole(root: Path) -> Path:
    """A run without an interruption, judged."""
    run(root, root / "whole", options=replace(QUIET, split="val"))
    return root / "whole"


def contents(out: Path) -> tuple[bytes, bytes, list[dict[str, Any]]]:
    return (out / MODEL_FILE).read_bytes(), (out / LABELLER_FILE).read_bytes(), untimed_lines(out / LOG_FILE)


def stop_after(count: int) -> Callable[[], bool]:
    asked = iter(range(1, 10**6))
    return lambda: next(asked) >= count


def test_a_run_is_reproducible_and_says_what_it_is(root: Path, whole: Path, tmp_path: Path) -> None:
    run(root, tmp_path / "again", options=replace(QUIET, workers=1))
    assert contents(tmp_path / "again") == contents(whole)
    info = read_info(whole)
    assert (info.method, info.step, info.iterations) == ("pseudoseg", 0, 12)
    assert info.params["target"] == "fused"
    identity = json.loads((whole / "run.json").read_text())
    assert set(identity["method_inputs"]) == {"labelled"}
    log = read_log(whole / LOG_FILE)
    assert set(log.steps[-1].losses) == {*TERMS["fused"], "total"}
    labeller = load_labeller(info, load_segmenter(info))
    assert labeller.classes.out_features == 2
    assert json.loads((whole / "report.json").read_text())["scores"]["mean_iou"] > 0


# elsewhere in the loop, which all methods share: run/test_fit
@pytest.mark.parametrize("after", turns([1, 7, 11], short=[7]))
def test_stopped_and_gone_on_with_is_uninterrupted(root: Path, whole: Path, tmp_path: Path, after: int) -> None:
    out = tmp_path / "run"
    with pytest.raises(Stopped):
        run(root, out, options=replace(QUIET, asked_to_stop=stop_after(after)))
    run(root, out, options=replace(QUIET, resume=True, workers=3))
    assert contents(out) == contents(whole)


@pytest.mark.wide
def test_the_shares_of_classes_are_part_of_what_a_run_goes_on_with(root: Path, tmp_path: Path) -> None:
    made = method(root, target="decoder", align=1.0)
    run(root, tmp_path / "whole", made=made)
    with pytest.raises(Stopped):
        run(root, tmp_path / "run", made=made, options=replace(QUIET, asked_to_stop=stop_after(7)))
    run(root, tmp_path / "run", made=made, options=replace(QUIET, resume=True))
    assert (tmp_path / "run" / MODEL_FILE).read_bytes() == (tmp_path / "whole" / MODEL_FILE).read_bytes()
    run(root, tmp_path / "plain", made=replace(made, align=0.0))
    assert (tmp_path / "plain" / MODEL_FILE).read_bytes() != (tmp_path / "whole" / MODEL_FILE).read_bytes()


@pytest.mark.few(2)
@pytest.mark.parametrize("target", ["none", "decoder", "fixmatch", "sgc"])
def test_other_targets_run_and_leave_a_labeller_only_where_there_is_one(
    root: Path, tmp_path: Path, target: Any
) -> None:
    run(root, tmp_path / "run", made=method(root, target=target), epochs=1)
    assert (tmp_path / "run" / LABELLER_FILE).exists() == (target == "sgc")


def test_another_list_is_another_run(root: Path, whole: Path, tmp_path: Path) -> None:
    other = tmp_path / "labelled.txt"
    other.write_text("im1\nim2\n")
    with pytest.raises(CheckpointError, match=r"started otherwise: .*labelled"):
        run(root, whole, made=replace(method(root), labelled=str(other)))


def test_stored_targets_are_learnt_from(root: Path, whole: Path, tmp_path: Path) -> None:
    """The walk: a trained run labels all images, and another run learns from its soft labels."""
    store = tmp_path / "soft.zarr"
    soft_store_of(root, whole, store)
    made = method(root, targets=str(store))
    run(root, tmp_path / "run", made=made, epochs=2)
    assert set(read_log(tmp_path / "run" / LOG_FILE).steps[-1].losses) == {"sup", "cons", "total"}
    assert not (tmp_path / "run" / LABELLER_FILE).exists()
    identity = json.loads((tmp_path / "run/run.json").read_text())
    assert identity["method_inputs"]["targets"] == MaskStore.open(store).digest
    with pytest.raises(StoreError, match=r"holds no soft labels of pseudoseg"):
        run(root, tmp_path / "plain", made=method(root, targets=str(masks(root))))


def soft_store_of(root: Path, run: Path, out: Path) -> None:
    manifest = load_manifest(root / "data_manifest.yaml")
    source = PseudosegSource.from_manifest(manifest, 0, {"checkpoint": str(run)})
    generate(manifest, step=0, source=source, out=out, options=MaskOptions(device="cpu", keep_scores=True))


def test_without_consistency_every_image_may_be_labelled(root: Path, tmp_path: Path) -> None:
    every = tmp_path / "every.txt"
    every.write_text("\n".join(IMAGES))
    run(root, tmp_path / "all", made=replace(method(root), labelled=str(every), target="none"), epochs=1)
