"""`load_manifest`: which images, tags, labels, classes per step and encoders, read from data_manifest.yaml."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from wilss.data.images import ALL_BITS
from wilss.data.layouts import READERS, DataSpec, ImageRecord, Listing, Records, Selection
from wilss.data.layouts.listing import with_unknown_tags_refused
from wilss.data.manifest import build, drawn, lock
from wilss.data.manifest.encoders import Encoders
from wilss.data.manifest.inputs import content_digests
from wilss.data.manifest.schema import ManifestModel, parse
from wilss.data.manifest.supports import SupportList, build_supports
from wilss.data.manifest.text import Where, read_yaml
from wilss.data.protocol import StepProtocol
from wilss.data.taxonomy import Taxonomy, closest
from wilss.digests import digest_of_json
from wilss.disk import data_path, joined
from wilss.errors import ManifestError, ParameterError

Supervision = Literal["pixel", "tags", "shots"]


@dataclass(frozen=True, kw_only=True)
class StepData:
    """Where a step's images come from. split: what stands in the place of `train`."""

    data: str
    split: str
    supervision: Supervision


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A checked data_manifest.yaml.

    prompts: what the text tower is asked for each id but background, the class's own name by default;
        written_prompts: the ids whose prompts stand in the manifest. background_prompts: None for the
        package's own words.
    masks: parameters by the name of the mask source; preset: the set of parameters that these start from, "" for
        none; chosen_on: a list of the images that they were chosen on. train: parameters of the trainer. data: data
        sets by name.
    steps: where each step's images come from. parts: (data, split) by the name of an evaluation. supports: where a
        step's few annotated images are named. locked: the lock file's content, if there is one.
    """

    path: Path
    name: str
    title: str
    taxonomy: Taxonomy
    protocol: StepProtocol
    prompts: Mapping[int, tuple[str, ...]]
    written_prompts: frozenset[int]
    background_prompts: tuple[str, ...] | None
    encoders: Encoders
    masks: Mapping[str, Mapping[str, Any]]
    train: Mapping[str, Any]
    data: Mapping[str, DataSpec]
    steps: tuple[StepData, ...]
    parts: Mapping[str, tuple[tuple[str, str], ...]]
    supports: Mapping[int, SupportList] = field(default_factory=dict)
    locked: lock.Lock | None = None
    preset: str = ""
    chosen_on: Path | None = None
    _listings: dict[tuple[str, str, bool], Listing] = field(default_factory=dict, repr=False, compare=False)

    def supervision(self, step: int) -> Supervision:
        """Whether a step's classes come with pixel labels, with image tags only, or with a few annotated images."""
        self.protocol.new(step)
        return self.steps[step].supervision

    def records(self, step: int, split: str = "train") -> Selection:
        """The images of a step: those that the protocol admits by their tags, and those that cannot be judged.

        Where the tags are complete, those without the step's classes as well.

        An index list (npy) is a selection already and is taken as it is. Built-in data that is missing is drawn.
        Raises ProtocolError for a step that there is not, ManifestError where lists or tags are of no use.
        """
        listing, spec = self.listing(*self.list_of(step, split)), self.data[self.steps[step].data]
        listed = listing.records
        if self.steps[step].supervision != "pixel":
            listed = with_unknown_tags_refused(spec, listed)
        records = listed if listing.exact else self._admitted(listed, step)
        return Selection(records=records, warnings=listing.warnings)

    def images(self, step: int, split: str = "train") -> Selection:
        """All images of a step's split, whatever they show.

        What is known of their tags comes along, and missing tags are no fault.
        """
        listing = self.listing(*self.list_of(step, split), lenient=True)
        return Selection(records=listing.records, warnings=listing.warnings)

    def evaluation(self, split: str = "val") -> Selection:
        """All images of an evaluation split, of every data set that belongs to it; missing tags are no fault."""
        records: list[ImageRecord] = []
        warnings: list[str] = []
        for data, part in self._parts(split):
            listing = self.listing(data, part, lenient=True)
            records += _renamed(listing.records, {record.image_id for record in records}, data)
            warnings += listing.warnings
        return Selection(records=tuple(records), warnings=tuple(warnings))

    def list_of(self, step: int, split: str = "train") -> tuple[str, str]:
        """The data set of a step and the split of it that `split` stands for. Raises ProtocolError."""
        self.protocol.new(step)
        source = self.steps[step]
        return source.data, source.split if split == "train" else split

    def listing(self, data: str, split: str, *, lenient: bool | None = False) -> Listing:
        """Every image of a split of a data set, whatever the step; read once.

        lenient: whether missing tags are no fault; None where only files matter: whichever was read already.
        """
        lenient = (data, split, False) not in self._listings if lenient is None else lenient
        key = (data, split, lenient)
        if key not in self._listings:
            self.draw()
            spec = self.data[data]
            self._listings[key] = READERS[spec.layout](spec, split, lenient=lenient)
        return self._listings[key]

    def has_read(self, data: str, split: str, *, strictly: bool = False) -> bool:
        """Whether `listing` has a split of a data set at hand. strictly: so that its tags are known."""
        return any((data, split, lenient) in self._listings for lenient in ((False,) if strictly else (False, True)))

    def draw(self) -> None:
        """Draw the built-in data if it is missing."""
        for spec in self.data.values():
            drawn.ensure(spec)

    @cached_property
    def digest(self) -> str:
        """sha256 of all that decides which images and classes there are: no paths, encoders or mask parameters."""
        self.draw()
        facts = {
            "classes": self.taxonomy.class_names,
            "steps": self.protocol.steps,
            "setting": self.protocol.setting,
            "sources": [[step.data, step.split] for step in self.steps],
            "data": {
                name: {
                    "layout": spec.layout,
                    "tags": [spec.tags.kind, spec.tags.difficult, sorted(set(spec.tags.ignore))],
                    "labels": spec.labels,
                    "names": spec.own.class_names,
                    "lists": content_digests(spec),
                    **spec.reading,
                }
                for name, spec in self.data.items()
            },
        }
        return digest_of_json(facts)

    def described(self, step: int) -> dict[str, Any]:
        """How a step's images and labels are read, in the manifest's own words; `digest` has more, but says nothing."""
        spec = self.data[self.steps[step].data]
        names = {} if spec.own is spec.taxonomy else {str(i): name for i, name in enumerate(spec.own.class_names)}
        said = {
            "names": names,
            "values": {str(value): name for value, name in (spec.values or {}).items()},
            "void": sorted(set(spec.void or ())),
            "reduce_zero_label": spec.reduce_zero_label,
            "colors": spec.colors,
            "bits": spec.bits if spec.bits != ALL_BITS else None,
            "labelmap": [f"{row.name}:{','.join(map(str, row.rgb))}" for row in spec.labelmap],
        }
        return {"layout": spec.layout, "labels": spec.labels, **{key: value for key, value in said.items() if value}}

    def _admitted(self, records: Records, step: int) -> Records:
        """What the protocol admits by its tags, and what has none because of its problem or for want of a label.

        Where the tags are complete, also what they say to be without the step's classes.
        """
        is_complete = self.data[self.steps[step].data].tags.complete
        return records.where(
            (not tags and (problem is not None or is_unknown))
            or self.protocol.admits(tags, step)
            or (is_complete and problem is None and self.protocol.lacks(tags, step))
            for (_, tags, problem), is_unknown in zip(records.facts(), records.are_unknown(), strict=True)
        )

    @property
    def judged_on(self) -> tuple[str, ...]:
        """The splits that `evaluation` takes, sorted."""
        used = dict.fromkeys(step.data for step in self.steps)
        return tuple(sorted({*self.parts, *(split for name in used for split in self.data[name].splits)}))

    def _parts(self, split: str) -> tuple[tuple[str, str], ...]:
        if split in self.parts:
            return self.parts[split]
        used = dict.fromkeys(step.data for step in self.steps)
        parts = tuple((name, split) for name in used if split in self.data[name].splits)
        if not parts:
            raise ManifestError(f"{self.path} has no split {split!r}{closest(split, self.judged_on)}.")
        return parts


def require_manifest(manifest: object) -> None:
    """ParameterError for the path of a manifest in its place, before the first use of it says something else."""
    if isinstance(manifest, str | Path):
        raise ParameterError(f"a manifest is what wilss.load_manifest(PATH) gives, not {manifest!r}; load it first.")


def load_manifest(path: Path | str, *, check_lock: bool = True) -> Manifest:
    """Read and check a manifest; data_manifest.lock.yaml beside it, if there is one, must still hold.

    Raises ManifestError naming file, line, key path and how to fix it.
    """
    file = data_path(path).absolute()
    if file.is_dir():
        file = file / "data_manifest.yaml"
    if not file.exists() and not file.is_symlink():
        raise ManifestError(f"{path} is not there; pass --manifest, or write one with `wilss-masks manifest init`.")
    content, where = read_yaml(file)
    manifest = _built(parse(content, where), where, file)
    return lock.applied(manifest) if check_lock else manifest


def _built(model: ManifestModel, where: Where, file: Path) -> Manifest:
    build.require_background(model.names, where)
    taxonomy = build.build_taxonomy(model.names, model.name, where, ("names",))
    protocol = build.build_protocol(model, taxonomy, where)
    prompts, written = build.build_prompts(model.names, where)
    data = build.build_data(model, taxonomy, where)
    return Manifest(
        path=file,
        name=model.name,
        title=model.title or model.name,
        taxonomy=taxonomy,
        protocol=protocol,
        prompts={identity: names for identity, names in prompts.items() if identity},
        written_prompts=written,
        background_prompts=build.build_background_prompts(model, where),
        encoders=build.build_encoders(model, where),
        masks=model.masks.model_extra or {},
        preset=model.masks.preset or "",
        chosen_on=joined(file.parent, model.masks.chosen_on) if model.masks.chosen_on else None,
        train=model.train,
        data=data,
        steps=_steps(model, protocol, data, where),
        parts=_evaluations(model, data, where),
        supports=build_supports(model.supports, protocol, where),
    )


def _steps(
    model: ManifestModel, protocol: StepProtocol, data: Mapping[str, DataSpec], where: Where
) -> tuple[StepData, ...]:
    default = next(iter(data))
    steps = []
    for step in range(protocol.num_steps):
        written = model.steps[step] if model.steps else None
        name = (written and written.data) or default
        _require_data(name, data, where, ("steps", step, "data"))
        split = (written and written.split) or "train"
        if split not in data[name].splits:
            raise where.error(
                ("steps", step, "split"), f"{name} has no split {split!r}{closest(split, data[name].splits)}."
            )
        supervision = (written and written.supervision) or ("tags" if step else "pixel")
        steps.append(StepData(data=name, split=split, supervision=supervision))
    return tuple(steps)


def _evaluations(
    model: ManifestModel, data: Mapping[str, DataSpec], where: Where
) -> dict[str, tuple[tuple[str, str], ...]]:
    parts = {}
    for split, entries in model.evaluation.items():
        pairs = []
        for place, entry in enumerate(entries):
            key = ("evaluation", split, place)
            name, part = entry.data or next(iter(data)), entry.split or split
            _require_data(name, data, where, (*key, "data"))
            if part not in data[name].splits:
                raise where.error((*key, "split"), f"{name} has no split {part!r}{closest(part, data[name].splits)}.")
            pairs.append((name, part))
        parts[split] = tuple(pairs)
    return parts


def _require_data(name: str, data: Mapping[str, DataSpec], where: Where, key: tuple[str | int, ...]) -> None:
    if name not in data:
        raise where.error(key, f"there is no data set {name!r}{closest(name, data)}.")


def _renamed(records: Iterable[ImageRecord], taken: set[str], data: str) -> list[ImageRecord]:
    """Records whose id another data set has already carry the name of theirs before it."""
    return [
        replace(record, image_id=f"{data}/{record.image_id}") if record.image_id in taken else record
        for record in records
    ]
