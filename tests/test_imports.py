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

#: Module (or package) -> what neither it nor anything below it may import.
FORBIDDEN = {
    "wilss": ["wilss_masks", "wilss_train", "click", "dask", "distributed", "open_clip", "timm"],
    "wilss_masks": ["wilss_train"],
    "wilss_train": ["wilss_masks"],
    "wilss.taxonomy": ["wilss.protocol", "wilss.manifest", "wilss.store", "wilss.images", "torch"],
    "wilss.protocol": ["wilss.manifest", "wilss.store", "torch"],
    "wilss.manifest": ["wilss.store", "torch"],
    "wilss.store": ["wilss.manifest", "wilss.equations", "torch"],
    "wilss.equations": ["wilss.manifest", "wilss.store", "wilss.images", "wilss.protocol"],
    "wilss.images": ["wilss.manifest", "wilss.store", "wilss.equations"],
    "wilss.randomness": ["wilss.manifest", "wilss.store", "wilss.equations"],
    "wilss_masks.encoders": ["wilss_masks.sources", "wilss_masks.run", "wilss_masks.plan", "wilss_masks.cli"],
    "wilss_masks.sources": ["wilss_masks.run", "wilss_masks.generation", "wilss_masks.cli", "wilss_masks.commands"],
    "wilss_masks.plan": ["torch", "wilss_masks.run", "wilss_masks.encoders"],
    "wilss_masks.run": ["wilss_masks.generation", "wilss_masks.sources.fmwiss", "wilss_masks.sources.annotation"],
    "wilss_masks.generation": ["wilss_masks.cli", "wilss_masks.commands", "wilss_masks.sources.fmwiss"],
}  # fmt: skip


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


def test_only_commands_look_at_the_table_of_sources() -> None:
    readers = {module for module, path in modules() if "SOURCES" in path.read_text(encoding="utf-8")}
    assert readers == {"wilss_masks.sources", "wilss_masks.commands.generate"}


@pytest.mark.parametrize(
    "module", ["wilss_masks.cli", "wilss_masks.commands.generate", "wilss_masks.generation", "wilss_masks.sources"]
)
def test_torch_is_not_imported_before_it_is_needed(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
