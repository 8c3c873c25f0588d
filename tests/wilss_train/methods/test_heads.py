"""Steps of one class whose classes have heads of their own: what was learnt before does not move."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.drills import turns
from tests.wilss.data import data_on_disk as disk
from wilss.data.images import normalise
from wilss.data.manifest import load_manifest
from wilss.errors import ParameterError
from wilss.models.networks.checkpoint import load_segmenter, read_info
from wilss.models.networks.checkpoint_header import MODEL_FILE, read_header
from wilss.models.networks.segmenter import Segmenter
from wilss_masks.make.generate import generate
from wilss_masks.make.options import Options as MaskOptions
from wilss_masks.sources.annotation import AnnotationSource
from wilss_train import load_model
from wilss_train.inputs import RunInputs, open_inputs
from wilss_train.memory import MemoryBank
from wilss_train.methods import METHODS, segmenter
from wilss_train.methods.base import Method
from wilss_train.methods.distill import Distill
from wilss_train.methods.finetune import Finetune
from wilss_train.methods.fmwiss import Fmwiss
from wilss_train.methods.mib import Mib
from wilss_train.methods.step_prior import notes
from wilss_train.methods.wilson import Wilson
from wilss_train.params import TrainParams
from wilss_train.results.predict import logits_of
from wilss_train.run.fit import Stopped
from wilss_train.run.identity import as_noted_now, identity_of
from wilss_train.run.settings import settled
from wilss_train.run.train import Options, run_training
from wilss_train.run_folder import MEMORY

#: By picture: cat or dog, on some horse (step 1), on some cow (step 2).
HOLD = {f"im{i}": [1 + i % 2, *[3] * 4 * (i in (2, 5)), *[4] * 4 * (i in (3, 6))] for i in range(8)}
CLASSES = ("background", "cat", "dog", "horse", "cow")
PARAMS = TrainParams(
    backbone="resnet18", backbone_args={"channels": [8, 8, 8, 8], "layers": [1, 1, 1, 1]}, head_width=8, rates=(1, 2),
    crop=16, batch_size=2, epochs=4, lr=0.01, min_area=4, logit_adjustment="never", heads="step",
)  # fmt: skip
QUIET = Options(threads=1, device="cpu", split=None)
METHOD = Fmwiss(warmup_epochs=1, paste_probability=0.8, points=3)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and two steps of one class each."""
    root = tmp_path_factory.mktemp("pets")
    disk.voc(root / "data", HOLD, classes=CLASSES)
    steps = [{"classes": [1, 2]}, {"classes": [3]}, {"classes": [4]}]
    manifest = load_manifest(disk.manifest(root, names=list(CLASSES), tags={"from": "voc-main"}, steps=steps))
    for step in range(3):
        source = AnnotationSource.from_manifest(manifest, step)
        generate(manifest, step=step, source=source, out=masks(root, step), options=MaskOptions(device="cpu"))
        run(root, root / f"step-{step}", step=step)
    return root


def masks(root: Path, step: int) -> Path:
    return root / f"masks/step-{step}.zarr"


def inputs(root: Path, step: int, parent: Path | None = None, method: str = "fmwiss") -> RunInputs:
    parent = root / f"step-{step - 1}" if step and parent is None else parent
    return open_inputs(load_manifest(root / "data_manifest.yaml"), masks(root, step), parent, method)


def run(
    root: Path, out: Path, step: int = 1, *, method: Method = METHOD, parent: Path | None = None,
    options: Options = QUIET, **changes: Any,
) -> Path:  # fmt: skip
    run_training(inputs(root, step, parent, method.name), method, replace(PARAMS, **changes), out, options)
    return out


def network(run: Path) -> Segmenter:
    return load_segmenter(read_info(run))


def logits(run: Path) -> torch.Tensor:
    """Of four random pictures, [4, C, h, w]."""
    images = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found: torch.Tensor = network(run)(normalise(images, read_info(run).mean, read_info(run).std))
    return found


def stop_after(count: int) -> Callable[[], bool]:
    asked = iter(range(1, 10**6))
    return lambda: next(asked) >= count


def test_what_was_learnt_before_says_what_it_said(root: Path) -> None:
    base, one, two = (logits(root / f"step-{step}") for step in range(3))
    for before, after in ((base, one), (one, two)):
        new = before.shape[1]
        assert torch.equal(after[:, :new].argmax(dim=1), before.argmax(dim=1))
        torch.testing.assert_close(after[:, :new].sigmoid(), before.sigmoid() * (1 - after[:, new:].sigmoid()))
    assert network(root / "step-2").spec.heads == (3, 4)


def test_the_backbone_is_the_first_ones_and_new_heads_have_learnt(root: Path) -> None:
    first, last = network(root / "step-0").state_dict(), network(root / "step-2").state_dict()
    assert all(torch.equal(last[name], value) for name, value in first.items())
    one, two = ({name.split(".", 2)[2]: value for name, value in last.items() if name.startswith(f"later.{head}.")}
                for head in (0, 1))  # fmt: skip
    assert one.keys() == two.keys()
    assert not torch.equal(one["body.1.weight"], first["body.1.weight"])
    assert not torch.equal(two["body.1.weight"], one["body.1.weight"])
    assert (len(one["classifier.bias"]), len(two["classifier.bias"])) == (4, 5)


# elsewhere in the loop, which all methods share: run/test_fit
@pytest.mark.few(1)
@pytest.mark.parametrize("after", turns([1, 3], short=[3]))
@pytest.mark.parametrize("step", [1, 2])
def test_stopped_and_gone_on_with_is_uninterrupted(root: Path, tmp_path: Path, step: int, after: int) -> None:
    with pytest.raises(Stopped):
        run(root, tmp_path / "run", step, options=replace(QUIET, asked_to_stop=stop_after(after)))
    run(root, tmp_path / "run", step, options=replace(QUIET, resume=True, workers=3))
    assert (tmp_path / "run" / MODEL_FILE).read_bytes() == (root / f"step-{step}" / MODEL_FILE).read_bytes()
    assert MemoryBank.open(tmp_path / "run" / MEMORY).digest == MemoryBank.open(root / f"step-{step}" / MEMORY).digest


def test_a_state_holds_what_is_trained_alone(root: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        run(root, tmp_path / "run", 2, options=replace(QUIET, asked_to_stop=stop_after(2)))
    (networks,) = (tmp_path / "run/state").rglob("*.safetensors")
    held = load_file(networks).keys()
    assert "student.classifier.bias" in held
    assert not [name for name in held if "backbone" in name]


@pytest.mark.few(1)
@pytest.mark.parametrize("method", [Distill(), Finetune(), Wilson(warmup_epochs=1)], ids=lambda one: one.name)
def test_other_methods_give_their_classes_heads_the_same_way(root: Path, tmp_path: Path, method: Method) -> None:
    one = logits(run(root, tmp_path / "one", method=method, epochs=2))
    assert torch.equal(one[:, :3].argmax(dim=1), logits(root / "step-0").argmax(dim=1))


def test_logits_are_adjusted_by_pictures_in_the_newest_head(root: Path, tmp_path: Path) -> None:
    plain, adjusted = root / "step-2", run(root, tmp_path / "run", 2, logit_adjustment="always")
    shift = read_header(adjusted / MODEL_FILE)["logit_shifts"]["cow"]
    assert shift < 0
    assert "shifts" not in read_header(plain / MODEL_FILE)["spec"]
    assert network(adjusted).spec.shifts == (0.0, shift)
    weights, same = (network(one).state_dict() for one in (adjusted, plain))
    assert all(torch.equal(weights[name], value) for name, value in same.items())
    assert bool((logits(adjusted)[:, 4] < logits(plain)[:, 4]).all())


def test_older_heads_stay_adjusted(root: Path, tmp_path: Path) -> None:
    one = run(root, tmp_path / "one", logit_adjustment="always", prevalence=0.5)
    shifts = network(one).spec.shifts
    assert shifts == (read_header(one / MODEL_FILE)["logit_shifts"]["horse"],)
    assert network(run(root, tmp_path / "two", 2, parent=one)).spec.shifts == (*shifts, 0.0)


def test_what_is_more_usual_than_in_its_step_is_raised_everywhere(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segmenter, "shifts_of", lambda *given, **named: {4: 0.7})
    raised, plain = network(run(root, tmp_path / "run", 2)), network(root / "step-2")
    assert raised.spec.shifts == ()
    biases = (one.state_dict()["later.1.classifier.bias"] for one in (raised, plain))
    torch.testing.assert_close(next(biases) - next(biases), torch.tensor([0, 0, 0, 0, 0.7]), rtol=0, atol=1e-6)


def test_commands_and_functions_read_such_a_checkpoint(root: Path) -> None:
    model = load_model(root / "step-2", device="cpu")
    assert list(model.classes.values()) == list(CLASSES)
    picture = np.random.default_rng(0).integers(256, size=(24, 40, 3), dtype=np.uint8)
    assert model.predict(picture).shape == (24, 40)
    batch = torch.from_numpy(picture)[None]
    assert logits_of(model.network, model.info, batch).shape[1] == 5


def test_one_head_is_what_it_was(root: Path, tmp_path: Path) -> None:
    """What is trained without such heads, and its file, know nothing of them."""
    shared = run(root, tmp_path / "run", heads="shared")
    assert "heads" not in read_header(shared / MODEL_FILE)["spec"]
    assert network(shared).state_dict().keys() == network(root / "step-0").state_dict().keys()


def test_auto_is_decided_by_step_and_parent(root: Path, tmp_path: Path) -> None:
    def decided(inputs: RunInputs, method: Method = METHOD, **changes: Any) -> str:
        return settled(replace(PARAMS, **changes), method, inputs).heads

    assert [decided(inputs(root, step), heads="auto") for step in range(3)] == ["shared", "step", "step"]
    assert decided(inputs(root, 1)) == "step"
    assert decided(inputs(root, 1), Mib(), heads="auto") == "shared"
    params = settled(PARAMS, METHOD, inputs(root, 1))
    assert notes(inputs(root, 1), params)[0].startswith("Backbone and heads that are there stay as they are, and")
    assert notes(inputs(root, 0), settled(PARAMS, METHOD, inputs(root, 0))) == ()


@pytest.mark.parametrize(
    ("step", "method", "heads", "said"),
    [
        (1, "mib", "step", "heads=step is for methods whose outputs are a sigmoid for each class, and mib is none"),
        (2, "mib", "auto", "has heads for single steps, which mib cannot train on; start --from a run that was"),
        (2, "fmwiss", "shared", "has heads for single steps, which heads=shared cannot train on; leave heads out"),
        (2, "pseudoseg", "auto", "has heads for single steps, which pseudoseg cannot train on"),
    ],
)
def test_what_cannot_be_is_refused(root: Path, step: int, method: str, heads: Any, said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        settled(replace(PARAMS, heads=heads), METHODS[method](), inputs(root, step, method=method))


def test_a_run_of_before_is_the_same_run_where_heads_are_shared(root: Path) -> None:
    cases: list[tuple[Any, set[str]]] = [("shared", set()), ("auto", {"heads"})]
    for heads, differs in cases:
        params = settled(replace(PARAMS, heads=heads), METHOD, inputs(root, 1))
        wanted = identity_of(inputs(root, 1), METHOD, params, 0, {})
        noted = {**wanted, "params": {name: value for name, value in wanted["params"].items() if name != "heads"}}
        now = as_noted_now(noted, wanted=wanted, method=METHOD, manifest=inputs(root, 1).manifest)
        assert {name for name, value in wanted["params"].items() if now["params"][name] != value} == differs


@pytest.mark.wide
def test_a_step_of_one_head_may_follow_where_the_parent_has_one(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "step-0", tmp_path / "base")
    one = run(root, tmp_path / "one", parent=tmp_path / "base", heads="shared")
    two = run(root, tmp_path / "two", 2, parent=one)
    assert network(two).spec.heads == (4,)
    assert torch.equal(logits(two)[:, :4].argmax(dim=1), logits(one).argmax(dim=1))
