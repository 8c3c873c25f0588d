"""Two processes on one batch, by gloo over the loopback: what one process learns, and one run folder."""

import shutil
import socket
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.drills import forms, turns
from tests.faults.cli import Outcome, start
from tests.faults.train_cli import IMAGES, STEPS, course_of, forked, states, wilss_train, words
from tests.wilss.data import data_on_disk as disk
from wilss.models.networks.checkpoint import load_segmenter, read_info
from wilss.models.networks.checkpoint_header import MODEL_FILE
from wilss.models.networks.norms import set_batch_norm
from wilss.models.networks.segmenter import build
from wilss_train.methods.localizer import Localizer
from wilss_train.methods.teacher import Teacher

FROZEN = ("--set", "batch_norm=frozen", "--lr", "1e-3")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def torchrun(given: list[str]) -> Outcome:
    options = ["--nproc_per_node", "2", "--master_addr", "127.0.0.1", "--master_port", str(free_port())]
    process = start([sys.executable, "-m", "torch.distributed.run", *options, "-m", "wilss_train", *given])
    out, err = process.communicate(timeout=120)
    return Outcome(process.returncode, out, err)


def pair_started(root: Path, out: str, given: list[str], **options: Any) -> list[BaseProcess]:
    """Two processes without a launcher; what they say goes to `root`/`out`-0.txt and -1.txt."""
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    return [
        forked(
            given,
            says=root / f"{out}-{rank}.txt",
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            **options,
        )
        for rank in (0, 1)
    ]


def two_forked(root: Path, out: str, given: list[str], *, code: int = 0, **options: Any) -> str:
    """What the first of two processes said, both of which ended with `code`."""
    pair = pair_started(root, out, given, **options)
    for process in pair:
        process.join(60)
        process.kill()
        process.join()
    said = [(root / f"{out}-{rank}.txt").read_text() for rank in (0, 1)]
    assert [process.exitcode for process in pair] == [code, code], said
    return said[0]


def assert_close(two: Path, one: Path) -> None:
    """Loss terms of the log and weights; both runs take STEPS steps."""
    course = course_of(two)
    lines = [line for line in zip(course, course_of(one), strict=True) if line[0]["kind"] == "step"]
    assert [line["step"] for line, _ in lines] == [10, STEPS]
    for found, wanted in lines:
        assert found["losses"] == pytest.approx(wanted["losses"], rel=1e-4, abs=1e-5)
        assert found["lr"] == wanted["lr"]
    weights, wanted_weights = load_file(two / MODEL_FILE), load_file(one / MODEL_FILE)
    for name, weight in wanted_weights.items():
        np.testing.assert_allclose(weights[name], weight, rtol=1e-4, atol=1e-5, err_msg=name)


def moved(one: Path, before: Path) -> float:
    """The largest change of a weight, else runs that learn nothing would agree. A later head begins as the first."""
    weights, former = load_file(one / MODEL_FILE), load_file(before / MODEL_FILE)
    began = {name: former[name.removeprefix("later.0.")] for name in weights}
    alike = [name for name in weights if weights[name].shape == began[name].shape]
    return max(float(np.abs(weights[name] - began[name]).max()) for name in alike)


def moved_from_start(one: Path) -> float:
    """The same of a run of step 0, whose weights were drawn by its seed."""
    trained = load_segmenter(read_info(one))
    before = build(trained.spec, seed=0).state_dict()
    return max(float((value - before[name]).abs().max()) for name, value in trained.state_dict().items())


@pytest.mark.long
def test_torchrun_with_two_processes_learns_what_one_does(root: Path) -> None:
    given = (*FROZEN, "--set", "teacher=false")
    one = wilss_train(*words(root, "one", *given))
    assert one.code == 0, one.said
    two = torchrun(words(root, "two", *given))
    assert two.code == 0, two.said
    assert_close(root / "two", root / "one")
    assert moved(root / "one", root / "base") > 1e-2
    assert sorted(path.name for path in (root / "two").iterdir()) == sorted(p.name for p in (root / "one").iterdir())
    assert states(root / "two") == states(root / "one")
    assert '"processes": 2' in (root / "two/run.json").read_text()
    assert two.out.count("fmwiss, step 1 of pets") == 1, "only the first process speaks"


def frozen_beside() -> None:
    """Called before: what learns beside the student keeps its statistics; else every process would have its own."""
    for network in (Teacher, Localizer):
        like = network.like
        network.like = lambda *given, like=like, **named: set_batch_norm(like(*given, **named), "frozen")  # type: ignore


def test_the_contrastive_loss_reaches_over_processes(root: Path) -> None:
    """All of FMWISS: points of both processes are compared, and gradients go back to where they came from."""
    given = (*FROZEN, "--set", "contrastive=1", "--set", "warmup_epochs=1")
    process = forked(words(root, "one-whole", *given), says=root / "one-whole.txt", before=frozen_beside)
    process.join()
    two_forked(root, "two-whole", words(root, "two-whole", *given), before=frozen_beside)
    assert_close(root / "two-whole", root / "one-whole")


#: Methods, and whose head their new classes are in.
METHODS = [("distill", "shared"), ("mib", "shared"), ("plop", "shared"), ("wilson", "shared"), ("wilson", "step")]


@pytest.mark.parametrize(
    ("method", "heads"),
    forms(METHODS, short=[("wilson", "step")]) + turns([("distill", "step")], []),
)
def test_other_methods_learn_in_two_processes_what_they_do_in_one(root: Path, method: str, heads: str) -> None:
    early = ("--set", "warmup_epochs=1") if method == "wilson" else ()  # else its student hardly begins
    given, out = ("--method", method, *FROZEN, "--set", f"heads={heads}", *early), f"{method}-{heads}"
    process = forked(words(root, f"one-{out}", *given), says=root / f"one-{out}.txt", before=frozen_beside)
    process.join()
    two_forked(root, f"two-{out}", words(root, f"two-{out}", *given), before=frozen_beside)
    assert_close(root / f"two-{out}", root / f"one-{out}")
    assert moved(root / f"one-{out}", root / "base") > 1e-3  # a hundred times what may differ


#: What a process draws for its part of a batch alone is left out: mates in CutMix, and channels that are dropped. The
#: teacher's labels change on the way, and at so few pixels none is so close a call that rounding decides it.
UNIMATCH = ("threshold=0", "cutmix=0", "dropped=0", "loss_stride=8")


@pytest.mark.parametrize(
    ("method", "own"),
    forms([("unimatch", UNIMATCH)], short=[]) + turns([("pseudoseg", ("width=4",))], short=[]),
)
def test_few_labels_teach_two_processes_what_they_teach_one(root: Path, method: str, own: tuple[str, ...]) -> None:
    """Labelled and other images are shared, and a teacher follows its student in each process."""
    labelled = disk.text(root / "labelled.txt", *IMAGES[:2])  # the other twelve make three steps of an epoch
    values = [word for value in (f"labelled={labelled}", *own) for word in ("--set", value)]
    given = ("--method", method, "--set", "batch_norm=frozen", *values, "--lr", 0.1, "--epochs", STEPS // 3)
    process = forked(words(root, f"one-{method}", *given, step=0), says=root / f"one-{method}.txt")
    process.join()
    two_forked(root, f"two-{method}", words(root, f"two-{method}", *given, step=0))
    assert_close(root / f"two-{method}", root / f"one-{method}")
    assert all(line["losses"]["cons"] > 0.1 for line in course_of(root / f"one-{method}") if "losses" in line)
    assert moved_from_start(root / f"one-{method}") > 1e-2


def test_two_processes_stopped_go_on_to_the_same_bytes(root: Path) -> None:
    given = words(root, "halves", *FROZEN, "--set", "teacher=false")
    two_forked(root, "halves", words(root, "unbroken", *FROZEN, "--set", "teacher=false"))
    first = killed_after_some_states(root, given)
    assert 0 < first < STEPS
    two_forked(root, "halves", [*given, "--resume"])
    assert (root / "halves" / MODEL_FILE).read_bytes() == (root / "unbroken" / MODEL_FILE).read_bytes()
    assert course_of(root / "halves") == course_of(root / "unbroken")


def killed_after_some_states(root: Path, given: list[str]) -> int:
    """The step of the last state of a pair of which the first process died; the launcher would end the other."""
    first, second = pair_started(root, "dead", given, die_at_rename=6)
    first.join(60)
    for process in (second, first):
        process.kill()
        process.join()
    return states(root / "halves")[-1]


def test_a_batch_that_two_processes_cannot_share_is_refused(root: Path) -> None:
    given = words(root, "odd", "--batch-size", "5", *FROZEN)
    said = two_forked(root, "odd", given, code=2)
    assert "batch_size is 5, which 2 processes and accumulate=1 do not share evenly" in said
    assert not (root / "odd").exists()


def test_an_image_that_breaks_in_the_second_process_is_named(root: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(root, tmp_path / "copy", ignore=shutil.ignore_patterns("one*", "two*"))
    (copy / "data/JPEGImages/im03.jpg").write_bytes(b"")
    given = words(copy, "broken", *FROZEN, "--epochs", "2", "--set", "teacher=false")
    pair = pair_started(copy, "broken", given)
    for process in pair:
        process.join(60)
        process.kill()
        process.join()
    said = [(copy / f"broken-{rank}.txt").read_text() for rank in (0, 1)]
    assert [process.exitcode for process in pair] == [3, 0], said
    assert "Failed: im03: " in said[0]
