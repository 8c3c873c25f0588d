"""COCO's json files where they do not lie as COCO's do: at the root, beside the images, in a folder of any name."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from wilss.disk import is_file, path_of, walk
from wilss.errors import ManifestError

_DEEPEST = 3
_SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}


def coco_files(root: Path) -> dict[str, Path]:
    """The json files with images, annotations and categories by split. Raises ManifestError where there is none.

    A split is what a part of the path says, first that of the file's name; a file that says none is `train` where it
    is the only one.
    """
    found = [path for path in _jsons(root) if _is_coco(path)]
    if not found:
        raise ManifestError(
            f"{root} has no annotations/instances_*.json, nor another json with images, annotations and categories; "
            "name the folder that holds one."
        )
    if len(found) == 1:
        return {"train": found[0]}
    splits: dict[str, Path] = {}
    for path in found:
        split = _split_of(path.relative_to(root))
        if split in splits:
            raise ManifestError(
                f"{splits[split]} and {path} are both COCO files of {split!r}; move the one away that is not meant."
            )
        splits[split] = path
    return splits


def described(root: Path, path: Path) -> Mapping[str, str]:
    """The split of a json in a manifest: its file, and the folder that its images lie in."""
    content = _content(path) or {}
    names = [str(image.get("file_name")) for image in content.get("images", ())[:20] if isinstance(image, dict)]
    inner = path.parent.relative_to(root).as_posix()
    word = _split_of(path.relative_to(root))
    words = _SPLITS.get(word, (word,))
    places = [inner, *words, *(f"images/{one}" for one in (path.stem, *words)), "images", "JPEGImages", path.stem, "."]
    images = next((place for place in places if names and _hold(root / place, names)), None)
    if images is None:
        images = next((place for place in _folders(root) if names and _hold(root / place, names)), ".")
    return {"images": images, "annotations": path.relative_to(root).as_posix()}


def _hold(folder: Path, names: Iterable[str]) -> bool:
    return all(is_file(folder / name) for name in names)


def _split_of(path: Path) -> str:
    for part in reversed(path.with_suffix("").parts):
        for word in re.split(r"[^a-z]+", part.casefold()):
            split = next((split for split, words in _SPLITS.items() if word in words), None)
            if split is not None:
                return split
    return path.stem


def _jsons(root: Path) -> Iterable[Path]:
    for folder in ("", *_folders(root)):
        yield from sorted(path for path in (root / folder).glob("*.json") if path.is_file())


def _folders(root: Path) -> Iterable[str]:
    for folder, below, _ in walk(root):
        inside = path_of(folder).relative_to(root)
        below[:] = sorted(name for name in below if not name.startswith(".")) if len(inside.parts) < _DEEPEST else []
        if inside.parts:
            yield inside.as_posix()


def _is_coco(path: Path) -> bool:
    content = _content(path)
    return content is not None and all(
        isinstance(content.get(k), list) for k in ("images", "annotations", "categories")
    )


def _content(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
