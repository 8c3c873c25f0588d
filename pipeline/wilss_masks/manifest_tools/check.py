"""`manifest check`: is every image there and readable, do its tags and labels fit, and what is in each step."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from wilss.data.images import read_image, read_size
from wilss.data.layouts import DataSpec, ImageRecord, dark_images, require_size, why_no_pixel
from wilss.data.layouts.label_classes import classes_in
from wilss.data.layouts.listing import label_folders
from wilss.data.manifest import Manifest, told_overlap
from wilss.data.manifest.sections import section_faults
from wilss.data.names import some
from wilss.data.taxonomy import BACKGROUND, meaning_of
from wilss.errors import ImageError, ManifestError, counted
from wilss.process import map_in_threads

from .encoders import EncoderReport, check_encoders
from .label_files import label_doubts
from .tables import table_reports
from .unread import unread_of

_THREADS = 4


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One image that cannot be used as it is. part: which step or split it belongs to."""

    part: str
    image_id: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What a step or an evaluation split holds.

    part: "step 1" or "val". supervision: pixel, tags, or "" for evaluation. images: usable and not.
    classes: (id, name, images tagged with it, images whose labels hold it), the step's classes or all.
    labelled is None in all of them where labels were not read.
    """

    part: str
    supervision: str
    images: int
    classes: tuple[tuple[int, str, int, int | None], ...]


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """counts: per step, then per evaluation split. images: all that were looked at, each once.

    faults: what in the manifest would stop a command, in steps without images, parameters and encoders.
    """

    images: int
    counts: tuple[Counts, ...]
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...]
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What opening an image told: a sentence, or the classes of its labels (None where they were not read).

    unlabelled: whether labels are asked of it and there are none.
    """

    problem: str | None = None
    holds: frozenset[int] | None = None
    unlabelled: bool = False


def check_manifest(
    manifest: Manifest,
    *,
    labels: bool = True,
    images: bool = False,
    weights: bool = False,
    source: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckReport:
    """Open every image of every step and of `val`: its header, and (unless `labels` is false) its label map.

    images: decode every image to its end. weights: open encoders and backbones whose weights lie in
    files, and a store that `bank` goes over. source: of the masks, whose encoders alone are looked at.
    What stops one step or section is a fault of the report, and the others are looked at.
    """
    encoders = check_encoders(manifest, source) if weights else EncoderReport([], [])
    faults = [*section_faults(manifest, weights=weights), *encoders.faults]
    parts = list(_parts(manifest, faults))
    wanted = {_key(record): record for part in parts for record in part.records}
    needs = {_key(record) for part in parts if part.needs_labels for record in part.records}
    seen = _look(wanted, needs, labels, images, progress)
    bare = {part.name: [record for record in part.records if seen[_key(record)].unlabelled] for part in parts}
    unlabelled = [told for part in parts if (told := _without_labels(part, bare[part.name])) is not None]
    findings: dict[tuple[str, str], Finding] = {}
    for part in parts:
        needed = part.supervision == "pixel" and len(bare[part.name]) == len(part.records)
        for record in part.records:
            problem = seen[_key(record)].problem or (_no_label(part, record) if needed else None)
            if problem is not None:
                findings.setdefault(_key(record), Finding(part=part.name, image_id=record.image_id, sentence=problem))
    counts = tuple(_counts(manifest, part, seen) for part in parts)
    unseen = [
        sentence
        for part, counted in zip(parts, counts, strict=True)
        for sentence in _unseen(manifest, part, counted, seen)
    ]
    apart = [sentence for part in parts for sentence in _apart(manifest, part, seen)]
    doubts = list(_reduced(manifest))
    with _collected(faults):
        doubts += _doubts(manifest) if labels else ()
    doubts += _overlaps(manifest, parts)
    doubts += [f"{part.name}: {dark}" for part in parts if (dark := dark_images(part.records)) is not None]
    warnings = [warning for part in parts for warning in part.warnings]
    warnings += [warning for report in table_reports(manifest) for warning in report.warnings]
    warnings += unread_of(manifest)
    return CheckReport(
        images=len(wanted),
        counts=counts,
        findings=tuple(findings.values()),
        warnings=tuple(dict.fromkeys([*encoders.warnings, *doubts, *warnings, *unlabelled, *apart, *unseen])),
        faults=tuple(dict.fromkeys(faults)),
    )


class _Part(NamedTuple):
    """A step, or an evaluation split, whose supervision is "". labels: the folder of its label files, "" for a json."""

    name: str
    supervision: str
    class_ids: tuple[int, ...]
    records: Sequence[ImageRecord]
    warnings: Sequence[str]
    labels: str = ""

    @property
    def needs_labels(self) -> bool:
        return self.supervision in ("pixel", "")


def _parts(manifest: Manifest, faults: list[str]) -> Iterator[_Part]:
    """Every step, and `val` where there is one; why one cannot be had is added to `faults`."""
    for step in range(manifest.protocol.num_steps):
        with _collected(faults):
            supervision = manifest.supervision(step)
            selection = manifest.images(step) if supervision == "shots" else manifest.records(step)
            new = manifest.protocol.new(step)
            labels = _label_folder(manifest.data[manifest.steps[step].data], manifest.steps[step].split)
            yield _Part(f"step {step}", supervision, new, selection.records, selection.warnings, labels)
    for split in _evaluations(manifest):
        with _collected(faults):
            chosen = manifest.evaluation(split)
            yield _Part(split, "", manifest.taxonomy.class_ids, chosen.records, chosen.warnings)


@contextlib.contextmanager
def _collected(faults: list[str]) -> Iterator[None]:
    try:
        yield
    except ManifestError as error:
        faults.append(str(error))


def _evaluations(manifest: Manifest) -> Iterable[str]:
    known = dict.fromkeys(manifest.parts)
    if any("val" in manifest.data[step.data].splits for step in manifest.steps):
        known.setdefault("val")
    return known


def _key(record: ImageRecord) -> tuple[str, str]:
    return (record.image_id, str(record.path))


def _look(
    wanted: dict[tuple[str, str], ImageRecord],
    needs: set[tuple[str, str]],
    labels: bool,
    images: bool,
    progress: Callable[[int, int], None],
) -> dict[tuple[str, str], _Seen]:
    seen = {}
    progress(0, len(wanted))
    looked = map_in_threads(lambda item: _look_at(item[1], item[0] in needs, labels, images), wanted.items(), _THREADS)
    for done, (key, sight) in enumerate(zip(wanted, looked, strict=True), start=1):
        seen[key] = sight
        progress(done, len(wanted))
    return seen


def _look_at(record: ImageRecord, needs_label: bool, labels: bool, decode: bool) -> _Seen:
    if record.problem is not None:
        return _Seen(problem=record.problem)
    try:
        size = read_image(record.path).shape[:2] if decode else read_size(record.path)
        if record.label is None:
            return _Seen(unlabelled=needs_label, holds=frozenset())
        return _Seen(holds=_classes(record, size) if labels else None)
    except ImageError as error:
        return _Seen(problem=str(error))


def _label_folder(spec: DataSpec, split: str) -> str:
    if spec.layout == "coco":
        return ""
    folders = [spec.root / folder for folder in label_folders(spec, spec.split(split))]
    return str(next((folder for folder in folders if folder.is_dir()), folders[-1]))


def _no_label(part: _Part, record: ImageRecord) -> str:
    there = f"label at {part.labels}/{record.image_id}.png; add it" if part.labels else "pixel labels; add them"
    return f"{record.path} has no {there}, or leave the image out of the list."


def _unseen(manifest: Manifest, part: _Part, counts: Counts, seen: Mapping[tuple[str, str], _Seen]) -> list[str]:
    """A sentence for every class that a step has no image of, or that is tagged and in no label where labels count."""
    sentences = []
    usable = [record for record in part.records if seen[_key(record)].holds is not None]
    judged = part.supervision == "pixel" or (part.needs_labels and any(r.label is not None for r in usable))
    missing = [repr(name) for _, name, tagged, labelled in counts.classes if not tagged and not labelled]
    if missing and (usable or not part.records) and part.supervision in ("pixel", "tags"):
        which = "the class" if len(missing) == 1 else "these classes"
        sentences.append(
            f"{part.name}: no image is tagged {', '.join(missing)}; tag some, or leave {which} out of the step."
        )
    for identity, name, tagged, labelled in counts.classes:
        if labelled == 0 and judged and any(identity in r.tags for r in usable):
            why = why_no_pixel(usable, identity, manifest.taxonomy)
            sentences.append(
                f"{part.name}: {name!r} is tagged in {counted(tagged, 'image')} and labelled in none: {why}."
            )
    return sentences


def _doubts(manifest: Manifest) -> list[str]:
    """What label files say against the names by which they are read."""
    written = {name: frozenset(spec.values or ()) for name, spec in manifest.data.items()}
    lists: dict[str, tuple[Sequence[ImageRecord], frozenset[int]]] = {
        f"{step.data}, {step.split}": (manifest.listing(step.data, step.split).records, written[step.data])
        for step in manifest.steps
        if step.supervision == "pixel"
    }
    anywhere = frozenset[int]().union(*written.values())
    lists |= {split: (manifest.evaluation(split).records, anywhere) for split in _evaluations(manifest)}
    apart = not any(spec.tags_are_labels for spec in manifest.data.values())
    return [
        f"{where}: {doubt}"
        for where, (records, said) in lists.items()
        for doubt in label_doubts(records, manifest.taxonomy, tags_are_labels=not apart, written=said)
    ]


def _overlaps(manifest: Manifest, parts: Iterable[_Part]) -> list[str]:
    """A sentence for every split that is judged on and holds images which a step learns from."""
    last = manifest.protocol.num_steps - 1
    told = (told_overlap(manifest, part.name, last) for part in parts if not part.supervision)
    return [sentence for sentence in told if sentence is not None]


def _reduced(manifest: Manifest) -> list[str]:
    """A sentence where `reduce_zero_label` makes background of a value that is most often the first class."""
    return [
        f"{spec.at('reduce_zero_label')}: value 1 of the label files is background and value 2 is {names[1]!r}; if 0 "
        f"is void and 1 is {names[1]!r}, write `void: [0]` instead."
        for spec in manifest.data.values()
        if spec.reduce_zero_label and meaning_of((names := spec.own.class_names)[0]) == BACKGROUND
    ]


def _apart(manifest: Manifest, part: _Part, seen: Mapping[tuple[str, str], _Seen]) -> Iterator[str]:
    """Where tags and labels of a step with pixel labels say different things, of classes that both show."""
    if part.supervision != "pixel":
        return
    read = [(record, holds) for record in part.records if (holds := seen[_key(record)].holds)]
    for identity in part.class_ids:
        held = [record.image_id for record, holds in read if identity in holds and identity not in record.tags]
        tagged = [record.image_id for record, holds in read if identity in record.tags and identity not in holds]
        name = manifest.taxonomy.name_of(identity)
        if held:
            yield f"{part.name}: {name!r} is in the labels of {some(held)} without a tag of it; the label decides."
        if tagged and len(tagged) < sum(identity in record.tags for record, _ in read):
            yield f"{part.name}: {name!r} is tagged and not labelled in {some(tagged)}; the label decides."


def _without_labels(part: _Part, bare: Sequence[ImageRecord]) -> str | None:
    """A sentence about images without labels where some have them, or where none can be judged on."""
    everyone = len(bare) == len(part.records)
    if not bare or not part.needs_labels or (everyone and part.supervision):
        return None
    if everyone:
        return f"{part.name}: none of its {len(bare)} images has pixel labels, so that nothing is judged on it."
    what = "have no masks in its store" if part.supervision else "are not judged on"
    return f"{part.name}: {some([record.image_id for record in bare])} have no pixel labels, and so {what}."


def _classes(record: ImageRecord, size: tuple[int, int]) -> frozenset[int]:
    assert record.label is not None
    labels = record.label.read()
    require_size(record, labels.shape, size)
    return frozenset(classes_in(labels))


def _counts(manifest: Manifest, part: _Part, seen: Mapping[tuple[str, str], _Seen]) -> Counts:
    tagged = Counter(identity for record in part.records for identity in record.tags)
    read = [holds for record in part.records if (holds := seen[_key(record)].holds) is not None]
    held = Counter(identity for holds in read for identity in holds) if read else None
    return Counts(
        part=part.name,
        supervision=part.supervision,
        images=len(part.records),
        classes=tuple(
            (i, manifest.taxonomy.name_of(i), tagged[i], None if held is None else held[i]) for i in part.class_ids
        ),
    )
