"""Regions from a file: the class-agnostic proposals of any network, as COCO writes them.

Three forms are read: a whole COCO json (`images`, `annotations`), a bare list of results with `image_id`,
`segmentation` and `score`, and a folder of jsons for an image each, as SA-1B has them. Categories are not looked at. A
proposal's outline is run lengths, compressed or not, or polygons (with pycocotools); what is a box alone is no region.
A crowd counts as one region.
"""

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wilss import digests
from wilss.data.layouts import ImageRecord
from wilss.data.layouts.coco_json import has_outline, runs_of
from wilss.data.layouts.files import without_suffix
from wilss.disk import data_path
from wilss.errors import ImageError, ParameterError, counted, first_line

if TYPE_CHECKING:
    from torch import Tensor


class Proposal(NamedTuple):
    """One proposal: its outline as json text, its score (1 where it has none), its place in the file."""

    outline: str
    score: float
    number: int


@dataclass(frozen=True, kw_only=True)
class RegionFile:
    """The proposals of many images, by the names under which the file knows them.

    images: name -> key of `proposals`, for whole names, or ids where it has no names. bare: whole name by what follows
    its last /, where that is unique. sizes: (height, width) of the images that the file tells them of.
    """

    path: Path
    sha256: str
    images: Mapping[str, str] = field(repr=False)
    bare: Mapping[str, str] = field(repr=False)
    sizes: Mapping[str, tuple[int, int]] = field(repr=False)
    proposals: Mapping[str, tuple[Proposal, ...]] = field(repr=False)

    def key_of(self, image_id: str) -> str | None:
        """What the file calls an image of a list; None where it does not know it, as one of that name elsewhere."""
        if (key := self.images.get(image_id)) is not None:
            return key
        whole = self.bare.get(image_id.rpartition("/")[2])
        if whole is not None and (image_id.endswith(f"/{whole}") or whole.endswith(f"/{image_id}")):
            return self.images[whole]
        return self.images.get(image_id.lstrip("0"))

    def require_one_image(self, image_ids: Iterable[str]) -> None:
        """Refuse a file of whose names one may mean several images. Raises ParameterError."""
        known: dict[str, str] = {}
        for image_id in image_ids:
            key = self.key_of(image_id)
            if key is not None and known.setdefault(key, image_id) != image_id:
                raise ParameterError(
                    f"{self.path} has proposals of one image that may be {known[key]} or {image_id}; name its images "
                    "with their folders there."
                )

    def regions(
        self, record: ImageRecord, image_size: tuple[int, int], size: tuple[int, int], least: float
    ) -> "Tensor":
        """The regions of an image, seen at `size`: int32 [h, w], -1 where there is none; small ones on top.

        least: proposals of a lower score are left out. An image that the file does not know has no regions.
        Raises ImageError for a size that is not the image's, and an outline that cannot be drawn.
        """
        import torch

        from wilss.equations.regions import from_below, partition

        key = self.key_of(record.image_id) or ""
        found = [one for one in self.proposals.get(key, ()) if one.score >= least]
        if found and self.sizes.get(key, image_size) != image_size:
            raise ImageError(self._other_size(record, self.sizes[key], image_size))
        runs = [self._runs(one, record, image_size) for one in found]
        order = from_below([int(one[1::2].sum()) for one in runs], [one.score for one in found])
        order = [place for place in order if runs[place][1::2].any()]

        def mask_of(place: int) -> "Tensor":
            return torch.from_numpy(sampled(runs[place], image_size, size))

        return partition(order, mask_of, *size)

    def _runs(self, proposal: Proposal, record: ImageRecord, size: tuple[int, int]) -> NDArray[np.int64]:
        """Run lengths of a proposal, column by column, 0s first."""
        outline = json.loads(proposal.outline)
        if isinstance(outline, dict) and tuple(outline.get("size") or size) != size:
            rows, columns = outline["size"][:2]
            raise ImageError(self._other_size(record, (rows, columns), size))
        try:
            runs = runs_of(outline, *size)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError) as error:
            raise ImageError(
                f"{self.path}: the proposal {proposal.number} (counted from 0), of {record.image_id}, cannot be drawn "
                f"({error}); fix or remove it."
            ) from None
        return np.array([size[0] * size[1]]) if runs is None else runs

    def _other_size(self, record: ImageRecord, told: tuple[int, int], size: tuple[int, int]) -> str:
        return (
            f"{self.path} has {record.image_id} as {told[1]} x {told[0]} pixels, {record.path} is {size[1]} x "
            f"{size[0]}; make its proposals on the image as it is, turned upright."
        )

    def without(self, image_ids: Iterable[str]) -> list[str]:
        """Those of `image_ids` that the file has no proposal of."""
        return [name for name in image_ids if not self.proposals.get(self.key_of(name) or "")]


def sampled(runs: NDArray[np.int64], image_size: tuple[int, int], size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask of an image, seen at the centres of the pixels of another size; a small one keeps one pixel at least.

    runs: run lengths, column by column, 0s first, not without a 1. Returns bool [h, w]. The mask itself, which can be
    a photograph's 24 million pixels, is not formed.
    """
    (height, width), (rows, columns) = image_size, size
    ends = np.cumsum(runs)
    mask = np.zeros(size, np.bool_)
    y, x = (_centres(small, large) for small, large in ((rows, height), (columns, width)))
    first, last = ends[0] // height, (ends[len(runs) // 2 * 2 - 1] - 1) // height
    inside = slice(*np.searchsorted(x, [first, last + 1]))
    places = x[inside, None] * height + y
    mask[:, inside] = (np.searchsorted(ends, places.ravel(), side="right") % 2 == 1).reshape(places.shape).T
    if not mask.any():
        longest = 1 + 2 * int(np.argmax(runs[1::2]))
        middle = int(ends[longest] - (runs[longest] + 1) // 2)
        mask[middle % height * rows // height, middle // height * columns // width] = True
    return mask


def _centres(small: int, large: int) -> NDArray[np.int64]:
    """The pixels of `large` along a side that hold the centres of `small`."""
    return (2 * np.arange(small) + 1) * large // (2 * small)


def images_without_regions(path: str, image_ids: Sequence[str]) -> Iterator[str]:
    """A sentence where the file has no proposal of some of the images.

    Raises ParameterError if it has of none, or one that may be of several.
    """
    file = region_file(path)
    file.require_one_image(image_ids)
    missing = file.without(image_ids)
    if missing and len(missing) == len(image_ids):
        known = next(iter(file.images), None)
        names = "it names no image" if known is None else f"it names e.g. {known!r}, the list {missing[0]!r}"
        raise ParameterError(
            f"{file.path} has no proposal of any of these images: {names}; give the file of this split."
        )
    if missing:
        yield (
            f"{file.path} has no proposal of {counted(len(missing), 'image')} of {len(image_ids)} ({missing[0]} is the "
            "first); no region votes on them."
        )


def region_file(name: str) -> RegionFile:
    """The file of this name, read once a process. Raises ParameterError where it is missing or of another form."""
    if not name:
        raise ParameterError("regions is 'file'; say which, e.g. --set regions_file=proposals.json.")
    path = data_path(name).expanduser()
    try:
        state = path.stat()
    except OSError as error:
        raise ParameterError(f"regions_file: {path} cannot be read ({os.strerror(error.errno or 0)}).") from None
    return _read(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=2)
def _read(path: Path, changed: int, length: int) -> RegionFile:
    """changed, length: so that a file is read again once it is another."""
    try:
        content, sha256 = _of_folder(path) if path.is_dir() else _of_file(path)
    except (OSError, ValueError, RecursionError) as error:
        raise ParameterError(f"regions_file: {path} is no whole json file ({first_line(error)}).") from None
    whole = content if isinstance(content, dict) else {}
    rows = whole.get("annotations") if whole else content
    listed = whole.get("images", [])
    if not isinstance(rows, list) or not isinstance(listed, list):
        raise ParameterError(
            f"regions_file: {path} is neither a COCO json with `images` and `annotations` nor a list of results."
        )
    try:
        proposals = _proposals(rows)
        images = _names(listed) if listed else {key: key for key in proposals}
        sizes = {str(one["id"]): (int(one["height"]), int(one["width"])) for one in listed if "height" in one}
    except _FormError as error:
        raise ParameterError(f"regions_file: {path}: {error}.") from None
    return RegionFile(path=path, sha256=sha256, images=images, bare=_bare(images), sizes=sizes, proposals=proposals)


def _of_file(path: Path) -> tuple[Any, str]:
    """The content of a json, and its digest."""
    return json.loads(path.read_bytes()), digests.digest_of_file(path)


def _of_folder(folder: Path) -> tuple[Any, str]:
    """The jsons of a folder in the form of SA-1B, one for each image, as one COCO json; and a digest of all."""
    files = sorted(folder.rglob("*.json"))
    images, annotations = [], []
    for number, file in enumerate(files):
        one = json.loads(file.read_bytes())
        image, rows = (one.get("image"), one.get("annotations")) if isinstance(one, dict) else (None, None)
        if not isinstance(image, dict) or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError(f"{file.name} has no `image` and `annotations`, as SA-1B's jsons have")
        images.append({**image, "id": number})
        annotations += [{**row, "image_id": number, "score": _sureness(row)} for row in rows]
    listed = "\n".join(f"{file.relative_to(folder).as_posix()} {digests.digest_of_file(file)}" for file in files)
    return {"images": images, "annotations": annotations}, digests.digest_of_bytes(listed.encode("utf-8", "replace"))


def _sureness(row: Mapping[str, Any]) -> Any:
    """What SAM calls `predicted_iou`; 1 where nothing says how sure a mask is."""
    said = row.get("score", row.get("predicted_iou"))
    return 1.0 if said is None else said


class _FormError(Exception):
    """What is wrong with an entry."""


def _proposals(rows: list[Any]) -> dict[str, tuple[Proposal, ...]]:
    """The proposals with an outline, by the id of their image."""
    found: dict[str, list[Proposal]] = {}
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or not isinstance(row.get("image_id"), (int, str)):
            raise _FormError(f"its proposal {number} (counted from 0) has no image_id")
        outline, score = row.get("segmentation"), row.get("score", 1.0)
        if isinstance(score, bool) or not isinstance(score, (int, float)) or not math.isfinite(score):
            raise _FormError(f"the score of its proposal {number} (counted from 0) is {score!r}, not a number")
        if has_outline(outline):
            proposal = Proposal(json.dumps(outline, separators=(",", ":")), float(score), number)
            found.setdefault(str(row["image_id"]), []).append(proposal)
    return {key: tuple(group) for key, group in found.items()}


def _names(listed: list[Any]) -> dict[str, str]:
    """The ids of images by their file names without an ending."""
    names: dict[str, str] = {}
    for number, image in enumerate(listed):
        if not isinstance(image, dict) or "id" not in image or not isinstance(image.get("file_name"), str):
            raise _FormError(f"its image {number} (counted from 0) has no id or no file_name")
        name = without_suffix(image["file_name"])
        if names.setdefault(name, str(image["id"])) != str(image["id"]):
            raise _FormError(f"it lists the image {image['file_name']!r} twice, with different ids")
    return names


def _bare(names: Iterable[str]) -> dict[str, str]:
    """Names by what follows their last /, where that is unique."""
    short = [(name.rpartition("/")[2], name) for name in names]
    counts = Counter(bare for bare, _ in short)
    return {bare: name for bare, name in short if counts[bare] == 1}
