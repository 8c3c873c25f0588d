"""Which classes label files hold, kept between commands."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from wilss.data.layouts.kept_numbers import KeptNumbers, Numbers
from wilss.data.layouts.records import PngLabel
from wilss.data.layouts.spec import DataSpec
from wilss.data.taxonomy import BACKGROUND, VOID

_FORM = 1  # raise it when the same key would mean something else


class LabelClasses:
    """The classes in the label files of a data set: a bit for each of 256 ids, in four numbers of `KeptNumbers`."""

    def __init__(self, spec: DataSpec) -> None:
        meaning = repr((_FORM, str(spec.root), dataclasses.astuple(spec.label_table)))
        self._kept = KeptNumbers("labels", meaning, 4)

    def of(self, label: PngLabel) -> list[int]:
        """The ids in a label, without background and void. Raises ImageError where it cannot be read."""
        return _ids(self._kept.of(label.path, lambda: _bits(classes_in(label.read()))))

    def save(self) -> None:
        """Keep what was read, where anything can be written."""
        self._kept.save()


def classes_in(labels: NDArray[np.uint8]) -> list[int]:
    """The ids of a label map uint8 [H, W], ascending, without background and void."""
    counts = np.bincount(labels.ravel(), minlength=256)
    return [identity for identity in np.flatnonzero(counts).tolist() if identity not in (BACKGROUND, VOID)]


def _bits(ids: list[int]) -> Numbers:
    number = sum(1 << identity for identity in ids)
    return tuple(number >> shift & (1 << 64) - 1 for shift in (0, 64, 128, 192))


def _ids(bits: Numbers) -> list[int]:
    number = sum(part << 64 * place for place, part in enumerate(bits))
    return [identity for identity in range(256) if number >> identity & 1]
