"""A validation split for data that has none: drawn by seed and image, and written down as two lists."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wilss.data.layouts import DataSpec, ImageRecord
from wilss.data.manifest import Manifest
from wilss.disk import is_folder, write_output
from wilss.errors import ManifestError
from wilss.randomness import seed_for

from .text import flow

#: Fewer images with labels are not divided.
_FEWEST = 5
_LINE = re.compile(r"^splits: \{.*\}$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class DrawnSplit:
    """text: the manifest with both splits. lists: the ids of each split, by the file that is to hold them."""

    text: str
    lists: Mapping[Path, Sequence[str]]
    sentence: str


def draw_validation(manifest: Manifest, text: str, *, share: float, seed: int) -> DrawnSplit | None:
    """`share` of the labelled images of `train` as `val`; None where there is a val, or too little to judge on.

    text: of the manifest, as `init` wrote it.
    """
    (name, spec) = next(iter(manifest.data.items()))
    if "val" in spec.splits or share <= 0:
        return None
    records = manifest.listing(name, "train").records
    chosen = choose(records, share, seed)
    if not chosen:
        return None
    files = {split: f"{manifest.name}-{split}.txt" for split in ("train", "val")}
    splits = ", ".join(f"{split}: {flow(_split(spec, file))}" for split, file in files.items())
    others = "".join(f", {split}: {flow(_kept(spec, split))}" for split in spec.splits if split != "train")
    said = f"val is {len(chosen)} of {len(records)} images, drawn from those with labels by seed {seed}"
    return DrawnSplit(
        text=_LINE.sub(
            lambda _: f"# {said} (manifest init --val {share:g} --seed {seed}).\nsplits: {{{splits}{others}}}", text
        ),
        lists={
            manifest.path.parent / files["train"]: [r.image_id for r in records if r.image_id not in chosen],
            manifest.path.parent / files["val"]: [r.image_id for r in records if r.image_id in chosen],
        },
        sentence=f"{said}: {files['train']}, {files['val']}.",
    )


def save_lists(lists: Mapping[Path, Sequence[str]], *, overwrite: bool = False) -> None:
    """Write lists of ids. Raises ManifestError for one that is there and says something else, unless `overwrite`."""
    contents = {path: "".join(f"{image_id}\n" for image_id in ids).encode() for path, ids in lists.items()}
    for path, content in contents.items():
        if not overwrite and path.exists() and path.read_bytes() != content:
            raise ManifestError(f"{path} exists; pass --force to replace it, or --val 0 to draw no validation split.")
    for path, content in contents.items():
        write_output(path, content)


def choose(records: Iterable[ImageRecord], share: float, seed: int) -> frozenset[str]:
    """The ids of the images that are to be judged on: `share` of them, or as many as show every class.

    A class that one image alone has is learnt and not judged. The order is that of `seed_for(seed, "val", id)`, so that
    it is the same on every machine.
    """
    usable = (record for record in records if record.label is not None and record.problem is None)
    drawn = sorted(usable, key=lambda record: (seed_for(seed, "val", record.image_id), record.image_id))
    if len(drawn) < _FEWEST:
        return frozenset()
    left = Counter(identity for record in drawn for identity in record.tags)
    chosen: set[str] = set()
    for wanted in (set(left), None):  # first those that show a class for the first time
        for record in drawn:
            enough = wanted is None and len(chosen) >= math.ceil(share * len(drawn))
            new = wanted is None or not wanted.isdisjoint(record.tags)
            if (
                not enough
                and new
                and record.image_id not in chosen
                and all(left[identity] > 1 for identity in record.tags)
            ):
                chosen.add(record.image_id)
                left.subtract(record.tags)
                wanted = wanted and wanted.difference(record.tags)
    return frozenset(chosen)


def _split(spec: DataSpec, file: str) -> str | Mapping[str, str]:
    """The split `train` with the list `file` in the place of its own."""
    train = spec.splits["train"]
    folder = train.images
    if spec.layout == "folder" and folder is None and train.list and is_folder(spec.root / train.list):
        folder = train.list
    annotations = train.annotations
    if spec.layout == "coco" and annotations is None:
        annotations = f"annotations/instances_{train.list}.json"
    keys = {"list": file, "images": folder, "labels": train.labels, "annotations": annotations}
    written = {key: value for key, value in keys.items() if value}
    return file if len(written) == 1 else written


def _kept(spec: DataSpec, split: str) -> str | Mapping[str, str]:
    chosen = spec.splits[split]
    keys = ("list", "images", "labels", "annotations")
    written = {key: str(getattr(chosen, key)) for key in keys if getattr(chosen, key)}
    return written.get("list", "") if set(written) <= {"list"} else written
