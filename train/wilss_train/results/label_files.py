"""Predicted label maps as files: palette PNGs with taxonomy ids, overlays for people, probabilities for programs.

A label map says which model made it of which file, so that what is there already is never taken for another's.
"""

import io
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import nn

from wilss.data.layouts.files import printable
from wilss.data.names import composed
from wilss.disk import write_output
from wilss.drawing import class_colours, encoded
from wilss.errors import StoreError
from wilss.models.networks.checkpoint import CheckpointInfo
from wilss.process import map_in_threads

from ..data.image_lists import Target
from .overlays import draw_overlay
from .predict import Kind, Predicted, Sample, predictions

_WRITERS = 4
#: What waits to be written: the probabilities of a single large photograph may be as much.
_BYTES_WAITING = 1 << 29
_JPEG_QUALITY = 90
_MODEL, _IMAGE = "wilss-model", "wilss-image"


@dataclass(frozen=True, kw_only=True)
class Written:
    """What was written. failed: image -> why it has no label map. images, pixels: how many show a class, by its id."""

    count: int
    failed: Mapping[str, str]
    images: Mapping[int, int]
    pixels: Mapping[int, int]
    seconds: float


def write_label_files(
    segmenter: nn.Module,
    info: CheckpointInfo,
    targets: Sequence[Target],
    *,
    overlays: bool = True,
    probabilities: Kind | None = None,
    batch_size: int = 8,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    on_large: Callable[[Sample], None] = lambda sample: None,
) -> Written:
    """Predict every target's image and write its files, each whole or not at all, while the next are predicted.

    on_large: is told before a large image is begun.
    Raises StoreError when a file cannot be written.
    """
    start, by_id = time.monotonic(), {target.record.image_id: target for target in targets}
    records = [target.record for target in targets]
    predicted = predictions(
        segmenter, info, records, batch_size=batch_size, device=device, probabilities=probabilities, on_large=on_large
    )
    failed, images, pixels = dict[str, str](), Counter[int](), Counter[int]()
    write = partial(_write, targets=by_id, info=info, overlays=overlays)
    written = map_in_threads(write, predicted, _WRITERS, weight=_bytes_of, heaviest=_BYTES_WAITING)
    if progress is not None:
        progress(0, len(targets))
    for number, image in enumerate(written, start=1):
        if image.labels is None:
            failed[image.record.image_id] = str(image.error)
        else:
            ids, counts = np.unique(image.labels, return_counts=True)
            images.update(ids.tolist())
            pixels.update(dict(zip(ids.tolist(), counts.tolist(), strict=True)))
        if progress is not None:
            progress(number, len(targets))
    seconds = time.monotonic() - start
    return Written(count=len(targets) - len(failed), failed=failed, images=images, pixels=pixels, seconds=seconds)


def files_of(target: Target, *, overlays: bool, probabilities: bool) -> list[Path]:
    """What is written for an image."""
    more = [(target.overlay, overlays), (target.probabilities, probabilities)]
    return [target.labels, *(path for path, wanted in more if wanted)]


def is_made(target: Target, info: CheckpointInfo, *, overlays: bool, probabilities: Kind | None) -> bool:
    """Whether everything of an image is there, made by this model since the image last changed, and of that kind.

    Raises StoreError where there is a label map that another model or somebody else made, or of another file.
    """
    if not target.labels.exists():
        return False
    other, name = _made_by(target.labels)
    if other != info.digest:
        maker = "another model" if other else "something else"
        raise StoreError(
            f"{target.labels} was made by {maker} than {info.path}; give another --out, or replace it with --overwrite."
        )
    if composed(name) not in ("", _shown_name(target)):  # files of older versions do not say
        raise StoreError(
            f"{target.labels} was made of {name} and not of {target.record.path}; give another --out, or replace it "
            "with --overwrite."
        )
    try:
        changed = target.record.path.stat().st_mtime
        files = files_of(target, overlays=overlays, probabilities=probabilities is not None)
        is_kind = probabilities is None or _kind_of(target.probabilities) == probabilities
        return is_kind and all(path.stat().st_mtime >= changed for path in files)
    except OSError:
        return False


def files_by_other_names(targets: Sequence[Target]) -> list[Path]:
    """Label maps that a run wrote when there were more or fewer images of one name, and that no image has any more.

    targets: of all images.
    """
    taken = {target.labels for target in targets}
    others = dict.fromkeys(target.other_labels for target in targets if target.other_labels not in taken)
    return [path for path in others if path.is_file() and _made_by(path)[0]]


def palette_png(labels: NDArray[np.uint8], model: str, name: str) -> bytes:
    """A label map uint8 [H, W] as a PNG whose values are ids, in all pictures' colours.

    model: its maker's digest. name: that of the image's file, printable.
    """
    image = Image.fromarray(labels, mode="P")
    image.putpalette(class_colours().ravel().tolist())
    about = PngInfo()
    about.add_text(_MODEL, model)
    about.add_itxt(_IMAGE, name)
    return encoded(image, pnginfo=about)


def _shown_name(target: Target) -> str:
    """The name of an image's file as its label map says it: one spelling, whichever file system it comes from."""
    return printable(composed(target.record.path.name))


def _made_by(path: Path) -> tuple[str, str]:
    """The digest of the model that a label map says it was made by, and its image's name; "" where it says none."""
    try:
        with Image.open(path) as image:
            return str(image.info.get(_MODEL, "")), str(image.info.get(_IMAGE, ""))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return "", ""


def _kind_of(path: Path) -> str:
    """How the probabilities of a file are stored, by its header alone; "" where it is no such file."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("probabilities.npy") as file:
            np.lib.format.read_magic(file)
            return str(np.lib.format.read_array_header_1_0(file)[2])
    except (zipfile.BadZipFile, KeyError, ValueError):
        return ""


def _write(image: Predicted, targets: Mapping[str, Target], info: CheckpointInfo, *, overlays: bool) -> Predicted:
    """The image, whose files are written where it has a label map, the label map last: it says that all are there."""
    if image.sample is None or image.labels is None:
        return image
    target = targets[image.record.image_id]
    if overlays:
        names = dict(zip(info.seen, info.channel_names, strict=True))
        drawn = Image.fromarray(draw_overlay(image.sample.image, image.labels, names))
        write_output(target.overlay, encoded(drawn, "JPEG", quality=_JPEG_QUALITY))
    if image.probabilities is not None:
        write_output(target.probabilities, _npz(image.probabilities, info))
    write_output(target.labels, palette_png(image.labels, info.digest, _shown_name(target)))
    return replace(image, probabilities=None)


def _bytes_of(image: Predicted) -> int:
    parts = (None if image.sample is None else image.sample.image, image.labels, image.probabilities)
    return sum(part.nbytes for part in parts if part is not None)


def _npz(probabilities: NDArray[Any], info: CheckpointInfo) -> bytes:
    """`probabilities` [C, H, W] with the `ids` and `names` of its channels."""
    file = io.BytesIO()
    np.savez(file, probabilities=probabilities, ids=np.array(info.seen), names=np.array(info.channel_names))
    return file.getvalue()
