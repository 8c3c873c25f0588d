"""Weights in numpy's .npz, as Google publishes them: read without pickle, within bounds that are looked at before."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from wilss.errors import WeightsError, first_line

if TYPE_CHECKING:
    from torch import Tensor

#: Weights hardly become smaller when they are compressed; what grows by more than this is none.
_MOST_GROWTH = 8
_KINDS = "biuf"  # of numpy's types: bool, signed, unsigned, floating
_WIDEST = 8  # bytes of a number; torch has no long doubles


def read_npz(path: Path, file: Path) -> dict[str, Tensor]:
    """The arrays of an .npz file as tensors, by name. path: what a user calls it. file: where it lies on disk.

    Raises WeightsError for one that is damaged, holds objects, or would become much larger than it is; OSError.
    """
    import torch

    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
            _require_bounds(path, archive, sum(part.file_size for part in parts))
            arrays = {part.filename.removesuffix(".npy"): _array(archive, part, path) for part in parts}
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        raise WeightsError(f"{path} is no whole npz file ({first_line(error)}); fetch it again.") from error
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _require_bounds(path: Path, archive: zipfile.ZipFile, size: int) -> None:
    assert archive.fp is not None  # it is open
    if size > _MOST_GROWTH * archive.fp.seek(0, os.SEEK_END):
        raise WeightsError(f"{path} would become {size} bytes, which weights never do; fetch it again.")


def _array(archive: zipfile.ZipFile, part: zipfile.ZipInfo, path: Path) -> np.ndarray:
    """One array [...]. What its header promises must be there before any memory is taken for it."""
    with archive.open(part) as file:
        shape, dtype = _header(file)
        promised, there = math.prod(shape) * dtype.itemsize, part.file_size - file.tell()
    if dtype.kind not in _KINDS or dtype.itemsize > _WIDEST:
        raise WeightsError(f"{path}: {part.filename} is of the type {dtype}, which no weights are; fetch it again.")
    if promised != there:
        raise WeightsError(f"{path}: {part.filename} promises {promised} bytes, and {there} are there; fetch it again.")
    with archive.open(part) as file:
        array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in read:
        raise ValueError(f"npy version {version}")
    shape, _, dtype = read[version](file)
    return shape, dtype
