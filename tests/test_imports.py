"""Who may import whom: read from the sources, so that an arrow that runs the other way fails."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "wilss": ROOT / "pipeline/wilss",
    "wilss_masks": ROOT / "pipeline/wilss_masks",
    "wilss_train": ROOT / "train/wilss_train",
}

LEARNING = [
    f"wilss_train.{name}" for name in ("losses", "teacher", "memory", "copy_paste", "batches", "methods", "fit")
]
ON_TOP = ["wilss_train.report", "wilss_train.commands", "wilss_train.cli"]
#: What learns from batches or judges what was learnt: nothing below may import it.
ABOVE_BATCHES = [f"wilss_train.{name}" for name in ("methods", "fit", "evaluate", "predict")] + ON_TOP

#: Module (or package) -> what neither it nor anything below it may import.
FORBIDDEN = {
    "wilss": ["wilss_masks", "wilss_train", "dask", "distributed", "accelerate"],
    "wilss_masks": ["wilss_train"],
    "wilss_train": ["wilss_masks"],
    "wilss.taxonomy": ["wilss.protocol", "wilss.manifest", "wilss.store", "wilss.images", "torch"],
    "wilss.protocol": ["wilss.manifest", "wilss.store", "torch"],
    "wilss.manifest": ["wilss.store", "torch"],
    "wilss.store": ["wilss.manifest", "wilss.equations", "torch"],
    "wilss.equations": ["wilss.manifest", "wilss.store", "wilss.images", "wilss.protocol"],
    "wilss.images": ["wilss.manifest", "wilss.store", "wilss.equations"],
    "wilss.randomness": ["wilss.manifest", "wilss.store", "wilss.equations"],
    "wilss.confusion": ["wilss.manifest", "wilss.store", "torch"],
    "wilss.console": ["wilss.manifest", "wilss.networks", "wilss.equations", "torch"],
    "wilss.networks": ["wilss.manifest", "wilss.console"],
    "wilss.encoders": ["wilss.networks", "wilss.store", "wilss.console"],
    "wilss.tensor_files": ["wilss.encoders", "wilss.networks", "wilss.manifest", "wilss.store"],
    "wilss_masks.sources": ["wilss_masks.run", "wilss_masks.generation", "wilss_masks.cli", "wilss_masks.commands"],
    "wilss_masks.plan": ["torch", "wilss_masks.run", "wilss.encoders"],
    "wilss_masks.run": ["wilss_masks.generation", "wilss_masks.sources.fmwiss", "wilss_masks.sources.annotation"],
    "wilss_masks.generation": ["wilss_masks.cli", "wilss_masks.commands", "wilss_masks.sources.fmwiss"],
    "wilss_train.losses": [
        "wilss.manifest", "wilss.store", "wilss.networks", "wilss_train.teacher", "wilss_train.memory",
        "wilss_train.copy_paste", "wilss_train.batches", *ABOVE_BATCHES,
    ],
    "wilss_train.teacher": ["wilss_train.memory", "wilss_train.batches", *ABOVE_BATCHES],
    "wilss_train.memory": ["wilss_train.losses", "wilss_train.teacher", "wilss_train.batches", *ABOVE_BATCHES],
    "wilss_train.copy_paste": ["wilss_train.losses", "wilss_train.teacher", "wilss_train.batches", *ABOVE_BATCHES],
    "wilss_train.batches": ["wilss_train.losses", "wilss_train.teacher", *ABOVE_BATCHES],
    "wilss_train.methods": ["wilss_train.fit", "wilss_train.evaluate", *ON_TOP],
    "wilss_train.episodes": ["wilss_train.fit", "wilss_train.training", "wilss_train.commands", "wilss_train.cli"],
    "wilss_train.semi": ["wilss_train.methods", "wilss_train.fit", "wilss_train.training", *ON_TOP],
    "wilss_train.fit": ["wilss_train.methods.fmwiss", "wilss_train.commands", "wilss_train.cli"],
    "wilss_train.predict": ["wilss_train.evaluate", *LEARNING, *ON_TOP],
    "wilss_train.evaluate": [*LEARNING, *ON_TOP],
    "wilss_train.report": ["wilss_train.methods", "wilss_train.fit", "wilss_train.commands", "wilss_train.cli"],
}  # fmt: skip

#: Packages that are at home in few places of wilss.
AT_HOME = {
    "click": ["wilss.console"],
    "timm": ["wilss.networks", "wilss.encoders"],
    "open_clip": ["wilss.encoders"],
}


def modules() -> Iterator[tuple[str, Path]]:
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join([package, *(part for part in parts if part != "__init__")]), path


def imports_of(module: str, path: Path) -> Iterator[str]:
    """Absolute names of all that a module imports at run time, also inside functions."""
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
            yield home
            yield from (f"{home}.{alias.name}" for alias in node.names)


def within(name: str, ancestor: str) -> bool:
    return name == ancestor or name.startswith(f"{ancestor}.")


@pytest.mark.parametrize("owner", FORBIDDEN)
def test_no_arrow_runs_the_other_way(owner: str) -> None:
    wrong = [
        f"{module} imports {name}"
        for module, path in modules()
        if within(module, owner)
        for name in imports_of(module, path)
        for forbidden in FORBIDDEN[owner]
        if within(name, forbidden)
    ]
    assert not wrong


@pytest.mark.parametrize("package", AT_HOME)
def test_one_place_of_wilss_imports(package: str) -> None:
    importers = {
        module
        for module, path in modules()
        if within(module, "wilss") and any(within(name, package) for name in imports_of(module, path))
    }
    assert not {module for module in importers if not any(within(module, home) for home in AT_HOME[package])}


def test_only_commands_look_at_the_table_of_sources() -> None:
    readers = {module for module, path in modules() if "SOURCES" in path.read_text(encoding="utf-8")}
    assert readers == {"wilss_masks.sources", "wilss_masks.commands.generate"}


TORCHLESS = [
    "wilss.console", "wilss.confusion", "wilss_masks.cli", "wilss_masks.commands.generate", "wilss_masks.generation",
    "wilss_masks.sources", "wilss_train.cli", "wilss_train.image_lists",
    *(module for module, _ in modules() if within(module, "wilss_train.commands")),
]  # fmt: skip


@pytest.mark.parametrize("module", TORCHLESS)
def test_torch_is_not_imported_before_it_is_needed(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
