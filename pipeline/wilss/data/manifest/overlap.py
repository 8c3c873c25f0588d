"""Images that are judged on although steps learn from them: figures on these say nothing of new images."""

import filecmp
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wilss.data.layouts import ImageRecord, annotation_file
from wilss.data.layouts.coco import image_folder_of
from wilss.data.names import some
from wilss.disk import UrlPath
from wilss.errors import ManifestError

if TYPE_CHECKING:
    from wilss.data.manifest.manifest import Manifest

#: Bytes of a COCO json above which it is not read for this alone.
_LARGE = 1 << 26


def trained_and_judged(manifest: "Manifest", split: str, step: int, *, made_from: str = "train") -> str | None:
    """A sentence about images of the evaluation `split` that the steps up to `step` learn from; None without any.

    made_from: the split that stands in the place of the last step's own. An image is known by its file, or by a file of
    its name with the same bytes (`wilss-masks audit` knows renamed and altered ones as well). Left out are lists that
    cannot be read, since whoever judges need not have them, and large ones of COCO whose images lie elsewhere.
    """
    lists = [*map(manifest.list_of, range(step)), manifest.list_of(step, made_from)]
    judged = [record for record in manifest.evaluation(split).records if record.problem is None]
    shared, named = set[str](), list[str]()
    for data, part in dict.fromkeys(lists):
        try:
            if _is_not_worth_reading(manifest, data, part, judged):
                continue
            trained = manifest.listing(data, part, lenient=None).records
        except ManifestError:
            continue
        if found := _ids_of_shared(judged, trained):
            shared |= found
            named.append(f"{data}, {part}")
    if not shared:
        return None
    ids = [record.image_id for record in judged if record.image_id in shared]
    return (
        f"{manifest.path}: {some(ids)} of the split {split!r} {'is' if len(ids) == 1 else 'are'} trained on as well "
        f"(in {'; '.join(named)}), so that figures on it flatter; take them off one of the lists."
    )


def _is_not_worth_reading(manifest: "Manifest", data: str, part: str, judged: Iterable[ImageRecord]) -> bool:
    """Whether a list is a COCO json that takes long to read, and none of the judged images lies in its folder."""
    spec = manifest.data[data]
    if spec.layout != "coco" or manifest.has_read(data, part):
        return False
    if annotation_file(spec, spec.split(part)).stat().st_size <= _LARGE:
        return False
    folder = image_folder_of(spec, part)
    return not any(record.path.is_relative_to(folder) for record in judged)


def _ids_of_shared(judged: Sequence[ImageRecord], trained: Iterable[ImageRecord]) -> set[str]:
    """The ids of judged images whose file, or a copy of it under its name, is trained on."""
    by_path = {str(record.path): record.image_id for record in judged}
    by_name: dict[str, list[Path]] = {}
    for record in judged:
        by_name.setdefault(record.path.name, []).append(record.path)
    shared = set[str]()
    for record in trained:
        if record.problem is not None:
            continue
        if (path := str(record.path)) in by_path:
            shared.add(by_path[path])
        else:
            namesakes = by_name.get(record.path.name, ())
            shared.update(by_path[str(other)] for other in namesakes if _is_copy(other, record.path))
    return shared


def _is_copy(path: Path, other: Path) -> bool:
    """Whether two files on disk have the same bytes, which are read only where their sizes are equal."""
    if isinstance(path, UrlPath) or isinstance(other, UrlPath):
        return False
    try:
        return filecmp.cmp(path, other, shallow=False)
    except OSError:
        return False  # told as an image that cannot be read
