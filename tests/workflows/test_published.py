"""The page of published settings beside the manifests: what it says of them is what a run is trained with."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from wilss.data.manifest import load_manifest
from wilss.params import divided, with_values
from wilss_train.methods import METHODS
from wilss_train.params import TrainParams, from_manifest

WORKFLOWS = Path(__file__).parents[2] / "workflows"
PAGE = (WORKFLOWS / "README.md").read_text(encoding="utf-8")
WALKS = ("voc-15-5", "voc-10-10", "voc-15-1", "coco-voc")
Settings = dict[str, Any]


def column(section: str, title: str) -> Settings:
    """The settings in a column of the table of settings of a section."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    table = text[text.index("\n| setting |") :].split("\n\n")[0]
    header, _, *rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in table.strip().splitlines()]
    assert {len(row) for row in rows} == {len(header)}
    cells = [row[header.index(title)] for row in rows]
    found: Settings = {}
    for words in re.findall(r"`([^`]+)`", " ".join(cells)):
        if not words.startswith("--"):
            found |= yaml.safe_load(words)
    return found


def trained_with(walk: str, step: int, name: str) -> Settings:
    """Every parameter of a step of a walk, the run's and the method's, as JSON values."""
    path = WORKFLOWS / walk / "data_manifest.yaml"
    params, others = from_manifest(load_manifest(path, check_lock=False).train, step=step, where=str(path))
    run, own = divided(TrainParams, others.get(name, {}))
    method = with_values(METHODS[name](), own, where=str(path))
    return {**with_values(params, run, where=str(path)).as_json(), **method.as_json()}


@pytest.fixture(autouse=True)
def _places(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VOC_ROOT", "COCO_ROOT"):
        monkeypatch.setenv(name, "/nowhere")


@pytest.mark.parametrize("walk", WALKS)
@pytest.mark.parametrize(("title", "step"), [("step 0", 0), ("later steps", 1), ("later steps", 5)])
def test_the_walks_over_voc_and_coco_are_as_the_page_says(walk: str, title: str, step: int) -> None:
    told, actual = column("VOC and COCO", title), trained_with(walk, step, "fmwiss")
    assert len(told) >= (17 if step == 0 else 23)
    if walk == "voc-15-1" and step:
        told |= {"batch_norm": "auto"}  # of what is not as published
        protocol = load_manifest(WORKFLOWS / walk / "data_manifest.yaml", check_lock=False).protocol
        assert all(len(protocol.new(later)) == 1 for later in range(1, protocol.num_steps))  # none has other statistics
        assert "| steps of one class (15-1) | none: WILSON cannot learn them | `batch_norm: auto`," in PAGE
    assert told == {name: actual[name] for name in told}


@pytest.mark.parametrize("walk", WALKS)
def test_where_voc_and_coco_differ_and_wilson_are_as_the_page_says(walk: str) -> None:
    told = column("Where VOC and COCO differ, and WILSON as a method", "COCO to VOC" if walk == "coco-voc" else "VOC")
    actual = trained_with(walk, 1, "wilson")
    assert len(told) == 7
    assert told == {name: actual[name] for name in told}
    base = trained_with(walk, 0, "wilson")
    assert all(told[name] == base[name] for name in ("crop", "backbone", "output_stride", "rates"))


@pytest.mark.parametrize("walk", WALKS)
def test_the_other_methods_of_later_steps_are_as_the_page_says(walk: str) -> None:
    told = column("WILSON, MiB and PLOP", "here")
    actual: Settings = {}
    for name in ("wilson", "mib", "plop"):
        actual |= trained_with(walk, 1, name)
    assert len(told) == 9
    assert told == {name: actual[name] for name in told}


def test_pascal_5i_is_as_the_page_says() -> None:
    told, actual = column("PASCAL-5i", "here"), trained_with("voc-5i", 0, "panet")
    assert len(told) >= 20
    assert told == {name: actual[name] for name in told}


def test_the_script_of_pascal_5i_is_as_the_page_says() -> None:
    script = (WORKFLOWS / "voc-5i/run.sh").read_text(encoding="utf-8")
    assert "split=${SPLIT:-train} metric=${METRIC:-panet}\n" in script
    (judging,) = re.findall(r"^tolerating (wilss-eval .*?[^\\])$", script, re.MULTILINE | re.DOTALL)
    words = shlex.split(judging.replace("$split", "train").replace("$metric", "panet"))
    for option in re.findall(r"`(--\S+ \S+)`", PAGE.split("\n## PASCAL-5i\n")[1]):
        name, value = option.split()
        assert words[words.index(name) + 1] == value
    assert '--out "$run" --split "$split"' in script


def test_what_manifest_init_writes_for_a_gpu_is_the_same_schedule() -> None:
    from wilss_masks.manifest_tools.train_block import train_block

    written = yaml.safe_load(train_block("cuda"))["train"]
    network = column("Where VOC and COCO differ, and WILSON as a method", "VOC")
    for title, step in (("step 0", 0), ("later steps", 1)):
        params, _ = from_manifest(written, step=step, where="init")
        settings = {**column("VOC and COCO", title), **network}
        told = {name: value for name, value in settings.items() if name in params.as_json()}
        own = {"batch_norm": "auto"}  # one GPU has the statistics of all
        assert params.as_json() == {**params.as_json(), **told, **own}
