"""The pages: every command on them can be given, every name and path is there, every table is that of its figures."""

import contextlib
import functools
import importlib
import io
import itertools
import json
import os
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import click
import numpy as np
import pytest
import yaml

from tests.built_in import NARROW, QUICK_SETTINGS, SMALL_NETWORK, built_in_manifest, manifest_of_few
from wilss_masks import cli as masks_cli
from wilss_train import cli as train_cli

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "workflows"))
tables = importlib.import_module("tables")
PAGES = sorted(page for page in tables.pages() if page.name != "LICENSE.md")
#: The walk trains by every method and runs all commands there are.
pytestmark = pytest.mark.timeout(1200)
PROGRAMS = {
    "wilss-masks": masks_cli.main,
    "wilss-train": train_cli.train,
    "wilss-eval": train_cli.evaluate,
    "wilss-predict": train_cli.predict,
    "wilss-memory": train_cli.memory,
}

#: How the other commands of the pages begin.
STARTS = (*PROGRAMS, "make", "python", "pip", "export", "cd", "accelerate", "torchrun")

#: Commands of the pages that are run here, one after the other, in a folder of few and small pictures.
PHOTOGRAPHS = (
    "wilss-masks manifest init --layout folder photos",
    "wilss-masks manifest check",
    "wilss-masks generate --step 0",
    "wilss-masks sheet masks/photos/step-0.zarr",
    "wilss-train --masks masks/photos/step-0.zarr",
    "wilss-predict runs/photos/step-0 new-photos/ --out labels/",
)
SHAPES = (
    "wilss-masks generate --step 0",
    "wilss-train --masks masks/shapes-15-5/step-0.zarr",
    "wilss-masks generate --step 1 --keep scores",
    "wilss-masks evaluate masks/shapes-15-5/step-1.zarr",
    "wilss-masks sheet masks/shapes-15-5/step-1.zarr",
    "wilss-train --masks masks/shapes-15-5/step-1.zarr",
    "wilss-train --masks masks/shapes-15-5/step-1.zarr --parameters",
    "wilss-eval runs/shapes-15-5/step-1",
    "wilss-predict runs/shapes-15-5/step-1 my-photos/ --out labels/",
    "wilss-predict runs/shapes-15-5/step-1 my-photos/ --out labels/ --resume",
    "wilss-memory sheet runs/shapes-15-5/step-1 --out memory.png",
    "wilss-memory info runs/shapes-15-5/step-1",
    "wilss-masks info masks/shapes-15-5/step-1.zarr",
    "wilss-masks evaluate masks/shapes-15-5/step-1.zarr --ablation",
    "wilss-masks evaluate masks/shapes-15-5/step-1.zarr --reliability",
    "wilss-masks sheet masks/shapes-15-5/step-1.zarr --stages",
    "wilss-masks fuse masks/shapes-15-5/step-1.zarr --out other.zarr --set fusion=intersection",
    "wilss-masks suggest masks/shapes-15-5/step-1.zarr --budget 50 --out next.txt",
    "wilss-masks generate --step 1 --keep features --out first.zarr",
    "wilss-masks generate --step 1 --features-from first.zarr --set background=margin --out margin.zarr",
    "wilss-masks suggest first.zarr",
    "wilss-masks revise masks/shapes-15-5/step-1.zarr --out step-1r.zarr",
    "wilss-masks bank masks/shapes-15-5/step-1.zarr --out step-1b.zarr",
    "wilss-masks audit masks/shapes-15-5/step-1.zarr",
    "wilss-masks audit --manifest data_manifest.yaml",
    "wilss-masks review masks/shapes-15-5/step-1.zarr --static page/ --limit 200",
    "wilss-masks verify masks/shapes-15-5/step-1.zarr",
    "wilss-masks export voc masks/shapes-15-5/step-1.zarr out/",
    "wilss-masks export coco masks/shapes-15-5/step-1.zarr step-1.json --instances connected --min-area 20",
    "wilss-masks export cvat masks/shapes-15-5/step-1.zarr step-1.zip",
    "wilss-masks export cvat masks/shapes-15-5/step-1.zarr outlines.xml --shapes polygon --instances connected",
    "wilss-masks export labelstudio masks/shapes-15-5/step-1.zarr tasks.json --images-at s3://bucket/images/",
    "wilss-masks export labelme masks/shapes-15-5/step-1.zarr labelme/ --manifest data_manifest.yaml",
    "wilss-masks export panoptic masks/shapes-15-5/step-1.zarr panoptic.json",
    "wilss-masks export fiftyone masks/shapes-15-5/step-1.zarr fiftyone/ --manifest data_manifest.yaml",
    "wilss-masks export huggingface masks/shapes-15-5/step-1.zarr dataset/ --manifest data_manifest.yaml",
    "wilss-masks export cityscapes masks/shapes-15-5/step-1.zarr cityscapes/",
    "wilss-masks export ade20k masks/shapes-15-5/step-1.zarr ade20k/",
    "wilss-masks export sam masks/shapes-15-5/step-1.zarr regions/",
    "wilss-masks generate --step 1 --update",
    "wilss-masks generate --step 1 --check-digests",
    "wilss-masks generate --step 1 --retry-failed",
    "wilss-masks generate --step 1 --dry-run",
    "wilss-masks generate --step 1 --part 3/64",
    "wilss-masks seal masks/shapes-15-5/step-1.zarr",
    "wilss-masks encoders check",
    "wilss-masks supports draw --step 1 --kind scribble --shots 5 --out supports",
    "wilss-masks supports check supports --step 1",
    "wilss-masks generate --step 1 --source panet --supports supports --out few.zarr",
    "wilss-masks generate --step 1 --source insid3 --supports supports --out clusters.zarr",
    "wilss-train --method panet --masks masks/shapes-15-5/step-0.zarr",
    "wilss-train --method pseudoseg --labelled labelled.txt --masks masks/shapes-15-5/step-0.zarr",
    "wilss-masks generate --step 0 --source pseudoseg --checkpoint runs/shapes-15-5/step-0-pseudoseg --keep scores "
    "--out soft.zarr",
    "wilss-train --method pseudoseg --labelled labelled.txt --masks masks/shapes-15-5/step-0.zarr --targets soft.zarr "
    "--out again",
    "wilss-train --method unimatch --labelled labelled.txt --masks masks/shapes-15-5/step-0.zarr",
    "wilss-masks manifest check",
    "wilss-masks manifest lock",
)

#: Commands that are not run, by how they begin, and why; their options are looked at all the same.
REASONS = {
    "wilss-masks audit step-1.zarr --predictions": "the same with a network: tests/wilss_masks/auditing/test_audit.py",
    "wilss-masks audit --fail-on": "may exit with 1, as it should: tests/wilss_masks/auditing/test_audit.py",
    "wilss-masks encoders list": "builds networks of others: tests/wilss_masks/inspect/test_encoders.py",
    "wilss-masks encoders check vit_small": "needs weights of DINOv3: tests/wilss_masks/inspect/test_encoders.py",
    "wilss-masks manifest init --layout voc": "needs VOC on disk",
    "wilss-masks generate --step 1 --devices": "needs GPUs",
    "wilss-masks generate --step 1 --workers": "processes by Dask: tests/faults/test_workers.py",
    "wilss-masks generate --step 1 --source cam": "a classifier learns first: tests/wilss_masks/sources/test_cam.py",
    "wilss-masks generate --step 1 --source sam3": "needs weights of SAM 3: tests/wilss_masks/sources/test_sam3.py",
    "wilss-masks generate --step 1 --set classes=compete --set regions=sam2": "needs weights of SAM 2: the same",
    "wilss-masks supports check annotated.xml": "drawn in another tool: tests/wilss/data/supports/test_annotated.py",
    "wilss-masks generate --step 1 --source panet --supports annotated.xml": "the same",
    "wilss-masks review masks/shapes-15-5/step-1.zarr": "a server until Ctrl-C: tests/wilss_masks/review",
    "wilss-masks bank first.zarr": "at the size of the kept features: tests/wilss_masks/inspect/test_relabel.py",
    "wilss-masks fuse first.zarr": "needs a file of prompts: tests/wilss_masks/inspect/test_relabel.py",
    "wilss-masks tune": "a search of minutes: tests/wilss_masks/tuning",
    "wilss-train --masks masks/voc-15-5/": "needs VOC on disk",
    "wilss-train --masks masks/voc2012-15-5/": "needs VOC on disk",
    "wilss-eval --episodes": "thousands of episodes: tests/wilss_train/results",
    "wilss-eval --frozen": "thousands of episodes: tests/wilss_train/results",
    "wilss-masks generate --step 1 --out s3://": "needs a bucket: tests/objects",
    "wilss-masks verify s3://": "the same",
    "wilss-train --masks s3://": "the same",
    "accelerate launch": "needs GPUs; two processes: tests/faults/test_train_processes.py",
    "torchrun": "needs GPUs; two processes: tests/faults/test_train_processes.py",
    "make": "sets up an environment, or takes minutes; the walk of `make demo`: tests/workflows/test_walk.py",
    "python workflows/": "hours; tests/workflows has the parts that are quick",
    "workflows/": "hours, or VOC and COCO on disk; the walk: tests/workflows/test_walk.py",
    "pip": "needs a package index",
    "cd workflows/": "needs Slurm",
    "export": "only names where data lie",
}


@dataclass(frozen=True)
class Command:
    """A command line of a page. variables: what stands before it, as in `DEVICES=0,1 run.sh`."""

    page: Path
    words: tuple[str, ...]
    variables: tuple[str, ...] = ()

    def __str__(self) -> str:
        return shlex.join(self.words).replace("'", "")


def commands_of(page: Path) -> Iterator[Command]:
    """Those of bash blocks, and of lines indented by four spaces that begin as a command does."""
    for line in lines_of(page.read_text(encoding="utf-8")):
        words = shlex.split(line, comments=True)
        variables = [word for word in words if re.match(r"[A-Z_]+=", word)]
        words = [word for word in words if word not in variables]
        if words:
            yield Command(page, tuple(words), tuple(variables))


def lines_of(text: str) -> Iterator[str]:
    text = text.replace("\\\n", " ")
    for block in re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        yield from block.splitlines()
    plain = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    for line in re.findall(r"^    (\S.*)", plain, re.MULTILINE):
        first = next((word for word in line.split() if "=" not in word), "")
        if first in STARTS or first.startswith("workflows/"):
            yield line


COMMANDS = [command for page in PAGES for command in commands_of(page)]
RUN = {*PHOTOGRAPHS, *SHAPES}


def test_the_pages_have_commands() -> None:
    for page, least in (("README.md", 12), ("pipeline/README.md", 20), ("train/README.md", 14)):
        assert sum(command.page == ROOT / page for command in COMMANDS) >= least


@pytest.mark.parametrize("text", sorted({str(command) for command in COMMANDS}))
def test_every_command_is_run_or_has_a_reason(text: str) -> None:
    assert text in RUN or any(text.startswith(start) for start in REASONS)


@pytest.mark.parametrize("start", REASONS)
def test_every_reason_is_for_a_command(start: str) -> None:
    assert any(str(command).startswith(start) for command in COMMANDS if str(command) not in RUN)


def test_what_is_run_stands_on_a_page() -> None:
    assert {str(command) for command in COMMANDS} >= RUN


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command.page.parent.name}: {command}")
def test_every_command_can_be_given(command: Command) -> None:
    """Its program, sub-command and options are there."""
    name, *rest = command.words
    if "wilss_train" in rest:  # under a launcher
        name, rest = "wilss-train", rest[rest.index("wilss_train") + 1 :]
    if name in PROGRAMS:
        parse(name, rest)
    elif name == "make":
        made = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert set(rest) <= set(made)
    elif name == "pip":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        asked = {extra for word in rest for extra in re.findall(r"\[(.*)\]", word)}
        assert {part for extra in asked for part in extra.split(",")} <= set(project["optional-dependencies"])
    elif name == "python":
        script = ROOT / rest[0]
        sources = "".join(path.read_text(encoding="utf-8") for path in script.parent.rglob("*.py"))
        known = [word for word in rest[1:] if word.startswith("--") and word not in ("--help", "--check")]
        assert script.is_file()
        assert not [word for word in known if f'"{word}"' not in sources]
    elif name.startswith("workflows/"):
        script, walk = ROOT / name, ROOT / "workflows/walk.sh"
        assert os.access(script, os.X_OK)
        sources = script.read_text(encoding="utf-8") + walk.read_text(encoding="utf-8")
        assert not [word for word in command.variables if word.partition("=")[0] not in sources]
        parse("wilss-train", ["--masks", "m", *(word for word in rest if word.startswith("--") or word.isdigit())])


def parse(program: str, words: list[str]) -> None:
    """Read the words as the program would, and do nothing. Raises click.UsageError for one that is not known."""
    if program == "wilss-masks":
        command: click.Command = masks_cli.cli
        while isinstance(command, click.Group):
            chosen = command.get_command(click.Context(command), words.pop(0))
            assert chosen is not None
            command = chosen
    else:
        module = {"wilss-eval": "evaluate"}.get(program, program.removeprefix("wilss-"))
        command = importlib.import_module(f"wilss_train.commands.{module}").command
        while isinstance(command, click.Group):
            command = command.commands[words.pop(0)]
    command.make_context(program, words, auto_envvar_prefix=None)


# -- the commands that are run --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it said."""

    code: int
    text: str


QUICK = {"WILSS_TRAIN_THREADS": "1", "WILSS_SHEET_COUNT": "2", "WILSS_SUPPORTS_CHECK_CELL": "80"}


def run_all(place: Path, texts: tuple[str, ...], before: dict[str, Any]) -> dict[str, Outcome]:
    """Run commands in the folder `place`; before: what to do before the command of a name."""
    outcomes = {}
    with contextlib.chdir(place), mock.patch.dict(os.environ, QUICK):
        for text in texts:
            before.get(text, lambda: None)()
            program, *words = shlex.split(text)
            said = io.StringIO()
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), pytest.raises(SystemExit) as ended:
                PROGRAMS[program](words)
            outcomes[text] = Outcome(int(ended.value.code or 0), said.getvalue())
            assert ended.value.code in (0, None), f"{text}\n{said.getvalue()}"
    return outcomes


@functools.cache
def photographs() -> list[tuple[Any, list[str]]]:
    """Six pictures and their tags."""
    from PIL import Image

    from wilss.data.shapes.drawing import draw
    from wilss.data.shapes.outlines import CLASS_NAMES

    drawings = [draw(7, number) for number in range(6)]
    return [(Image.fromarray(one.image), [CLASS_NAMES[tag] for tag in one.tags]) for one in drawings]


@pytest.fixture(scope="module")
def own_folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Outcome]]:
    """README's commands for a folder of photographs, word for word, with the package's encoders and a small network."""
    import timm
    import torch

    place = tmp_path_factory.mktemp("own")
    for folder in ("photos", "new-photos"):
        (place / folder).mkdir()
    rows = []
    for number, (picture, tags) in enumerate(photographs()):
        picture.save(place / f"photos/photo{number}.jpg")
        rows.append(f"photo{number}.jpg,{';'.join(tags)}\n")
    photographs()[0][0].save(place / "new-photos/new.jpg")
    (place / "photos/tags.csv").write_text("".join(rows), encoding="utf-8")
    torch.save(timm.create_model("resnet18", **NARROW).state_dict(), place / "weights.pth")

    def small() -> None:
        path = place / "data_manifest.yaml"
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        masks = {"fmwiss": {"clip_size": 0, "vit_size": 96, "templates": "plain"}}
        assert content["train"]["backbone_weights"]
        train = {**SMALL_NETWORK, "backbone_weights": "weights.pth"}
        content |= {"encoders": built_in_manifest()["encoders"], "masks": masks, "train": train}
        path.write_text(yaml.safe_dump(content), encoding="utf-8")

    return place, run_all(place, PHOTOGRAPHS, {"wilss-masks manifest check": small})


def test_a_folder_of_photographs_becomes_masks_a_model_and_label_maps(
    own_folder: tuple[Path, dict[str, Outcome]],
) -> None:
    place, outcomes = own_folder
    assert "6 images, none of them unusable" in outcomes["wilss-masks manifest check"].text
    assert "6 done, 0 failed" in outcomes["wilss-masks generate --step 0"].text
    assert (place / "masks/photos/step-0.png").stat().st_size > 10_000
    assert (place / "runs/photos/step-0/model.safetensors").is_file()
    assert sorted(path.name for path in (place / "labels").iterdir()) == ["new.overlay.jpg", "new.png"]


@pytest.fixture(scope="module")
def built_in_walk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Outcome]]:
    """The other commands of the pages, on few of the built-in pictures."""
    place = tmp_path_factory.mktemp("shapes")
    # the fewest drawings that show all that the commands ask for: of this seed, each class of step 1 is in five of 42,
    # each of step 0 in two, and a tree in the seventh
    manifest_of_few(place, drawn=(42, 4), seed=5386, **QUICK_SETTINGS)
    (place / "my-photos").mkdir()
    photographs()[0][0].save(place / "my-photos/a.jpg")

    def label() -> None:
        from wilss.store import MaskStore

        names = MaskStore.open(place / "masks/shapes-15-5/step-0.zarr").image_ids[:12]
        (place / "labelled.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        shutil.rmtree(place / "labels", ignore_errors=True)

    def judge() -> None:
        from wilss.store import MaskStore
        from wilss_masks import Correction, Journal

        store = MaskStore.open(place / "masks/shapes-15-5/step-1.zarr")
        row, category = np.argwhere(store.vector("area") > 0)[0].tolist()
        Journal.open(store.path).append(
            Correction(
                image_id=store.image_ids[row], category=store.category_ids[category], verdict="rejected",
                author="Ada", at=datetime.now(UTC), origin="page",
            )
        )  # fmt: skip

    labelled, revise = (next(text for text in SHAPES if word in text) for word in ("--labelled", "masks revise"))
    return place, run_all(place, SHAPES, {labelled: label, revise: judge})


def test_the_walk_of_the_pages_goes_through(built_in_walk: tuple[Path, dict[str, Outcome]]) -> None:
    place, outcomes = built_in_walk
    assert (place / "runs/shapes-15-5/step-1/report.html").is_file()
    assert "nothing to do" in outcomes["wilss-masks generate --step 1 --update"].text
    assert "crop = 32" in outcomes["wilss-train --masks masks/shapes-15-5/step-1.zarr --parameters"].text
    assert json.loads((place / "step-1.json").read_text(encoding="utf-8"))["annotations"]


@pytest.mark.parametrize("page", ["pipeline/README.md", "train/README.md", "README.md"])
def test_what_a_page_says_in_python_runs(
    page: str, built_in_walk: tuple[Path, dict[str, Outcome]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wilss_train.run.train.own_cores", lambda: 1)
    place, _ = built_in_walk
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    shutil.copy(place / "my-photos/a.jpg", place / "photo.jpg")
    assert blocks
    for block in blocks:
        shown = re.sub(r"\.plot\(\)", "", block).replace('"epochs": 3', '"epochs": 1')
        with contextlib.chdir(place), contextlib.redirect_stderr(io.StringIO()):
            exec(compile(shown, page, "exec"), {})


# -- names, paths and tables ----------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_and_name_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = {link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link}
    assert not [link for link in links if link and not (page.parent / link).exists()]
    anchors = [link.split("#") for link in re.findall(r"\]\(([^)\s]+#[^)\s]+)\)", text) if "://" not in link]
    assert not [
        (file, anchor) for file, anchor in anchors if anchor not in anchors_of(page.parent / file if file else page)
    ]
    code = set(re.findall(r"`([^`\n]+)`", text))
    paths = {word for word in code if re.fullmatch(r"(tests|workflows|pipeline|train)/[\w./-]+", word)}
    assert not [path for path in paths if not any((base / path).exists() for base in (ROOT, page.parent))]
    names = {word for word in code if re.fullmatch(r"wilss(_masks|_train)?(\.\w+)+", word)}
    assert not [name for name in names if not is_there(name)]


def anchors_of(page: Path) -> set[str]:
    """Of the headings of a page, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def is_there(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part, None)
        return found is not None
    return False


def test_a_name_that_is_not_there_is_found() -> None:
    assert is_there("wilss.equations.kernels.score_map")
    assert not is_there("wilss.equations.fmwiss.nothing")
    assert not is_there("wilss.nothing")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tables_are_those_of_the_figures(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert tables.rendered(page) == text, "run `make tables`"
    assert text.count("<!-- table:") == text.count("<!-- /table -->")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_table_stands_by_itself(page: Path) -> None:
    """Without a blank line before it, or with rows of another one in it, it is shown as text or as a part of that."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    groups = itertools.groupby(text.splitlines(), key=lambda line: line.startswith("|"))
    blocks = [(is_table, list(lines)) for is_table, lines in groups]
    for place, (is_table, lines) in enumerate(blocks):
        if is_table:
            around = [*blocks[place - 1][1][-1:], *(blocks[place + 1][1][:1] if place + 1 < len(blocks) else [])]
            assert not [line for line in around if line and not line.startswith("<!--")], lines[0]
            assert [number for number, line in enumerate(lines) if re.fullmatch(r"[| :-]*--[| :-]*", line)] == [1], (
                lines[0]
            )
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1, lines[0]


def test_a_table_stands_between_its_markers(tmp_path: Path) -> None:
    measured = {"command": "c", "version": "1", "commit": "abc", "date": "2026-01-01", "seeds": 3}
    rows = [
        {"key": "a", "name": "A", "old": {"mean": 1.25, "sd": 0.5}, "new": None},
        {"key": "b", "name": "B", "old": 2.0, "new": {"low": 3, "high": 4}, "bold": True},
        {"key": "c", "name": "C, which is still to be measured"},
    ]
    figures = {"measured": measured, "columns": {"old": "old", "new": "new"}, "rows": rows}
    (tmp_path / "f.json").write_text(tables.as_text(figures), encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table: f.json rows=b,c,a -->\nformer\n<!-- /table -->\nafter\n", encoding="utf-8")
    assert tables.rendered(page).splitlines() == [
        "before", "<!-- table: f.json rows=b,c,a -->", "| | old | new |", "|---|---|---|", "| **B** | 2.0 | 3 to 4 |",
        "| A | 1.2 ± 0.5 | - |", "",
        "Measured by `c`, wilss 1 (abc), 2026-01-01, three seeds: mean ± standard deviation.",
        "<!-- /table -->", "after",
    ]  # fmt: skip


def test_every_line_of_the_speed_table_was_measured() -> None:
    """But those of a GPU, as long as there was none."""
    figures = json.loads((ROOT / "workflows/benchmark/figures.json").read_text(encoding="utf-8"))
    shown = tables.table_of(figures, ["speed"]).splitlines()
    from parts.speed_table import LINES

    parts = {row["part"] for row in figures["rows"]}
    assert len(shown) == len([part for _, part, _ in LINES if part in parts or part != "gpu"]) + 4


def test_the_first_page_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 160
