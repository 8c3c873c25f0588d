"""Which images of a mask store may be learnt from as labelled ones: a text file of ids, or an index array.

The masks of all other images stay unread, whatever the store holds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wilss.data.layouts import ImageRecord
from wilss.data.layouts.files import read_lines
from wilss.data.layouts.lists import find_list, load_array
from wilss.data.layouts.named_images import rows_named
from wilss.data.manifest import Manifest
from wilss.data.names import some
from wilss.data.taxonomy import closest
from wilss.digests import digest_of_file
from wilss.disk import data_path, joined
from wilss.errors import ManifestError, ParameterError
from wilss.store import MaskStore, Status, coverage_of


@dataclass(frozen=True, kw_only=True, eq=False)
class Labelled:
    """rows: of the labelled images on the store's image axis, int64 [L], ascending; others: of all the rest."""

    rows: NDArray[np.int64]
    others: NDArray[np.int64]

    @property
    def unlabelled(self) -> NDArray[np.int64]:
        """The rows that are learnt from without labels: the labelled ones themselves where there are no others."""
        return self.others if len(self.others) else self.rows


def list_path(word: str, manifest: Manifest) -> Path:
    """The file that `word` means: a path from the current folder, else one from the manifest's.

    Raises ParameterError where it is empty or there is no such file.
    """
    if not word:
        raise ParameterError(
            "this method learns from few labelled images beside many unlabelled ones, and nothing says which are "
            "labelled; name a text file with one image id a line: --labelled LIST."
        )
    places = (data_path(word).expanduser(), joined(manifest.path.parent, word))
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise ParameterError(f"the list of labelled images {word} is not there; write it, one image id a line.")
    return path


def digest_of(path: Path) -> str:
    """sha256 of a list's bytes."""
    try:
        return digest_of_file(path)
    except OSError as error:
        raise ParameterError(f"{path} cannot be read ({error.strerror or error}); check its permissions.") from None


def read_labelled(
    path: Path, store: MaskStore, manifest: Manifest, step: int, records: Mapping[str, ImageRecord]
) -> Labelled:
    """The images of a store that the list at `path` names, and all the others.

    A line is an image's id, its path, the end of it or its file's name, or as VOC's lists have it; an npy file holds
    positions in the list of the step's split. records: of the store's images by id. Raises ParameterError for a list
    that is none, and for images of which the store holds no masks.
    """
    try:
        names = _from_array(path, manifest, step) if path.suffix == ".npy" else read_lines(path)
    except ManifestError as error:
        raise ParameterError(f"the list of labelled images is of no use: {error}") from None
    if not names:
        raise ParameterError(f"{path} names no image; write one image id a line.")
    rows = _rows_of(names, path, store, records)
    return Labelled(rows=rows, others=np.setdiff1d(np.arange(len(store.image_ids)), rows))


def _rows_of(names: list[str], path: Path, store: MaskStore, records: Mapping[str, ImageRecord]) -> NDArray[np.int64]:
    """Rows of the named images. ParameterError for those that the store does not hold, or has no masks of."""
    named = rows_named(names, store.image_ids, lambda row: str(records[store.image_ids[row]].path))
    if told := named.told_several(path):
        raise ParameterError(told)
    if missing := [name for name, row in zip(names, named.rows, strict=True) if row < 0]:
        near = closest(missing[0], store.image_ids, or_all=False)
        raise ParameterError(
            f"{path} names {some(missing)}, and {store.path} holds no such image{near}; take it off the list, or make "
            "masks with a manifest that has it."
        )
    rows = np.unique(named.rows)
    if unfinished := [store.image_ids[row] for row in rows[store.vector("status")[rows] != Status.DONE]]:
        raise ParameterError(
            f"{path} names {some(unfinished)}, of which {store.path} holds no masks (`wilss-masks info` says why); "
            "take it off the list, or fix its labels and recreate the masks."
        )
    learnt = rows[~coverage_of(store).empty[rows]]
    if not len(learnt):
        raise ParameterError(
            f"the images in {path} are tagged with classes that no mask of {store.path} shows, so that nothing can be "
            "learnt of them; `wilss-masks manifest check` says why."
        )
    return learnt


def _from_array(path: Path, manifest: Manifest, step: int) -> list[str]:
    """The lines at the positions in an npy file, of the list that the step's split is taken from."""
    source = manifest.steps[step]
    spec = manifest.data[source.data]
    split = spec.split(source.split)
    whole = find_list(spec, split.into if split.list.endswith(".npy") else split.list)
    lines, positions = read_lines(whole), load_array(path)
    if positions.ndim != 1 or positions.dtype.kind not in "iu":
        raise ManifestError(f"{path} is {positions.dtype} of shape {positions.shape}, not a row of whole numbers.")
    if wrong := [int(position) for position in positions if not 0 <= position < len(lines)]:
        raise ManifestError(f"{path} has the index {wrong[0]}, but {whole} has {len(lines)} lines.")
    return [lines[int(position)] for position in positions]
