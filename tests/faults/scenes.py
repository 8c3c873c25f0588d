"""Everything that wilss writes, as scenes: what is there before, the command, and all that must come of it.

Every scene is played in a folder of its own, on data that are drawn once.
"""

import contextlib
import io
import json
import os
import shutil
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from tests.faults import cli, train_cli
from tests.faults.cli import Outcome, content, generate, wilss_masks
from tests.faults.train_cli import course_of, wilss_train
from tests.wilss.data import data_on_disk as disk
from wilss.console import running
from wilss.data.shapes.voc import write_voc
from wilss.errors import WilssError
from wilss.models.networks.checkpoint_header import MODEL_FILE
from wilss.models.networks.labeller_file import LABELLER_FILE
from wilss.store import MaskStore, MaskStoreWriter, Status
from wilss_masks.review import Correction, Journal

__all__ = ["SCENES", "Scene", "World", "draw_world"]

BROKEN = "im2"
FEW_STEPS = ("--epochs", 1, "--set", "warmup_epochs=0", "--set", "save_steps=1")


@dataclass(frozen=True)
class World:
    """masks: a data set for masks, with finished stores in out/. training: one with masks/ and the run base/."""

    masks: Path
    training: Path


def draw_world(root: Path) -> World:
    """Draw both data sets, and make what scenes begin with."""
    world = World(cli.data_set(root / "masks"), train_cli.data_set(root / "training"))
    assert generate(world.masks, "--keep", "scores", out="out/whole.zarr").code == 0
    assert generate(world.masks, "--set", "threshold=0.7", out="out/other.zarr").code == 0
    assert generate(world.masks, "--keep", "scores", source="fmwiss", out="out/fmwiss.zarr").code == 0
    for step in (0, 1):
        train_cli.make_masks(world.training, step)
    assert wilss_train(*train_cli.words(world.training, "base", *FEW_STEPS[:2], step=0)).code == 0
    made = _train(world, world.training / "earlier", "--seed", 7)
    assert made.code == 0, made.said
    disk.text(world.training / "labelled.txt", *train_cli.IMAGES[:3])
    return world


@dataclass(frozen=True)
class Scene:
    """begin: put what was there before into the folder. play: the command; again: whether it is resumed.
    result: all of the folder that must be the same, however it came about.
    """

    play: Callable[[World, Path, bool], Outcome]
    result: Callable[[Path], Any]
    begin: Callable[[World, Path], None] = lambda world, place: None


def _generate(*words: object, source: str = "standin") -> Callable[[World, Path, bool], Outcome]:
    def play(world: World, place: Path, again: bool) -> Outcome:
        root = place if (place / "data_manifest.yaml").exists() else world.masks
        with mock.patch.dict(os.environ, {"WILSS_CACHE": str(place / "cache")}):
            return generate(root, *words, source=source, out=str(place / "s.zarr"))

    return play


def _store(place: Path) -> Any:
    store = MaskStore.open(place / "s.zarr")
    assert not list(store.verify())
    return content(place / "s.zarr")


def _other_store(world: World, place: Path) -> None:
    shutil.copytree(world.masks / "out/other.zarr", place / "s.zarr")


def _shorter_store(world: World, place: Path) -> None:
    """A store of six images, where there are seven by now."""
    listed = cli.data_set(place) / "data/ImageSets/Segmentation/train.txt"
    lines = listed.read_text().splitlines(keepends=True)
    listed.write_text("".join(lines[:-1]))
    generate(place, "--keep", "scores", out=str(place / "s.zarr"))
    listed.write_text("".join(lines))


def _fixed(world: World, place: Path) -> None:
    """A store whose broken image was fixed since."""
    image = cli.data_set(place) / f"data/JPEGImages/{BROKEN}.jpg"
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    generate(place, out=str(place / "s.zarr"))
    image.write_bytes(whole)


def _left_by_a_kill(world: World, place: Path) -> None:
    shutil.copytree(world.masks / "out/whole.zarr", place / "s.zarr")
    store = MaskStore.open(place / "s.zarr")
    header = types.SimpleNamespace(
        heights=store.vector("height"), widths=store.vector("width"), status=store.vector("status") * 0
    )
    MaskStoreWriter(store).reopen([2], header)  # type: ignore[arg-type]
    (place / "s.zarr/mask/c/2/0/0/0.0123456789abcdef0123456789abcdef.partial").write_bytes(b"half a shard")


def _command(*words: str) -> Callable[[World, Path, bool], Outcome]:
    """{m}: the data set's folder, {p}: the scene's."""

    def play(world: World, place: Path, again: bool) -> Outcome:
        said = [word.format(m=world.masks, p=place) for word in words]
        return wilss_masks(
            *said, *(["--overwrite"] if again and words[0] in ("fuse", "revise", "export", "supports") else [])
        )

    return play


def _files(*names: str) -> Callable[[Path], Any]:
    def result(place: Path) -> Any:
        found = {str(f.relative_to(place)): f.read_bytes() for f in sorted(place.rglob("*")) if f.is_file()}
        wanted = {name: data for name, data in found.items() if name.startswith(names) and not name.endswith(".lock")}
        assert wanted
        return {name: data.replace(str(place).encode(), b"PLACE") for name, data in wanted.items()}

    return result


def _judge(world: World, place: Path, again: bool) -> Outcome:
    """As a page does: a mask is corrected, and another one accepted."""
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        try:
            _judged(world, place)
        except WilssError as error:
            return Outcome(running._tell(error, verbose=False), "", err.getvalue())
    return Outcome(0, "", err.getvalue())


def _judged(world: World, place: Path) -> None:
    store = MaskStore.open(world.masks / "out/whole.zarr")
    journal = Journal.open(store.path, place / "s.review")
    rows, places = np.nonzero(store.vector("tags") & (store.vector("status") == Status.DONE)[:, None])
    for number, (row, category) in enumerate(zip(rows[:2].tolist(), places[:2].tolist(), strict=True)):
        mask = np.eye(*store.read(row).masks.shape[1:], dtype=np.bool_)
        journal.append(
            Correction(
                image_id=store.image_ids[row],
                category=store.category_ids[category],
                verdict="accepted" if number else "corrected",
                mask=None if number else mask,
                author="Ada",
                at=datetime(2026, 11, 29, 12, number, tzinfo=UTC),
                origin="page",
            )
        )
    journal.close()


def _said(place: Path) -> Any:
    (store,) = {json.loads((place / "s.review/review.json").read_text())["digest"]}
    lines = [line for path in (place / "s.review").glob("events-*") for line in path.read_bytes().split(b"\n")[:-1]]
    masks = {path.name: path.read_bytes() for path in (place / "s.review/masks").glob("*.png")}
    return store, {line for line in lines if line.endswith(b"}")}, masks


def _with_manifest(world: World, place: Path) -> None:
    shutil.copy(world.masks / "data_manifest.yaml", place)
    shutil.copy(world.masks / "clip.json", place)
    (place / "data").symlink_to(world.masks / "data")


def _train(world: World, out: Path, *words: object) -> Outcome:
    given = train_cli.words(world.training, str(out), *FEW_STEPS, *words)
    given[given.index("--split") + 1] = "val"
    return wilss_train(*given)


def _training(*words: object) -> Callable[[World, Path, bool], Outcome]:
    def play(world: World, place: Path, again: bool) -> Outcome:
        with _curves():
            return _train(world, place / "run", *words, *(["--resume"] if again and "--overwrite" not in words else []))

    return play


def _semi(world: World, place: Path, again: bool) -> Outcome:
    own = ("--method", "pseudoseg", "--set", f"labelled={world.training / 'labelled.txt'}", "--set", "width=4")
    given = train_cli.words(world.training, str(place / "run"), *own, "--epochs", 2, step=0)
    return wilss_train(*given, *(["--resume"] if again else []))


def _earlier_run(world: World, place: Path) -> None:
    shutil.copytree(world.training / "earlier", place / "run")


def _run(place: Path) -> Any:
    scores = json.loads((place / "run/report.json").read_text())["scores"]
    del scores["seconds"]
    return train_cli.result(place / "run"), scores, (place / "run/done.json").exists()


def _semi_run(place: Path) -> Any:
    run = place / "run"
    return (run / MODEL_FILE).read_bytes(), (run / LABELLER_FILE).read_bytes(), course_of(run)


def _draw_shapes(world: World, place: Path, again: bool) -> Outcome:
    """As a command does that meets a manifest of the built-in data."""
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        try:
            write_voc(place / "shapes", splits={"train": 2}, seed=3)
        except OSError as error:
            return Outcome(running._tell(error, verbose=False), "", err.getvalue())
    return Outcome(0, "", err.getvalue())


@contextlib.contextmanager
def _curves() -> Iterator[None]:
    """TensorBoard's package is an extra; a stand-in writes a file where it would."""

    class Writer:
        def __init__(self, folder: Path, purge_step: int) -> None:
            folder.mkdir(parents=True, exist_ok=True)
            self._events, self._points = folder / "events", b""

        def add_scalar(self, name: str, value: float, step: int) -> None:
            self._points += f"{name} {value} {step}\n".encode()

        def flush(self) -> None:
            with self._events.open("ab") as file:
                file.write(self._points)
            self._points = b""

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    with mock.patch.dict(sys.modules, {"torch.utils.tensorboard": module}):
        yield


SCENES: dict[str, Scene] = {
    "generate": Scene(_generate("--keep", "scores"), _store),
    "generate anew": Scene(_generate("--overwrite"), _store, _other_store),
    "generate what failed": Scene(_generate("--retry-failed"), _store, _fixed),
    "generate after a kill": Scene(_generate("--keep", "scores"), _store, _left_by_a_kill),
    "generate a part": Scene(_generate("--keep", "scores", "--part", "2/2"), _store),
    "generate more": Scene(_generate("--keep", "scores", "--update"), _store, _shorter_store),
    "generate with encoders": Scene(_generate(source="fmwiss"), _store),
    "fuse": Scene(
        _command(
            *("fuse", "{m}/out/fmwiss.zarr", "--out", "{p}/s.zarr", "--set", "threshold=0.6"),
            *("--manifest", "{m}/data_manifest.yaml"),
        ),
        _store,
    ),
    "revise": Scene(
        _command("revise", "{m}/out/whole.zarr", "--out", "{p}/s.zarr", "--review", "{p}/s.review"), _store, _judged
    ),
    "judge": Scene(_judge, _said),
    "export": Scene(_command("export", "voc", "{m}/out/whole.zarr", "{p}/png"), _files("png")),
    "evaluate": Scene(
        _command("evaluate", "{m}/out/whole.zarr", "--manifest", "{m}/data_manifest.yaml", "--json", "{p}/scores.json"),
        _files("scores"),
    ),
    "manifest init": Scene(
        _command("manifest", "init", "{m}/data", "--out", "{p}/new.yaml", "--force"), _files("new.yaml", "data-")
    ),
    "manifest lock": Scene(
        _command("manifest", "lock", "--manifest", "{p}/data_manifest.yaml"),
        _files("data_manifest.lock"),
        _with_manifest,
    ),
    "supports draw": Scene(
        _command(
            "supports",
            "draw",
            "--manifest",
            "{m}/data_manifest.yaml",
            "--step",
            "0",
            "--shots",
            "1",
            "--out",
            "{p}/supports",
        ),
        _files("supports"),
    ),
    "shapes": Scene(_draw_shapes, _files("shapes")),
    "train": Scene(_training("--tensorboard"), _run),
    "train anew": Scene(_training("--overwrite"), _run, _earlier_run),
    "train on few labels": Scene(_semi, _semi_run),
}
