"""`dir` of each package shows what it offers and nothing else, whatever has been imported; and importing is quick."""

import json
import subprocess
import sys

import pytest

#: Package -> a use of it that loads many of its modules.
USES = {
    "wilss": "package.load_manifest; package.open_masks; import wilss.models.networks.checkpoint",
    "wilss_masks": "package.generate; package.FmwissSource; import wilss_masks.commands.generate, wilss_masks.cli",
    "wilss_train": "package.train; package.load_model; import wilss_train.commands.train, wilss_train.cli",
}
HEAVY = {"torch", "zarr", "timm", "dask", "accelerate", "numpy"}


def run(code: str) -> dict[str, list[str]]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("package", USES)
def test_public_names_are_all_that_is_listed(package: str) -> None:
    code = f"""
import json, sys
import {package} as package
loaded, before = sorted(sys.modules), dir(package)
{USES[package]}
names = {{name: getattr(package, name) for name in package.__all__}}
bare = [name for name, value in names.items() if callable(value) and not value.__doc__]
known = [str(hasattr(package, "nothing"))]
listed = sorted(package.__all__)
print(json.dumps(dict(known=known, loaded=loaded, before=before, after=dir(package), all=listed, bare=bare)))
"""
    told = run(code)
    assert told["before"] == told["after"] == told["all"]
    assert not [name for name in told["all"] if name.startswith("_") and name != "__version__"]
    assert not told["bare"], "they have no docstring"
    assert not HEAVY & set(told["loaded"])
    assert told["known"] == ["False"]
