"""Images that are judged on although steps learn from them: figures on these say nothing of new images."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from wilss.data.copies import groups_of_copies
from wilss.data.layouts import ImageRecord, annotation_file
from wilss.data.layouts.coco import image_folder_of
from wilss.data.names import some
from wilss.errors import ManifestError, StoreError

if TYPE_CHECKING:
    from wilss.data.manifest.manifest import Manifest

#: Bytes of a COCO json above which it is not read for this alone.
_LARGE = 1 << 26


def told_overlap(manifest: "Manifest", split: str, step: int, *, made_from: str = "train") -> str | None:
    """A sentence about images of the evaluation `split` that the steps up to `step` learn from; None without any.

    made_from: the split that stands in the place of the last step's own. An image is known by its file, or by a file of
    its name with the same bytes (`wilss-masks audit` knows renamed and altered ones as well). Left out are lists that
    cannot be read or reached, since whoever judges need not have them, and large ones of COCO whose images lie
    elsewhere. Nobody needs tags for this: where those of a list have not been read, the sentence is of all of it, and
    says so.
    """
    judged = [record for record in manifest.evaluation(split).records if record.problem is None]
    lists: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for taker in (*((earlier, "train") for earlier in range(step)), (step, made_from)):
        lists.setdefault(manifest.list_of(*taker), []).append(taker)
    stands: list[_Stands] = []
    for (data, part), takers in lists.items():
        with suppress(ManifestError, StoreError, OSError):
            if not _is_not_worth_reading(manifest, data, part, judged):
                trained, is_admitted = _trained(manifest, data, part, takers)
                stands.append(_Stands(f"{data}, {part}", is_admitted, _namesakes(judged, trained)))
    found = _shared(judged, stands)
    named = [one for one in stands if not found.isdisjoint(one.records)]
    if not named:
        return None
    ids = [record.image_id for record in judged if str(record.path) in found]
    is_admitted = all(one.is_admitted for one in named)
    said = _said(len(ids), "; ".join(one.name for one in named), is_admitted)
    return f"{manifest.path}: {some(ids)} of the split {split!r} {said}"


class _Stands(NamedTuple):
    """A list that is trained on. records: of its images whose files have the names of judged ones, by path."""

    name: str
    is_admitted: bool
    records: dict[str, ImageRecord]


def _namesakes(judged: Iterable[ImageRecord], trained: Iterable[ImageRecord]) -> dict[str, ImageRecord]:
    names = {record.path.name for record in judged}
    return {str(record.path): record for record in trained if record.problem is None and record.path.name in names}


def _shared(judged: Sequence[ImageRecord], lists: Iterable[_Stands]) -> set[str]:
    """The paths of images that are judged on and trained on, and of copies of each other that are one of each."""
    by_path = {str(record.path): record for record in judged}
    trained = {path: record for one in lists for path, record in one.records.items()}
    both = by_path.keys() & trained.keys()

    def are_of_both(group: Sequence[ImageRecord]) -> bool:
        return len({str(record.path) in by_path for record in group}) == 2

    others = [record for path, record in (by_path | trained).items() if path not in both]
    return both | {str(record.path) for group in groups_of_copies(others, are_of_both) for record in group}


def _said(count: int, lists: str, is_admitted: bool) -> str:
    """The end of the sentence. is_admitted: whether the steps take these images, and not only have them on a list."""
    if is_admitted:
        return (
            f"{'is' if count == 1 else 'are'} trained on as well (in {lists}), so that figures on it flatter; take "
            "them off one of the lists."
        )
    return (
        f"{'stands' if count == 1 else 'stand'} in the list of {lists} as well, so that figures on it flatter where a "
        "step takes them; take them off one of the lists."
    )


def _trained(
    manifest: "Manifest", data: str, part: str, takers: Iterable[tuple[int, str]]
) -> tuple[Iterable[ImageRecord], bool]:
    """The images of a list that steps take, and whether they do; all of the list where their tags are not at hand.

    takers: (step, split) of those whose list it is. A step of few annotated images looks at the others whatever they
    show.
    """
    by_tags = all(manifest.supervision(step) != "shots" for step, _ in takers)
    if by_tags and manifest.has_read(data, part, strictly=True):
        return chain.from_iterable(manifest.records(*taker).records for taker in takers), True
    listing = manifest.listing(data, part, lenient=None)
    return listing.records, listing.exact


def _is_not_worth_reading(manifest: "Manifest", data: str, part: str, judged: Iterable[ImageRecord]) -> bool:
    """Whether a list is a COCO json that takes long to read, and none of the judged images lies in its folder."""
    spec = manifest.data[data]
    if spec.layout != "coco" or manifest.has_read(data, part):
        return False
    if annotation_file(spec, spec.split(part)).stat().st_size <= _LARGE:
        return False
    folder = image_folder_of(spec, part)
    return not any(record.path.is_relative_to(folder) for record in judged)
