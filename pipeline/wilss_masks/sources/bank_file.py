"""The bank of a second pass: made once, of all masks of the first store, and kept in the cache as one file.

Memory is bounded: one image at a time, and of every class no more features than are kept in the end. Which these are is
drawn by the names of images and classes, so that neither the order nor the number of images before one decides it.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wilss.data.images import read_image, size_within
from wilss.data.layouts import ImageRecord
from wilss.data.taxonomy import BACKGROUND
from wilss.disk import sweep_partials_of, write_atomically
from wilss.errors import ImageError
from wilss.process import map_in_threads
from wilss.randomness import numpy_generator_for
from wilss.store import LabelMaps, MaskStore, Status

from .bank_features import BankEncoders, Inputs, OpenedEncoders
from .bank_params import BankParams
from .base import ImageTask

if TYPE_CHECKING:
    from torch import Tensor

#: Raise it when the same key would mean another bank.
FORM = 1
#: Longer side at which masks are eroded: a rim is a share of the image, and a large mask is no better known for it.
_MASK_SIDE = 512
_WHOLE = 1 - 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class Bank:
    """Features of all images' masks by label: the background, then the store's categories in order.

    vectors: per label unit float32 [N_k, D], without `mean`, in the order of their draw. rows: per label int32 [N_k],
    the image of the first store that each is of. mean: float32 [D], of the features of all images. missing: images of
    the first store that could not be read when it was made.
    """

    vectors: "tuple[Tensor, ...]"
    rows: "tuple[Tensor, ...]"
    mean: "Tensor"
    missing: tuple[str, ...] = ()

    def to(self, device: str) -> "Bank":
        """The same on a device."""
        moved = (tuple(one.to(device) for one in part) for part in (self.vectors, self.rows))
        vectors, rows = moved
        return Bank(vectors=vectors, rows=rows, mean=self.mean.to(device), missing=self.missing)

    def without(self, row: int, labels: Sequence[int]) -> "list[Tensor]":
        """The features of these labels that are not of the image at `row` of the first store."""
        return [self.vectors[label][self.rows[label] != row] for label in labels]


@dataclass(frozen=True, kw_only=True)
class BankMaker:
    """What a bank is made of. names: of the store's categories. records: by image id."""

    store: MaskStore
    names: tuple[str, ...]
    encoders: BankEncoders
    params: BankParams
    seed: int

    def make(self, records: Mapping[str, ImageRecord], device: str) -> Bank:
        """Encode every image that the store has masks of, one at a time, and keep what the masks say of them.

        One at a time, since the shape of a batch shows in the last bits of a network's results.
        """
        import torch

        network, labels = self.encoders.open(device), [_Kept(self.params.per_class) for _ in range(len(self.names) + 1)]
        total, count, missing = torch.zeros((), dtype=torch.float64), 0, list[str]()
        with torch.inference_mode():
            for row, found in self._images(records, network):
                if found is None:
                    missing.append(self.store.image_ids[row])
                    continue
                inputs, label_map = found
                features = network.features([inputs])[0].cpu()
                total, count = total + features.double().mean(dim=(-2, -1)), count + 1
                for label, kept in enumerate(labels):
                    kept.add(row, *self._entries(features, label_map, row, label))
            return self._whole(labels, (total / max(count, 1)).float(), tuple(missing))

    def _images(
        self, records: Mapping[str, ImageRecord], network: OpenedEncoders
    ) -> Iterator[tuple[int, tuple[Inputs, NDArray[np.uint8]] | None]]:
        """Rows of the store with the networks' inputs and small label maps; decoded in threads, given in order.

        None for an image that is gone since, or cannot be read; whoever makes its masks says so. Raises MasksError for
        masks or features that are damaged.
        """
        import torch

        maps, heights, widths = LabelMaps(self.store), self.store.vector("height"), self.store.vector("width")

        def load(row: int) -> tuple[int, tuple[Inputs, NDArray[np.uint8]] | None]:
            record, height, width = records[self.store.image_ids[row]], int(heights[row]), int(widths[row])
            task = ImageTask(record=record, height=height, width=width, categories=())
            try:
                kept, label_map = network.kept(task, of_features=True), smaller(maps(row))
                if kept is not None:
                    return row, (Inputs(kept=kept), label_map)
                image = torch.from_numpy(read_image(record.path, record.bits)).permute(2, 0, 1)
            except ImageError:
                return row, None
            return row, (self.encoders.inputs(image, of_features=True), label_map)

        done = np.flatnonzero(self.store.current_status() == Status.DONE).tolist()
        return map_in_threads(load, done, 2)

    def _entries(
        self, features: "Tensor", label_map: NDArray[np.uint8], row: int, label: int
    ) -> "tuple[Tensor, NDArray[np.float64]]":
        """What a label gives the bank on one image: features [n, D], and where each stands in the draw, in [0, 1)."""
        mask = self._core(label_map, (BACKGROUND, *self.store.category_ids)[label])
        name = ("", *self.names)[label]
        draw = numpy_generator_for(self.seed, "bank", self.store.image_ids[row], name)
        vectors = _entries_of(features, mask, draw, self.params)
        return vectors, draw.random(len(vectors))

    def _core(self, label_map: NDArray[np.uint8], identity: int) -> "Tensor":
        """Where a label is sure: bool [H, W], its pixels without their rim and without small parts."""
        import torch

        from wilss.equations.bank import erode

        mask = torch.from_numpy(label_map == identity)
        if not mask.any():
            return mask
        rounds = round(self.params.erode * max(mask.shape))
        return torch.from_numpy(large_parts(erode(mask, rounds).numpy(), self.params.min_area))

    def _whole(self, labels: "Sequence[_Kept]", mean: "Tensor", missing: tuple[str, ...]) -> Bank:
        from wilss.equations.bank import directions, typical

        vectors, rows = [], []
        for kept in labels:
            found, of_rows = kept.sorted(mean)
            found = directions(found, mean)
            stays = typical(found, self.params.drop)
            vectors.append(found[stays].half().float())  # as it is kept in a file
            rows.append(of_rows[stays])
        return Bank(vectors=tuple(vectors), rows=tuple(rows), mean=mean, missing=missing)


class _Kept:
    """The features of one label that come first in the draw, at most `most` of them."""

    def __init__(self, most: int) -> None:
        self._most, self._count = most, 0
        self._parts: list[tuple[NDArray[np.float64], Tensor, NDArray[np.int32]]] = []

    def add(self, row: int, vectors: "Tensor", draw: NDArray[np.float64]) -> None:
        if len(draw):
            self._parts.append((draw, vectors, np.full(len(draw), row, np.int32)))
            self._count += len(draw)
        if self._count > 2 * self._most:
            self._trim()

    def sorted(self, like: "Tensor") -> "tuple[Tensor, Tensor]":
        """Features [N, D] and rows [N] in the order of the draw. like: [D], of which there are none."""
        import torch

        if not self._parts:
            return like.new_zeros((0, len(like))), torch.zeros(0, dtype=torch.int32)
        self._trim()
        _, vectors, rows = self._parts[0]
        return vectors, torch.from_numpy(rows)

    def _trim(self) -> None:
        import torch

        draw, rows = (np.concatenate([part[place] for part in self._parts]) for place in (0, 2))
        first = np.argsort(draw, kind="stable")[: self._most]
        vectors = torch.cat([part[1] for part in self._parts])[torch.from_numpy(first)]
        self._parts, self._count = [(draw[first], vectors, rows[first])], len(first)


def _entries_of(features: "Tensor", mask: "Tensor", draw: np.random.Generator, params: BankParams) -> "Tensor":
    """Features [n, D] of a mask: patches that lie wholly inside, or where there are none what is pooled inside it."""
    from wilss.equations.bank import shares
    from wilss.equations.panet import weighted_average

    if not mask.any():
        return features.new_zeros((0, len(features)))
    weights = shares(mask, (features.shape[-2], features.shape[-1]))
    inside = (weights >= _WHOLE).flatten().nonzero()[:, 0]
    if params.entries == "masks" or not len(inside):
        return weighted_average(features, weights)[None]
    chosen = draw.permutation(len(inside))[: params.per_mask]
    return features.flatten(1).T[inside[chosen]]


def large_parts(mask: NDArray[np.bool_], least: float) -> NDArray[np.bool_]:
    """The connected parts of a mask [H, W], by edges, that cover at least this share of the image."""
    from scipy import ndimage  # here: a run that needs none should not wait for it

    parts, _ = ndimage.label(mask)
    is_large = np.bincount(parts.ravel()) >= least * mask.size
    is_large[0] = False
    return np.asarray(is_large[parts])


def smaller(label_map: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A label map at a size that suffices for the bank: every pixel the nearest of the old ones."""
    height, width = label_map.shape
    sides = zip((height, width), size_within(height, width, _MASK_SIDE), strict=True)
    rows, columns = (((np.arange(new) + 0.5) * old / new).astype(np.intp) for old, new in sides)
    return np.ascontiguousarray(label_map[rows[:, None], columns])


# -- on disk -------------------------------------------------------------------------------------------------


def write_bank(file: Path, bank: Bank) -> None:
    """Write a bank with its digest. Raises OSError."""
    import torch
    from safetensors.torch import save

    counts = torch.tensor([len(rows) for rows in bank.rows], dtype=torch.int32)
    tensors = {
        "vectors": torch.cat(bank.vectors).half(), "rows": torch.cat(bank.rows), "counts": counts, "mean": bank.mean,
    }  # fmt: skip
    payload = save({name: tensor.contiguous() for name, tensor in tensors.items()})
    with contextlib.suppress(OSError):
        sweep_partials_of(file)
    write_atomically(file, hashlib.sha256(payload).digest() + payload)


def read_bank(file: Path) -> Bank | None:
    """The bank of a file; None where there is none, or it is not as it was written."""
    from safetensors.torch import load

    try:
        content = file.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        return None
    tensors = load(content[32:])
    ends = np.cumsum(tensors["counts"].numpy()).tolist()
    labels = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
    vectors, rows = tensors["vectors"].float(), tensors["rows"]
    return Bank(
        vectors=tuple(vectors[one] for one in labels), rows=tuple(rows[one] for one in labels), mean=tensors["mean"]
    )
