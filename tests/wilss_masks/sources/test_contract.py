"""What every source of the table offers; `run`, `plan` and the commands rely on it."""

import inspect
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from tests.faults.cli import data_set
from wilss.data.manifest import Manifest, load_manifest
from wilss.errors import ParameterError
from wilss_masks import audit, generate
from wilss_masks.make.plan import make_plan
from wilss_masks.make.request import selection_for
from wilss_masks.sources import SOURCES
from wilss_masks.sources.base import MaskSource

SHOTS = [{"image": f"im{i}", "class": "horse", "box": [1, 1, 6, 6]} for i in range(3)]
#: A step that the source is for. A source that needs a trained network has its own tests.
STEP_OF = {"annotation": 0, "fmwiss": 1, "panet": 1, "insid3": 1}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    root = data_set(tmp_path_factory.mktemp("data"), supports={1: SHOTS})
    return load_manifest(root / "data_manifest.yaml")


def made(name: str, manifest: Manifest, **values: Any) -> MaskSource:
    return SOURCES[name].from_manifest(manifest, STEP_OF[name], values)


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_has_its_name_and_takes_the_words_of_the_command(name: str) -> None:
    kind = SOURCES[name]
    assert kind.name == name
    assert hasattr(kind, "has_void")
    assert list(inspect.signature(kind.from_manifest).parameters) == ["manifest", "step", "values", "seed", "where"]
    assert kind.__doc__


@pytest.mark.parametrize("name", SOURCES)
def test_the_path_of_a_manifest_is_no_manifest(name: str) -> None:
    path: Any = "data_manifest.yaml"
    told = r"is what wilss\.load_manifest\(PATH\) gives, not 'data_manifest\.yaml'; load it first"
    with pytest.raises(ParameterError, match=told):
        SOURCES[name].from_manifest(path, 1)


def test_generate_and_audit_take_no_path_of_a_manifest_either() -> None:
    path: Any = Path("data_manifest.yaml")
    for call in (lambda: generate(path, step=1, source=path), lambda: audit(path)):
        with pytest.raises(ParameterError, match=r"is what wilss\.load_manifest\(PATH\) gives, not PosixPath"):
            call()


@pytest.mark.parametrize("name", STEP_OF)
def test_its_identity_is_plain_and_names_no_place(name: str, manifest: Manifest) -> None:
    identity = made(name, manifest).identity()
    assert json.loads(json.dumps(identity)) == json.loads(json.dumps(made(name, manifest).identity()))
    assert {"parameters", "models"} <= set(identity)
    assert str(manifest.path.parent) not in json.dumps({**identity, "models": {}})
    assert all("sha256" in model for model in identity["models"].values())


@pytest.mark.few(2)
@pytest.mark.parametrize("name", STEP_OF)
def test_it_is_sent_to_workers_prepared(name: str, manifest: Manifest) -> None:
    source = made(name, manifest).prepare("cpu")
    again = pickle.loads(pickle.dumps(source))
    assert again == source
    assert again.identity() == source.identity()


@pytest.mark.parametrize("name", STEP_OF)
def test_a_parameter_that_it_lacks_is_refused_in_a_sentence(name: str, manifest: Manifest) -> None:
    with pytest.raises(ParameterError, match="--word: .*no parameter 'word'") as error:
        SOURCES[name].from_manifest(manifest, STEP_OF[name], {"word": 1}, where="--word")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "values"),
    [("annotation", {}), ("fmwiss", {}), ("panet", {"vit_size": 96}), ("insid3", {"vit_size": 96}),
     ("fmwiss", {"unsure": 0.6})],
)  # fmt: skip
def test_its_contents_are_what_the_plan_asked_for(name: str, values: dict[str, Any], manifest: Manifest) -> None:
    step, source = STEP_OF[name], made(name, manifest, **values).prepare("cpu")
    records = selection_for(manifest, step, source, "train").records[:2]
    ids = manifest.protocol.new(step)
    plan = make_plan(
        step=step,
        records=records,
        categories={identity: manifest.taxonomy.name_of(identity) for identity in ids},
        source=source,
        shard_size=4,
        batch_size=1,
        keep_soft=True,
    )
    proposer = source.open("cpu", 1)
    for task in plan.images:
        (content,) = proposer.propose([task], [proposer.load(task)])
        assert set(content.planes["mask"]) == set(task.categories)
        assert all(mask.shape == (task.height, task.width) for mask in content.planes["mask"].values())
        grid = source.grids(task.height, task.width)
        for layer in ("score", "attention"):
            assert {one.shape for one in content.planes.get(layer, {}).values()} <= {getattr(grid, layer)}
        assert source.has_void == ("void" in content.planes)


def test_without_tags_all_images_and_classes_are_asked(manifest: Manifest, tmp_path: Path) -> None:
    source = SOURCES["panet"].from_manifest(manifest, 1, {"tags": False})
    selection = selection_for(manifest, 1, source, "train")
    assert len(selection.records) == 7
    plan = make_plan(
        step=0,
        records=selection.records,
        categories={1: "cat", 2: "dog"},
        source=source,
        shard_size=4,
        batch_size=2,
        keep_soft=False,
    )
    assert all(task.categories == (0, 1) for task in plan.images)
