"""`dir` of each package shows what it offers and nothing else, whatever has been imported; and importing is quick."""

import importlib
import json
import pkgutil
import subprocess
import sys

import pytest

#: Package -> some of its modules that load many others.
LOADING = {
    "wilss": ["wilss.models.networks.checkpoint"],
    "wilss_masks": ["wilss_masks.commands.generate", "wilss_masks.cli"],
    "wilss_train": ["wilss_train.run.train", "wilss_train.commands.train", "wilss_train.cli"],
}
HEAVY = {"torch", "zarr", "timm", "dask", "accelerate", "numpy"}


@pytest.mark.parametrize("name", LOADING)
def test_public_names_are_all_that_is_listed(name: str) -> None:
    package = importlib.import_module(name)
    for module in LOADING[name]:
        importlib.import_module(module)
    public = {each: getattr(package, each) for each in package.__all__}
    assert dir(package) == sorted(package.__all__)
    assert not [each for each in public if each.startswith("_") and each != "__version__"]
    assert not [each for each, value in public.items() if callable(value) and not value.__doc__], "no docstring"
    assert not hasattr(package, "nothing")


@pytest.mark.parametrize("name", LOADING)
def test_every_room_has_the_names_that_it_lists(name: str) -> None:
    rooms = [room for room in pkgutil.walk_packages(importlib.import_module(name).__path__, f"{name}.") if room.ispkg]
    for room in rooms:
        module = importlib.import_module(room.name)
        assert not [each for each in getattr(module, "__all__", ()) if not hasattr(module, each)], room.name


@pytest.mark.parametrize("name", LOADING)
def test_importing_a_package_loads_nothing_heavy(name: str) -> None:
    code = f"import json, sys, {name} as package; print(json.dumps([dir(package), sorted(sys.modules)]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    listed, loaded = json.loads(done.stdout)
    assert listed == sorted(importlib.import_module(name).__all__)
    assert not HEAVY & set(loaded)
