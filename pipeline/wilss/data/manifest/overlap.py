"""Images that are judged on although steps learn from them: figures on these say nothing of new images."""

import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from wilss.data.layouts import ImageRecord, annotation_file
from wilss.data.layouts.coco import image_folder_of
from wilss.data.names import some
from wilss.digests import digest_of_file
from wilss.disk import UrlPath
from wilss.errors import ManifestError

if TYPE_CHECKING:
    from wilss.data.manifest.manifest import Manifest

#: Bytes of a COCO json above which it is not read for this alone.
_LARGE = 1 << 26

#: Images by a fact of their files: the size, or the digest.
_Groups = Mapping[int | str | None, list[ImageRecord]]


def told_overlap(manifest: "Manifest", split: str, step: int, *, made_from: str = "train") -> str | None:
    """A sentence about images of the evaluation `split` that the steps up to `step` learn from; None without any.

    made_from: the split that stands in the place of the last step's own. An image is known by its file, or by a file of
    its name with the same bytes (`wilss-masks audit` knows renamed and altered ones as well). Left out are lists that
    cannot be read, since whoever judges need not have them, and large ones of COCO whose images lie elsewhere.
    Nobody needs tags for this: where those of a list have not been read, the sentence is of all of it, and says so.
    """
    lists: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for taker in (*((earlier, "train") for earlier in range(step)), (step, made_from)):
        lists.setdefault(manifest.list_of(*taker), []).append(taker)
    judged = _Judged(record for record in manifest.evaluation(split).records if record.problem is None)
    shared, named, is_admitted = set[str](), list[str](), True
    for (data, part), takers in lists.items():
        try:
            if _is_not_worth_reading(manifest, data, part, judged):
                continue
            trained, are_admitted = _trained(manifest, data, part, takers)
        except ManifestError:
            continue
        if found := judged.shared_with(trained):
            shared |= found
            named.append(f"{data}, {part}")
            is_admitted &= are_admitted
    if not shared:
        return None
    ids = [image_id for image_id in judged.ids if image_id in shared]
    return f"{manifest.path}: {some(ids)} of the split {split!r} {_said(len(ids), '; '.join(named), is_admitted)}"


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


def _is_not_worth_reading(manifest: "Manifest", data: str, part: str, judged: "_Judged") -> bool:
    """Whether a list is a COCO json that takes long to read, and none of the judged images lies in its folder."""
    spec = manifest.data[data]
    if spec.layout != "coco" or manifest.has_read(data, part):
        return False
    if annotation_file(spec, spec.split(part)).stat().st_size <= _LARGE:
        return False
    folder = image_folder_of(spec, part)
    return not any(path.is_relative_to(folder) for path in judged.paths)


class _Judged:
    """The images that are judged on, by file. Each file is looked at once, and read once at most.

    Files of one name are many in data of a folder for each case, so that no two of them are held against each other.
    """

    def __init__(self, records: Iterable[ImageRecord]) -> None:
        self._by_path = {str(record.path): record for record in records}
        self._named: dict[str, list[ImageRecord]] = {}
        for record in self._by_path.values():
            self._named.setdefault(record.path.name, []).append(record)
        self._sized: dict[str, _Groups] = {}
        self._read: dict[tuple[str, int | str | None], _Groups] = {}
        self._copies: dict[str, Sequence[ImageRecord]] = {}

    @property
    def ids(self) -> list[str]:
        """In the order of the split."""
        return [record.image_id for record in self._by_path.values()]

    @property
    def paths(self) -> list[Path]:
        """In the order of the split."""
        return [record.path for record in self._by_path.values()]

    def shared_with(self, trained: Iterable[ImageRecord]) -> set[str]:
        """The ids of judged images whose file, or a copy of it under its name, is trained on."""
        shared = set[str]()
        for record in trained:
            if record.problem is not None:
                continue
            if (same := self._by_path.get(str(record.path))) is not None:
                shared.add(same.image_id)
            elif record.path.name in self._named:
                shared.update(copy.image_id for copy in self._copies_of(record.path))
        return shared

    def _copies_of(self, path: Path) -> Sequence[ImageRecord]:
        """The judged images of this file's name with its bytes, which are read only where their sizes are equal."""
        if (key := str(path)) not in self._copies:
            size = _size_of(path)
            digest = _digest_of(path) if size in self._of_name(path.name) else None
            self._copies[key] = () if digest is None else self._of_size(path.name, size).get(digest, ())
        return self._copies[key]

    def _of_name(self, name: str) -> _Groups:
        """The judged images of a name by the sizes of their files."""
        if name not in self._sized:
            self._sized[name] = _grouped(self._named[name], _size_of)
        return self._sized[name]

    def _of_size(self, name: str, size: int | str | None) -> _Groups:
        """Those of a size by the digests of their files."""
        if (name, size) not in self._read:
            self._read[name, size] = _grouped(self._of_name(name)[size], _digest_of)
        return self._read[name, size]


def _grouped(records: Iterable[ImageRecord], fact_of: Callable[[Path], int | str | None]) -> _Groups:
    """Records by a fact of their files; without those that have none."""
    groups: dict[int | str | None, list[ImageRecord]] = {}
    for record in records:
        if (fact := fact_of(record.path)) is not None:
            groups.setdefault(fact, []).append(record)
    return groups


def _size_of(path: Path) -> int | None:
    """The size of a plain file on disk; None for all others, and one that cannot be read is told as an image."""
    if isinstance(path, UrlPath):
        return None
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_size if stat.S_ISREG(state.st_mode) else None


def _digest_of(path: Path) -> str | None:
    try:
        return digest_of_file(path)
    except OSError:
        return None
