"""What `wilss-train` is handed wrong, and what breaks under it: one sentence with the file and the fix each."""

import json
import os
import pickle
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.drills import turns
from tests.faults.cli import Outcome, content
from tests.faults.full_disk import files_of_at_most
from tests.faults.train_cli import IMAGES, STEPS, Result, make_masks, result, wilss_train, words
from tests.faults.train_cli import states as steps_saved
from tests.wilss.data import data_on_disk as disk
from wilss.models.networks.checkpoint_header import MODEL_FILE
from wilss.store.schema import SEAL_KEY
from wilss_train.data.batch_source import Visit
from wilss_train.data.batches import SegBatchSource
from wilss_train.results.report.log import LOG_FILE, read_log
from wilss_train.run import fit, states

Spoil = Callable[[Path], None]
SHORT = ("--epochs", 3)


@pytest.fixture
def root(walked: Path, tmp_path: Path) -> Path:
    """A copy to spoil, but for the run that nothing happened to."""
    return shutil.copytree(
        walked, tmp_path / "with spaces and \u00fcml\u00e4ut", ignore=shutil.ignore_patterns("whole")
    )


def fails(made: Outcome, code: int, *parts: str) -> None:
    """One sentence that has all `parts`, and nothing else but the progress bar."""
    assert made.code == code, made.said
    for part in parts:
        assert part in made.err, made.said
    assert "Traceback" not in made.said
    assert "should not happen" not in made.said
    assert made.err.count("Error: ") == 1


def in_manifest(root: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = root / "data_manifest.yaml"
    said = yaml.safe_load(path.read_text())
    change(said)
    path.write_text(yaml.safe_dump(said, sort_keys=False))


def drop(path: str) -> Spoil:
    def spoil(root: Path) -> None:
        target = root / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()

    return spoil


def truncate(path: str, to: float) -> Spoil:
    def spoil(root: Path) -> None:
        data = (root / path).read_bytes()
        (root / path).write_bytes(data[: int(len(data) * to)])

    return spoil


def flip_a_byte(pattern: str, at: float = 0.5) -> Spoil:
    def spoil(root: Path) -> None:
        path = sorted(file for file in root.glob(pattern) if file.is_file())[0]
        data = bytearray(path.read_bytes())
        data[int(len(data) * at)] ^= 0xFF
        path.write_bytes(data)

    return spoil


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch evil-was-here",)


def pickled(how: str) -> Spoil:
    def spoil(root: Path) -> None:
        path = root / "base" / MODEL_FILE
        path.unlink()
        if how == "torch":
            torch.save({"weights": torch.zeros(2), "evil": Evil()}, path)
        else:
            path.write_bytes(pickle.dumps(Evil()))

    return spoil


def other_names(root: Path) -> None:
    """The checkpoint has learnt a class by another name; store and manifest agree."""
    in_manifest(root, lambda said: said.update(names=["background", "cat", "cow", "horse"]))
    shutil.copy(root / "data/ImageSets/Main/dog_train.txt", root / "data/ImageSets/Main/cow_train.txt")
    shutil.rmtree(root / "masks")
    make_masks(root, 1)


def other_steps(root: Path) -> None:
    in_manifest(root, lambda said: said.update(steps=[{"classes": [1]}, {"classes": [2, 3]}]))


def moved_images(root: Path) -> None:
    (root / "data/JPEGImages").rename(root / "data/Pictures")


def other_tags(root: Path) -> None:
    path = root / "data/ImageSets/Main/horse_train.txt"
    path.write_text(path.read_text().replace(" 1\n", "-1\n", 3))


def step_0_again(root: Path) -> None:
    """The parent has learnt step 1 already."""
    made = wilss_train(*words(root, "learnt", *SHORT, "--method", "finetune"))
    assert made.code == 0, made.said
    shutil.rmtree(root / "base")
    (root / "learnt").rename(root / "base")


@pytest.mark.parametrize(
    ("spoil", "code", "parts"),
    [
        (drop("masks/step-1.zarr"), 1, ["step-1.zarr"]),
        pytest.param(drop("masks/step-1.zarr/zarr.json"), 1, ["step-1.zarr"], marks=pytest.mark.wide),
        (flip_a_byte("masks/step-1.zarr/mask/c/**/*"), 1, ["step-1.zarr is damaged", "make it again"]),
        pytest.param(flip_a_byte("masks/step-1.zarr/zarr.json"), 1, ["step-1.zarr"], marks=pytest.mark.wide),
        (other_steps, 1, ["step-1.zarr holds masks of step 1", "data_manifest.yaml"]),
        (other_tags, 1, ["has no record of 'im00'", "step-1.zarr", "make the masks again"]),
        (moved_images, 1, ["JPEGImages"]),
        (other_names, 1, ["base", "class 2 is 'dog'", "cow"]),
        (step_0_again, 1, ["has learnt step 1", "holds masks of step 1"]),
        (drop("base/" + MODEL_FILE), 1, [MODEL_FILE, "is not there"]),
        (truncate("base/" + MODEL_FILE, 0.0), 1, [MODEL_FILE, "is no safetensors file"]),
        (truncate("base/" + MODEL_FILE, 0.01), 1, [MODEL_FILE, "is damaged"]),
        pytest.param(truncate("base/" + MODEL_FILE, 0.9), 1, [MODEL_FILE, "copy it again"], marks=pytest.mark.wide),
        (flip_a_byte("base/" + MODEL_FILE, 0.9), 1, [MODEL_FILE, "is damaged", "copy it again"]),
        (pickled("torch"), 1, [MODEL_FILE, "is a pickle"]),
        pytest.param(pickled("plain"), 1, [MODEL_FILE, "is a pickle"], marks=pytest.mark.wide),
        (drop("base/memory.zarr"), 1, ["memory.zarr is not there", "paste_probability=0"]),
        (flip_a_byte("base/memory.zarr/image/c/**/*"), 1, ["memory.zarr"]),
    ],
)  # fmt: skip
def test_wrong_to_begin_with(root: Path, spoil: Spoil, code: int, parts: list[str]) -> None:
    spoil(root)
    fails(wilss_train(*words(root, "out", *SHORT)), code, *parts)
    assert not (root / "out" / MODEL_FILE).exists()
    assert not Path("evil-was-here").exists()


def test_a_store_that_is_not_finished(root: Path) -> None:
    path = root / "masks/step-1.zarr/zarr.json"
    said = json.loads(path.read_text())
    said["attributes"].pop(SEAL_KEY)
    path.write_text(json.dumps(said))
    fails(wilss_train(*words(root, "out")), 1, "step-1.zarr", "wilss-masks")


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        (["--set", "contrastiv=1"], ["--set", "'contrastiv'", "contrastive"]),
        (["--set", "alpha"], ["key=value"]),
        (["--set", "alpha=2"], ["alpha is 2.0", "between 0 and 1"]),
        (["--set", "epochs=many"], ["epochs must be a whole number"]),
        (["--method", "fmwis"], ["'fmwis'", "fmwiss"]),
        (["--epochs", 0], ["epochs is 0", "at least 1"]),
        (["--lr", -1], ["lr is -1.0", "above 0"]),
        (["--batch-size", 1], ["two images at a time"]),
        (["--precision", "fp8"], ["fp32"]),
    ],
)
def test_wrong_words(walked: Path, given: list[object], parts: list[str]) -> None:
    fails(wilss_train(*words(walked, "never", *given)), 2, *parts)
    assert not (walked / "never").exists()


def test_a_wrong_entry_of_the_manifest_names_the_manifest(root: Path) -> None:
    in_manifest(root, lambda said: said["train"].update(epoch=3))
    fails(wilss_train(*words(root, "out")), 2, "data_manifest.yaml: train", "'epoch'")


def test_a_backbone_that_there_is_not(root: Path) -> None:
    fails(wilss_train(*words(root, "out", "--backbone", "resnet1800", step=0)), 2, "resnet1800")
    right = wilss_train(*words(root, "out", "--epochs", 1, step=0))
    assert right.code == 0, "a run that never began must not be in the way of the right one"


def test_a_missing_parent_names_the_command_that_makes_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    given = words(root, "out")
    at = given.index("--from")
    made = wilss_train(*given[:at], *given[at + 2 :])
    fails(made, 1, "runs/pets/step-0/model.safetensors is not there", f"wilss-train --masks {root}/masks/step-0.zarr")


def test_step_0_with_a_parent(walked: Path) -> None:
    fails(wilss_train(*words(walked, "never", "--from", walked / "base", step=0)), 1, "leave --from out")


def test_a_folder_with_another_run_or_with_something_else(root: Path) -> None:
    before = content(root / "base")
    fails(wilss_train(*words(root, "base", "--resume")), 1, "started otherwise", "--overwrite", "masks was")
    longer = wilss_train(*words(root, "base", "--resume", "--epochs", 8, step=0))
    fails(longer, 1, "started otherwise", "epochs was 2 and is now 8")
    fails(wilss_train(*words(root, "data")), 1, "is not empty and holds no run", "--out")
    fails(wilss_train(*words(root, "data", "--overwrite")), 1, "is not empty and holds no run", "--out")
    assert content(root / "base") == before
    same = wilss_train(*words(root, "base", step=0))
    assert same.code == 0
    assert "was finished already" in same.out
    assert content(root / "base") == before


@pytest.mark.parametrize("workers", turns([1, 3], short=[3]))
def test_images_that_break_are_named_left_out_and_counted(root: Path, workers: int) -> None:
    """One is damaged before the run, one is no image any more."""
    images = root / "data/JPEGImages"
    (images / "im03.jpg").write_bytes((images / "im03.jpg").read_bytes()[:100])
    (images / "im05.jpg").write_text("<html>404 Not Found</html>")
    made = wilss_train(*words(root, "out", "--workers", workers, "--split", "val"))
    assert made.code == 3, made.said
    assert "Traceback" not in made.said
    for name in ("im03", "im05"):
        assert f"Failed: {name}: {images / name}.jpg" in made.err
    assert made.err.count("Failed: ") == 2
    assert set(read_log(root / "out" / LOG_FILE).failed) == {"im03", "im05"}
    report = json.loads((root / "out/report.json").read_text())
    assert set(report["training"]["failed_images"]) == {"im03", "im05"}
    again = wilss_train(*words(root, "out", "--workers", workers, "--split", "val"))
    assert again.code == 3, "the images are as broken as they were"


def test_an_image_of_another_size_than_its_masks_is_refused(root: Path) -> None:
    """It has been replaced since: its masks are of another picture, and they alone are made again by --update."""
    disk.image(root / "data/JPEGImages/im08.jpg", (20, 20))
    made = wilss_train(*words(root, "out"))
    assert made.code == 1, made.said
    assert f"1 image has another size: {root}/data/JPEGImages/im08.jpg; make" in made.err
    assert "--update" in made.err
    assert "Traceback" not in made.said


def test_an_image_that_breaks_in_the_middle_of_an_epoch(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample, count = SegBatchSource.sample, [0]

    def breaking(source: SegBatchSource, visit: Visit) -> Any:
        count[0] += 1
        if count[0] == 18:
            (root / "data/JPEGImages/im03.jpg").write_bytes(b"")
        return sample(source, visit)

    monkeypatch.setattr(SegBatchSource, "sample", breaking)
    made = wilss_train(*words(root, "out", "--set", "cache_mib=0"))
    assert made.code == 3, made.said
    assert "Failed: im03: " in made.err
    assert read_log(root / "out" / LOG_FILE).steps[-1].step == STEPS


def test_all_images_are_broken(root: Path) -> None:
    for name in IMAGES:
        (root / f"data/JPEGImages/{name}.jpg").write_bytes(b"")
    fails(wilss_train(*words(root, "out")), 1, "cannot be read, so there is nothing to train on")


def test_a_loss_that_is_not_a_number_stops_the_run(root: Path) -> None:
    made = wilss_train(*words(root, "out", "--lr", "1e30", "--set", "save_steps=100"))
    fails(made, 1, "the loss is ", f"at step 1 of {STEPS}", "im", "the last saved state is kept", "--lr")
    assert sum(name in made.err for name in IMAGES) == 4, "the images of the batch"
    assert not steps_saved(root / "out")


def test_weights_that_are_not_finite_are_not_saved(
    root: Path, uninterrupted: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradient of the eighth step is no number, the loss was one."""
    take = fit._Run._take

    def poisoned(run: fit._Run, *given: Any) -> None:
        take(run, *given)
        if run.step == 8:
            with torch.no_grad():
                run._objective.student.classifier.weight.fill_(float("nan"))  # type: ignore[union-attr, operator]

    with monkeypatch.context() as patch:
        patch.setattr(fit._Run, "_take", poisoned)
        fails(wilss_train(*words(root, "out")), 1, "student.classifier.weight are not finite", "is kept")
    assert steps_saved(root / "out") == [4, 6]
    assert wilss_train(*words(root, "out", "--resume")).code == 0
    assert result(root / "out") == uninterrupted


@pytest.mark.parametrize("size", turns([0, 100, 1500, 20_000, 60_000, 250_000], short=[60_000]))
def test_a_full_disk_from_the_start(root: Path, size: int) -> None:
    with files_of_at_most(size):
        made = wilss_train(*words(root, "out", *SHORT))
    if size < 250_000:
        fails(made, 1, "cannot be", str(root / "out"))
        assert not list((root / "out").rglob("*.partial"))
    again = wilss_train(*words(root, "out", *SHORT, "--resume"))
    assert again.code == 0, again.said


def test_a_full_disk_while_a_state_is_saved_leaves_the_old_ones(
    root: Path, uninterrupted: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = states.save_state

    def full(folder: Path, state: states.TrainingState) -> Path:
        with files_of_at_most(10_000 if state.step == 8 else resource.RLIM_INFINITY):
            return save(folder, state)

    with monkeypatch.context() as patch:
        patch.setattr(fit, "save_state", full)
        fails(wilss_train(*words(root, "out")), 1, "step-000000008 cannot be written (File too large)", "--resume")
    assert steps_saved(root / "out") == [4, 6]
    assert wilss_train(*words(root, "out", "--resume")).code == 0
    assert result(root / "out") == uninterrupted


def test_the_newest_state_is_damaged(root: Path, uninterrupted: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(fit._Run, "_agreed", lambda run, *flags: [run.step == 9, flags[1]])
        assert wilss_train(*words(root, "out")).code == 130
    assert steps_saved(root / "out") == [8, 9]
    flip_a_byte("out/state/step-000000009/optimiser.pt")(root)
    assert wilss_train(*words(root, "out", "--resume")).code == 0
    assert result(root / "out") == uninterrupted


def test_a_gpu_without_memory_says_what_makes_it_fit(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(fit._Run, "_take", out_of_memory)
    fails(wilss_train(*words(root, "out")), 1, "accumulate=2", "--crop", "bf16")
