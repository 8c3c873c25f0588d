"""What others say of the masks: a trained model's label maps or a second store, and scores of label errors.

Holding 100,000 masks against predictions takes minutes, so it is done while the page is shown already.
"""

import io
import json
import math
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wilss.data.images import read_palette_label
from wilss.data.layouts.files import fault_of_name, read_text
from wilss.digests import digest_of_bytes
from wilss.disk import write_atomically
from wilss.errors import ImageError, OneImageError, ParameterError, StoreError, WilssError, first_line
from wilss.store import MaskStore

from .given import read_given
from .index import NO_CLASS, ReviewIndex

#: What an audit.json says of itself.
AUDIT_FORMAT = "wilss-audit"


class Predictions(Protocol):
    """Masks of the same images by somebody else."""

    def mask(self, image_id: str, category: int, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
        """Bool [H, W] of a class (taxonomy id); None where there is none. Raises OneImageError."""

    @property
    def identity(self) -> str:
        """What changes when the predictions do."""


class LabelFolder:
    """Label maps as `wilss-predict` writes them: `<image id>.png` with taxonomy ids."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def mask(self, image_id: str, category: int, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
        """See `Predictions`."""
        path = self._folder / f"{image_id}.png"
        if fault_of_name(image_id) is not None or not path.is_file():
            return None
        labels: NDArray[np.uint8] = read_palette_label(path)
        if labels.shape != tuple(shape):
            raise ImageError(
                f"{path} is {labels.shape[1]} x {labels.shape[0]} pixels, the image {shape[1]} x {shape[0]}; predict "
                "the same images."
            )
        mask: NDArray[np.bool_] = labels == category
        return mask

    @property
    def identity(self) -> str:
        """Names, sizes and times of all label maps."""
        files = sorted(self._folder.rglob("*.png"))
        states = ((path.relative_to(self._folder).as_posix(), path.stat()) for path in files)
        return digest_of_bytes("".join(f"{name} {s.st_size} {s.st_mtime_ns}\n" for name, s in states).encode())


class OtherStore:
    """The masks of a second store."""

    def __init__(self, store: MaskStore) -> None:
        self._store = store
        self._positions = {identity: place for place, identity in enumerate(store.category_ids)}
        self._known = frozenset(store.image_ids)

    def mask(self, image_id: str, category: int, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
        """See `Predictions`."""
        if category not in self._positions or image_id not in self._known:
            return None
        mask: NDArray[np.bool_] = self._store.read(image_id, [self._positions[category]]).masks[0]
        if mask.shape != tuple(shape):
            raise ImageError(f"{image_id} has another size in {self._store.path}; compare stores of the same images.")
        return mask

    @property
    def identity(self) -> str:
        """The store's digest."""
        return self._store.digest


def open_predictions(path: Path) -> Predictions:
    """A second mask store, or a folder of label maps. Raises StoreError where it is neither."""
    if (path / "zarr.json").is_file():
        return OtherStore(MaskStore.open(path))
    if not path.is_dir() or next(path.rglob("*.png"), None) is None:
        raise StoreError(
            f"{path} is neither a mask store nor a folder of label maps (PNG); give what `wilss-predict --out` wrote."
        )
    return LabelFolder(path)


class Comparison:
    """Disagreement of every item with predictions, 1 - IoU, made in a thread of its own and kept in a cache file."""

    def __init__(self, store: MaskStore, index: ReviewIndex, predictions: Predictions, cache: Path | None) -> None:
        self.values = np.full(len(index.image), np.nan, np.float32)
        self.compared, self.is_done, self.problem = 0, False, ""
        self._store, self._index, self._predictions, self._cache = store, index, predictions, cache
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to compare."""
        self._thread.start()

    def stop(self) -> None:
        """End early; what was compared is known all the same."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def wait(self) -> None:
        """Until all is compared. Raises StoreError where that cannot be."""
        self._thread.join()
        if self.problem:
            raise StoreError(self.problem)

    def _run(self) -> None:
        try:
            path = self._cache_file()
            if not self._is_kept(path):
                for item in range(len(self.values)):
                    if self._stopped.is_set():
                        return
                    self.values[item], self.compared = self._disagreement(item), item + 1
                if path is not None:
                    buffer = io.BytesIO()
                    np.save(buffer, self.values, allow_pickle=False)
                    write_atomically(path, buffer.getvalue())
            self.is_done = True
        except (WilssError, OSError) as error:  # of the whole, not of one image
            self.problem = str(error)

    def _disagreement(self, item: int) -> float:
        category = int(self._index.category[item])
        if category == NO_CLASS or category not in self._store.category_ids:
            return math.nan
        place = int(self._index.image[item])
        try:
            position = self._store.category_ids.index(category)
            mask = self._store.read(int(self._index.rows[place]), [position]).masks[0]
            other = self._predictions.mask(self._index.image_ids[place], category, (mask.shape[0], mask.shape[1]))
        except OneImageError:
            return math.nan
        return math.nan if other is None else 1.0 - _iou(mask, other)

    def _cache_file(self) -> Path | None:
        if self._cache is None:
            return None
        items = digest_of_bytes(self._index.image.tobytes() + self._index.category.tobytes())
        of_what = f"{self._store.digest} {self._predictions.identity} {items} {self._index.rows.tobytes().hex()}"
        return self._cache / f"disagreement-{digest_of_bytes(of_what.encode())[:32]}.npy"

    def _is_kept(self, path: Path | None) -> bool:
        """Whether the values were found in the cache; damage there is no fault of anybody."""
        if path is None or not path.is_file():
            return False
        try:
            kept = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return False
        if kept.shape != self.values.shape or kept.dtype != np.float32:
            return False
        self.values[:], self.compared = kept, len(kept)
        return True


def _iou(mask: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Intersection over union; 1 where both are empty."""
    union = (mask | other).sum()
    return float((mask & other).sum() / union) if union else 1.0


def read_label_quality(path: Path, index: ReviewIndex, store: MaskStore) -> NDArray[np.float32]:
    """Scores of labels from a json: image id -> score, or -> {class name: score}; the lower the worse (cleanlab).

    An audit.json of `wilss-masks audit` is one, too, whose scores say how likely a mask is wrong: 1 less those.
    Returns float32 [M], NaN where the file says nothing. Raises ParameterError where the file is no such json, or names
    none of the images.
    """
    scores, is_of_errors = _read_scores(path)
    names = dict(zip(store.category_ids, store.category_names, strict=True))
    values = np.full(len(index.image), np.nan, np.float32)
    for item, (place, category) in enumerate(zip(index.image.tolist(), index.category.tolist(), strict=True)):
        score = scores.get(index.image_ids[place])
        score = score.get(names.get(category)) if isinstance(score, dict) else score
        if score is not None:
            values[item] = _number(path, index.image_ids[place], score)
    values = 1 - values if is_of_errors else values
    if np.isnan(values).all():
        raise ParameterError(f"{path} has a score of none of the images; its keys must be image ids of the store.")
    return values


def _read_scores(path: Path) -> tuple[Mapping[str, Any], bool]:
    """The scores of a file, and whether they are high where something is wrong."""
    try:
        scores = json.loads(read_given(path, read_text))
    except (ValueError, RecursionError) as error:
        raise ParameterError(f"{path} is no json ({first_line(error)}); give one of image ids and scores.") from None
    if not isinstance(scores, dict):
        raise ParameterError(f"{path} is not a mapping; give a json of image ids and scores.")
    if scores.get("format") == AUDIT_FORMAT and isinstance(scores.get("scores"), dict):
        return scores["scores"], True
    return scores, False


def _number(path: Path, image_id: str, score: Any) -> float:
    if not isinstance(score, int | float) or isinstance(score, bool) or not math.isfinite(score):
        raise ParameterError(f"{path}: the score of {image_id!r} is {score!r}, not a number; correct it.")
    return float(score)
