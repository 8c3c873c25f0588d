"""Who may import whom: read from the sources, so that an arrow that runs the other way fails."""

import ast
import functools
import graphlib
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "wilss": ROOT / "pipeline/wilss",
    "wilss_masks": ROOT / "pipeline/wilss_masks",
    "wilss_train": ROOT / "train/wilss_train",
}

#: The floors of each package, lowest first, and the rooms on each: a room imports rooms of lower floors, never one of
#: its own floor or above. The package itself (`__init__`) stands on top and loads what it offers when it is asked for.
FLOORS = {
    "wilss": [
        ["digests", "drawing", "errors", "process", "randomness"],
        ["params", "disk"],
        ["data"],
        ["equations", "store"],
        ["models"],
        ["console"],
    ],
    "wilss_masks": [
        ["stages"],
        ["sources"],
        ["make"],
        ["inspect", "manifest_tools"],
        ["auditing", "tuning", "review"],
        ["exchange"],
        ["revision"],
        ["commands"],
        ["cli"],
    ],
    "wilss_train": [
        ["params", "run_folder"],
        ["data"],
        ["memory"],
        ["inputs"],
        ["context"],
        ["results"],
        ["methods"],
        ["run", "section"],
        ["commands"],
        ["cli"],
        ["__main__"],
    ],
}

#: Which other packages of ours a package may import: the two verbs never meet.
BESIDE = {"wilss": [], "wilss_masks": ["wilss"], "wilss_train": ["wilss"]}

#: Libraries that are at home in few places of ours.
AT_HOME = {
    "click": ["wilss.console", "wilss_masks.commands", "wilss_masks.cli", "wilss_train.commands", "wilss_train.cli"],
    "timm": ["wilss.models"],
    "transformers": ["wilss.models"],
    "open_clip": ["wilss.models.encoders", "wilss_masks.sources"],  # the second for its prompt templates
    "dask": ["wilss_masks"],
    "distributed": ["wilss_masks"],
    "accelerate": ["wilss_train"],
    "obstore": ["wilss.disk"],
}


@functools.cache
def modules() -> tuple[tuple[str, Path], ...]:
    """Every module of ours with its file."""
    return tuple(
        (
            ".".join(
                [package, *(part for part in path.relative_to(folder).with_suffix("").parts if part != "__init__")]
            ),
            path,
        )
        for package, folder in PACKAGES.items()
        for path in sorted(folder.rglob("*.py"))
    )


@functools.cache
def imports_of(module: str, path: Path) -> tuple[str, ...]:
    """Absolute names of all that a module imports at run time, also inside functions."""
    return tuple(_imports_of(module, path))


def _imports_of(module: str, path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.dump(branch.test)
        for node in ast.walk(branch)
    }
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
            home = ".".join(part for part in ([base] if node.level else []) + [node.module or ""] if part)
            yield from (f"{home}.{alias.name}" for alias in node.names)


def within(name: str, ancestor: str) -> bool:
    return name == ancestor or name.startswith(f"{ancestor}.")


def room_of(module: str) -> str:
    """`wilss.data` of `wilss.data.manifest.schema`; the package of itself."""
    return ".".join(module.split(".")[:2])


@functools.cache
def arrows() -> dict[str, frozenset[str]]:
    """Module of ours -> the modules of ours that it imports."""
    known = {module for module, _ in modules()}
    return {
        module: frozenset(nearest(name, known) for name in imports_of(module, path)) - {"", module}
        for module, path in modules()
    }


def nearest(name: str, known: Collection[str]) -> str:
    """The module that an imported name is, or lies in; "" for a library's."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name


@pytest.mark.parametrize("package", FLOORS)
def test_every_room_has_a_floor(package: str) -> None:
    rooms = {room_of(module) for module, _ in modules() if within(module, package)} - {package}
    assert sorted(f"{package}.{room}" for floor in FLOORS[package] for room in floor) == sorted(rooms)


@pytest.mark.parametrize("package", FLOORS)
def test_no_arrow_runs_upward(package: str) -> None:
    level = {f"{package}.{room}": number for number, floor in enumerate(FLOORS[package]) for room in floor}
    level[package] = len(level)
    wrong = [
        f"{module} imports {target}"
        for module, targets in arrows().items()
        for target in targets
        if within(module, package) and within(target, package) and room_of(module) != room_of(target)
        and target != package  # the version
        and level[room_of(target)] >= level[room_of(module)]
    ]  # fmt: skip
    assert not wrong


@pytest.mark.parametrize("package", BESIDE)
def test_the_verbs_never_meet(package: str) -> None:
    allowed = {package, *BESIDE[package]}
    wrong = [
        f"{module} imports {target}"
        for module, targets in arrows().items()
        for target in targets
        if within(module, package) and target.split(".")[0] not in allowed
    ]
    assert not wrong


def test_there_is_no_circle() -> None:
    """Packages count as their `__init__`, which whoever imports a module below runs first."""
    try:
        graphlib.TopologicalSorter(arrows()).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


@pytest.mark.parametrize("library", AT_HOME)
def test_one_place_imports(library: str) -> None:
    importers = {
        module for module, path in modules() if any(within(name, library) for name in imports_of(module, path))
    }
    assert importers, f"nothing imports {library}; is its name still right?"
    assert not {module for module in importers if not any(within(module, home) for home in AT_HOME[library])}


def test_a_leading_underscore_says_what_is_a_modules_own() -> None:
    """No list of names stands beside it but where a package passes names on; nobody imports another module's own."""
    assert not [module for module, path in modules() if path.name != "__init__.py" and "__all__" in path.read_text()]
    names = {name for module, path in modules() for name in imports_of(module, path) if name.split(".")[0] in PACKAGES}
    assert not [name for name in names - {"wilss.__version__"} if name.rpartition(".")[2].startswith("_")]


def test_only_commands_and_the_check_of_a_manifest_look_at_the_table_of_sources() -> None:
    readers = {module for module, path in modules() if "SOURCES" in path.read_text(encoding="utf-8")}
    assert readers == {"wilss_masks.sources", "wilss_masks.sources.section", "wilss_masks.commands.generate"}


TORCHLESS = [
    "wilss.console", "wilss.equations.metrics", "wilss_masks.cli", "wilss_masks.make.generate", "wilss_masks.sources",
    "wilss_train.cli", "wilss_train.data.image_lists",
    *(module for module, _ in modules() if ".commands" in module),
]  # fmt: skip


def test_torch_is_not_imported_before_it_is_needed() -> None:
    """In one process, one after the other; the first that loads it is named."""
    code = (
        "import importlib, sys\n"
        "for module in sys.argv[1:]:\n"
        "  importlib.import_module(module)\n"
        "  if {'torch', 'timm'} & set(sys.modules): sys.exit(module)"
    )
    done = subprocess.run([sys.executable, "-c", code, *TORCHLESS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
