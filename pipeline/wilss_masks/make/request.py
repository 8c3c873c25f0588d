"""What a call asks for, before anything is opened: where the store goes, which networks and images, and by which plan.

`generate` asks all of it, and so does whoever wants to know what `generate` would do.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from wilss.data.layouts import ImageRecord, Records, Selection
from wilss.data.layouts.listing import with_unknown_tags_refused
from wilss.data.manifest import Encoders, Manifest
from wilss.disk import Location, is_there, location_of, resolved
from wilss.errors import ParameterError, StoreError, counted
from wilss.store import MaskStore

from ..sources.base import MaskSource, require_encoder
from .options import Options
from .plan import MaskPlan, make_plan


@dataclass(frozen=True, kw_only=True)
class Request:
    """One call of `generate`, settled: which images, by which source and options, into which store.

    source, options: also of what the store at `path` keeps beside its masks, whether or not it was asked for again.
    selection: all images of the step. attributes: what a store of this call says of itself, see `attributes_of`; empty
    until they are wanted, since digests of weights are among them.
    """

    manifest: Manifest
    step: int
    source: MaskSource
    options: Options
    path: Location
    selection: Selection
    attributes: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def records(self) -> Sequence[ImageRecord]:
        """The images to be made: those of the selection up to the limit."""
        return self.selection.records[: self.options.limit]

    @property
    def encoders(self) -> Encoders:
        """The manifest's, from which older stores are told that do not note all of theirs."""
        return self.manifest.encoders


def kept_store(path: Location, options: Options) -> MaskStore | None:
    """The store at `path`, complete or not; None where there is none, or it is to be overwritten."""
    if options.overwrite or not is_there(path):
        return None
    return MaskStore.open(path, allow_partial=True)


def default_store(manifest: Manifest, step: int, split: str = "train") -> Path:
    """Where a step's masks go when nobody says: `masks/<manifest name>/step-<t>.zarr`."""
    ending = "" if split == "train" else f"-{re.sub(r'[^A-Za-z0-9._-]', '_', split)}"
    return Path("masks") / manifest.name / f"step-{step}{ending}.zarr"


def store_path(manifest: Manifest, step: int, out: Location | str | None, split: str) -> Location:
    """Where a step's masks go: `out`, or the default; what a link points to."""
    path = location_of(out) if out is not None else default_store(manifest, step, split)
    return resolved(path) if isinstance(path, Path) and path.is_symlink() else path


def require_other_than_read(path: Location, source: MaskSource, features_from: Sequence[Location] = ()) -> None:
    """StoreError where the store to be written is one that is read: the source's, or one of features."""
    read = getattr(source, "reads_store", None)
    if read is not None and resolved(read) == resolved(path):
        raise StoreError(f"{path} is the store of the first pass, which is read; give another --out.")
    if any(resolved(one) == resolved(path) for one in features_from):
        raise StoreError(f"{path} is a store whose features are read; give another --out.")


def require_classes_of(source: MaskSource, manifest: Manifest, step: int) -> None:
    """ParameterError for a source of other classes than the step's: its masks would be kept under these names."""
    if isinstance(source, str | type):
        raise ParameterError(
            f"a source is an object such as wilss_masks.FmwissSource.from_manifest(manifest, step={step}), not "
            f"{source!r}; make one."
        )
    names = [manifest.taxonomy.name_of(identity) for identity in manifest.protocol.new(step)]
    if (own := _classes_of(source, manifest)) not in (None, names):
        first = next((place for place, pair in enumerate(zip(own, names, strict=False)) if pair[0] != pair[1]), None)
        raise ParameterError(
            f"the source {source.name!r} is for {_listed(own, first)}, and step {step} of {manifest.name} brings "
            f"{_listed(names, first)}; make it by `from_manifest(manifest, step={step})`."
        )


def _classes_of(source: MaskSource, manifest: Manifest) -> list[str] | None:
    """The names of the classes that a source was made for; None where it takes those that it is asked for."""
    ids, classes, all_names = getattr(source, "category_ids", None), getattr(source, "classes", None), manifest.taxonomy
    if ids is not None:
        return [all_names.name_of(i) if 0 <= i < len(all_names.class_names) else f"id {i}" for i in ids]
    return None if classes is None else [one if isinstance(one, str) else one[0] for one in classes]


def _listed(names: Sequence[str], first: int | None) -> str:
    """Some of them, from where two lists differ; None where one only goes on longer."""
    shown = names[:5] if first is None else names[first : first + 5]
    before, behind = "..., " if first else "", ", ..." if (first or 0) + 5 < len(names) else ""
    return f"{counted(len(names), 'class', 'classes')} ({before}{', '.join(map(repr, shown))}{behind})"


def require_known_names(source: MaskSource, *, also_files: bool = False) -> None:
    """EncoderError for an encoder that would be refused later, before its weights are asked for.

    also_files: also those whose weights are local files, which are refused when they are opened.
    """
    for name, spec in source.encoders:
        if also_files or spec.file is None:
            require_encoder(name, spec)


def to_fetch(source: MaskSource) -> tuple[str, ...]:
    """What of a source's networks is not here and will be fetched. Raises WeightsError where it cannot be."""
    from wilss.models.encoders.to_fetch import to_fetch as of_encoder

    told = (sentence for name, spec in source.encoders for sentence in of_encoder(spec, with_text=name == "clip"))
    own = getattr(source, "to_fetch", tuple)  # of a network that is no encoder of the manifest
    return tuple(dict.fromkeys((*told, *own())))


def selection_for(manifest: Manifest, step: int, source: MaskSource, split: str) -> Selection:
    """The images that a source is asked about: those that the step's tags admit, or all of the split.

    An image of which nobody knows what it shows is no fault for a source that reads labels alone.
    """
    if not source.uses_tags:
        return manifest.images(step, split)
    selection = manifest.records(step, split)
    if source.reads_labels:
        return selection
    records = with_unknown_tags_refused(manifest.data[manifest.steps[step].data], Records.of(selection.records))
    return Selection(records=records, warnings=selection.warnings)


def plan_for(
    manifest: Manifest,
    step: int,
    source: MaskSource,
    records: Sequence[ImageRecord],
    options: Options,
    *,
    has_content: bool = True,
) -> MaskPlan:
    """The plan of a step: reads the images' headers and, for a source of pixel labels, which classes these hold.

    has_content: see `make_plan`.
    """
    taxonomy, spec = manifest.taxonomy, manifest.data[manifest.steps[step].data]
    return make_plan(
        step=step,
        records=records,
        categories={identity: taxonomy.name_of(identity) for identity in manifest.protocol.new(step)},
        source=source,
        shard_size=options.shard_size,
        batch_size=options.batch_size,
        keep_soft=options.keep_scores,
        tags_are_labels=source.reads_labels and spec.tags_are_labels,
        tags_are_complete=spec.tags.complete,
        has_content=has_content,
    )
