"""The drawings as files in the layout of PASCAL VOC 2012, so that one reader serves both."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from PIL import Image

from wilss.data.shapes.drawing import Drawing, draw
from wilss.data.shapes.outlines import CLASS_NAMES
from wilss.data.taxonomy import voc_palette
from wilss.disk import built_beside, waiting_lock
from wilss.errors import ManifestError
from wilss.randomness import seed_for

#: Written last, before the folder gets its name: what is called so without it was made by someone else.
STAMP = "shapes.json"
#: Raised whenever a drawing changes, so that an older folder is drawn again.
_EDITION = 1
_AUTHOR = "wilss.shapes"  # what data drawn by earlier versions says too


def write_voc(root: Path, *, splits: Mapping[str, int], seed: int) -> None:
    """Draw `splits[name]` pictures per split under `root`, with masks, lists and tags.

    The folder appears by one rename when it is complete. One of the same seed and splits is left as it is; one
    that this function drew with others is replaced; anything else is refused. Processes that ask for the same
    folder at once wait for the first.
    """
    stamp = {"drawn_by": _AUTHOR, "edition": _EDITION, "seed": seed, "splits": dict(splits)}
    with waiting_lock(root.with_name(root.name + ".lock")):
        if _stamp_of(root) == stamp:
            return
        _refuse_foreign(root)
        with built_beside(root) as building:
            for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation", "ImageSets/Main"):
                (building / folder).mkdir(parents=True)
            for split, count in splits.items():
                _write_split(building, split, count, split_seed(seed, split))
            (building / STAMP).write_text(json.dumps(stamp, indent=2) + "\n", encoding="utf-8")


def split_seed(seed: int, split: str) -> int:
    """The seed of a split's drawings: splits of one seed share no picture."""
    return seed_for(seed, "shapes", split)


def _write_split(root: Path, split: str, count: int, seed: int) -> None:
    ids = [f"{split}_{index:06d}" for index in range(count)]
    tags = [drawing.tags for drawing in _write_images(root, ids, seed)]
    _write_lines(root / f"ImageSets/Segmentation/{split}.txt", ids)
    for class_id, name in enumerate(CLASS_NAMES[1:], start=1):
        rows = [f"{image} {1 if class_id in seen else -1:2d}" for image, seen in zip(ids, tags, strict=True)]
        _write_lines(root / f"ImageSets/Main/{name}_{split}.txt", rows)


def _write_images(root: Path, ids: list[str], seed: int) -> Iterator[Drawing]:
    palette = voc_palette()
    for index, image_id in enumerate(ids):
        drawing = draw(seed, index)
        picture = Image.fromarray(drawing.image)
        picture.save(root / f"JPEGImages/{image_id}.jpg", quality=95, subsampling=0)
        mask = Image.fromarray(drawing.label, mode="P")
        mask.putpalette(palette)
        mask.save(root / f"SegmentationClass/{image_id}.png")
        yield drawing


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _stamp_of(root: Path) -> object:
    try:
        return json.loads((root / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _refuse_foreign(root: Path) -> None:
    """Never delete what another program put there; an empty folder is nobody's."""
    stamp = _stamp_of(root)
    ours = isinstance(stamp, dict) and stamp.get("drawn_by") == _AUTHOR
    if root.exists() and not ours and not (root.is_dir() and not any(root.iterdir())):
        raise ManifestError(f"{root} exists and was not drawn by wilss; move it away, or give another folder.")
