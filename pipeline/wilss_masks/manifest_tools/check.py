"""`manifest check`: is every image there and readable, do its tags and labels fit, and what is in each step."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from wilss.data.layouts import ImageRecord, odd_looks, why_no_pixel
from wilss.data.manifest import Manifest, told_overlap
from wilss.data.manifest.sections import section_faults
from wilss.data.names import some
from wilss.data.taxonomy import BACKGROUND, meaning_of
from wilss.errors import counted

from .encoders import EncoderReport, check_encoders
from .label_files import label_doubts
from .looking import Looks, Part, collected, evaluations, key_of, parts_of
from .supports import support_counts, without_supports
from .tables import table_reports
from .unread import unread_of


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One image that cannot be used as it is. part: which step or split it belongs to."""

    part: str
    image_id: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What a step or an evaluation split holds.

    part: "step 1" or "val". supervision: pixel, tags, or "" for evaluation. images: usable and not. without: of these
    those that are known to show none of the step's classes.
    classes: (id, name, images tagged with it, images whose labels hold it), the step's classes or all.
    labelled is None in all of them where labels were not read. supports: usable ones by class name, None where the
    manifest names none for this step.
    """

    part: str
    supervision: str
    images: int
    classes: tuple[tuple[int, str, int, int | None], ...]
    supports: Mapping[str, int] | None = None
    without: int = 0


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
    parts = list(parts_of(manifest, faults))
    looks = Looks(parts, labels=labels, images=images, progress=progress)
    supports = {f"step {step}": support_counts(manifest, step, faults) for step in range(manifest.protocol.num_steps)}
    counts = tuple(_counts(manifest, part, looks, supports.get(part.name)) for part in parts)
    doubts = list(_reduced(manifest))
    with collected(faults):
        doubts += _doubts(manifest) if labels else ()
    warnings = [*encoders.warnings, *doubts, *_warnings(manifest, parts, counts, looks)]
    return CheckReport(
        images=len(looks),
        counts=counts,
        findings=_findings(parts, looks),
        warnings=tuple(dict.fromkeys(warnings)),
        faults=tuple(dict.fromkeys(faults)),
    )


def _findings(parts: Iterable[Part], looks: Looks) -> tuple[Finding, ...]:
    """The images that cannot be used, each under the first part that it is a fault of."""
    findings: dict[tuple[str, str], Finding] = {}
    for part in parts:
        needed = part.supervision == "pixel" and len(_bare(part, looks)) == len(part.records)
        for record in part.records:
            problem = looks[record].problem or (_no_label(part, record) if needed else None)
            if problem is not None:
                findings.setdefault(key_of(record), Finding(part=part.name, image_id=record.image_id, sentence=problem))
    return tuple(findings.values())


def _bare(part: Part, looks: Looks) -> list[ImageRecord]:
    """The images of a part that have no labels, though it asks for them; not where it is known what they would be."""
    return [record for record in part.records if looks[record].unlabelled and not part.shows_none(record)]


def _warnings(manifest: Manifest, parts: Sequence[Part], counts: Sequence[Counts], looks: Looks) -> Iterator[str]:
    """What is odd about lists, tags and labels, and stops nothing: of all that is listed, then part by part."""
    yield from _overlaps(manifest, parts)
    yield from (f"{part.name}: {odd}" for part in parts for odd in odd_looks(part.records))
    for part in parts:
        yield from part.warnings
    for report in table_reports(manifest):
        yield from report.warnings
    yield from unread_of(manifest)
    yield from without_supports(manifest)
    yield from (told for part in parts if (told := _without_labels(part, _bare(part, looks))) is not None)
    for part in parts:
        yield from _apart(manifest, part, looks)
    for part, counts_of_part in zip(parts, counts, strict=True):
        yield from _unseen(manifest, part, counts_of_part, looks)


def _no_label(part: Part, record: ImageRecord) -> str:
    there = f"label at {part.labels}/{record.image_id}.png; add it" if part.labels else "pixel labels; add them"
    return f"{record.path} has no {there}, or leave the image out of the list."


def _unseen(manifest: Manifest, part: Part, counts: Counts, looks: Looks) -> list[str]:
    """A sentence for every class that a step has no image of, or that is tagged and in no label where labels count."""
    sentences = []
    usable = [record for record in part.records if looks[record].holds is not None]
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
    lists |= {split: (manifest.evaluation(split).records, anywhere) for split in evaluations(manifest)}
    apart = not any(spec.tags_are_labels for spec in manifest.data.values())
    return [
        f"{where}: {doubt}"
        for where, (records, said) in lists.items()
        for doubt in label_doubts(records, manifest.taxonomy, tags_are_labels=not apart, written=said)
    ]


def _overlaps(manifest: Manifest, parts: Iterable[Part]) -> list[str]:
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


def _apart(manifest: Manifest, part: Part, looks: Looks) -> Iterator[str]:
    """Where tags and labels of a step with pixel labels say different things, of classes that both show."""
    if part.supervision != "pixel":
        return
    read = [(record, holds) for record in part.records if (holds := looks[record].holds)]
    for identity in part.class_ids:
        held = [record.image_id for record, holds in read if identity in holds and identity not in record.tags]
        tagged = [record.image_id for record, holds in read if identity in record.tags and identity not in holds]
        name = manifest.taxonomy.name_of(identity)
        if held:
            yield f"{part.name}: {name!r} is in the labels of {some(held)} without a tag of it; the label decides."
        if tagged and len(tagged) < sum(identity in record.tags for record, _ in read):
            yield f"{part.name}: {name!r} is tagged and not labelled in {some(tagged)}; the label decides."


def _without_labels(part: Part, bare: Sequence[ImageRecord]) -> str | None:
    """A sentence about images without labels where some have them, or where none can be judged on."""
    everyone = len(bare) == len(part.records)
    if not bare or not part.needs_labels or (everyone and part.supervision):
        return None
    if everyone:
        return f"{part.name}: none of its {len(bare)} images has pixel labels, so that nothing is judged on it."
    what = "have no masks in its store" if part.supervision else "are not judged on"
    return f"{part.name}: {some([record.image_id for record in bare])} have no pixel labels, and so {what}."


def _counts(manifest: Manifest, part: Part, looks: Looks, supports: Mapping[str, int] | None) -> Counts:
    tagged = Counter(identity for record in part.records for identity in record.tags)
    read = [holds for record in part.records if (holds := looks[record].holds) is not None]
    held = Counter(identity for holds in read for identity in holds) if read else None
    return Counts(
        part=part.name,
        supervision=part.supervision,
        images=len(part.records),
        classes=tuple(
            (i, manifest.taxonomy.name_of(i), tagged[i], None if held is None else held[i]) for i in part.class_ids
        ),
        supports=supports,
        without=sum(map(part.shows_none, part.records)),
    )
