"""What a call of `generate` says at its end: what the store holds now, and what deserves a second look."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wilss.data.layouts import ImageRecord, Records, odd_looks, why_no_pixel
from wilss.data.manifest import Manifest, told_unlisted
from wilss.data.names import some
from wilss.disk import Location
from wilss.errors import counted
from wilss.store import Look, MaskStore, Status, coverage_of, look_at, shows_none

from ..sources.base import MaskSource
from ..sources.fmwiss_params import CONFIDENCE_OF
from ..stages.params import StageParams
from ..stages.region_file import images_without_regions
from .made_with import NETWORKS_LIBRARY

#: Images of which one has pixel labels, where there are any.
_LOOKED_AT = 1000


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What is in the store now, and what this call added.

    without: of the images that are done, those that are known to show none of the step's classes. look: what a person
    would notice of the masks. has_labels: whether there are pixel labels to judge them by. lost: a
    sentence for every shard not made. left_out: images of the step behind the limit.
    """

    store: Location
    images: int
    done: int
    failed: Mapping[str, str]
    untagged: int
    unlabelled: int
    masks_per_class: Mapping[str, int]
    made_now: int
    seconds: float
    look: Look
    has_labels: bool = False
    left_out: int = 0
    without: int = 0
    warnings: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def images_per_second(self) -> float:
        """Images made by this call per second of it."""
        return self.made_now / self.seconds if self.seconds else 0.0


def summary_of(
    store: MaskStore,
    records: Sequence[ImageRecord],
    *,
    made_now: int,
    seconds: float,
    warnings: tuple[str, ...],
    lost: tuple[str, ...],
    left_out: int = 0,
) -> Summary:
    """Count what `store` holds now; the rest is what the run says of itself."""
    status, errors, area = store.vector("status"), store.vector("error"), store.vector("area")
    failed = {store.image_ids[row]: str(errors[row]) for row in np.flatnonzero(status == Status.FAILED).tolist()}
    masks = (area > 0).sum(axis=0).tolist()
    return Summary(
        store=store.path,
        images=store.layout.num_images,
        done=int((status == Status.DONE).sum()),
        failed=failed,
        untagged=int((status == Status.UNTAGGED).sum()),
        unlabelled=int((status == Status.UNLABELLED).sum()),
        masks_per_class=dict(zip(store.category_names, masks, strict=True)),
        made_now=made_now,
        seconds=seconds,
        look=look_at(store),
        has_labels=any(record.label is not None for record in itertools.islice(records, _LOOKED_AT)),
        left_out=left_out,
        without=int(shows_none(store).sum()),
        warnings=warnings,
        lost=lost,
    )


def warnings_of(
    store: MaskStore,
    manifest: Manifest,
    records: Sequence[ImageRecord],
    source: MaskSource,
    listed: Sequence[ImageRecord],
) -> tuple[str, ...]:
    """What deserves a second look: classes without images or masks, images that are gone, dark or on no list.

    Also a store that does not note what an older wilss did not.

    listed: all images of the step, of which `records` are those up to a limit.
    """
    unlisted = told_unlisted(manifest, manifest.steps[store.step].data)
    sentences = [*unlisted, *_of_images_gone(store, records), *_of_classes(store, manifest, records, source, listed)]
    sentences += _of_no_mask(store, source)
    if not source.reads_labels:
        sentences += odd_looks(records)
    if not store.layout.has_content:
        sentences.append(_not_noted(store))
    identity = source.identity()
    if CONFIDENCE_OF in identity and CONFIDENCE_OF not in store.attributes:
        sentences.append(
            f"{store.path} was made by an older wilss: its confidences are the mean score inside a mask, and today the "
            "mean sureness, which the trainer's memory chooses better by. --overwrite makes it again."
        )
    library = identity.get(NETWORKS_LIBRARY)
    if library is not None and NETWORKS_LIBRARY not in store.attributes:
        sentences.append(
            f"{store.path} was begun by an older wilss, which did not note the version of {library.partition(' ')[0]}; "
            f"nobody can say whether it was the present one, {library}. --overwrite makes it again."
        )
    return tuple(sentences)


def region_warnings(source: MaskSource, records: Sequence[ImageRecord]) -> Iterator[str]:
    """A sentence where a file of regions does not know all images. Raises ParameterError where it knows none."""
    params = getattr(source, "params", None)
    if isinstance(params, StageParams) and params.regions == "file":
        yield from images_without_regions(params.regions_file, [record.image_id for record in records])


def _of_no_mask(store: MaskStore, source: MaskSource) -> Iterator[str]:
    """A sentence where a source that needs no tags found nothing in any image; others tell class by class."""
    done = int((store.vector("status") == Status.DONE).sum())
    if done and not source.uses_tags and not store.vector("area").any():
        yield (
            f"{store.path} has no mask in any of {counted(done, 'image')}: {source.name} found none of the classes, so "
            "nothing can be learnt of it; train its network for longer, give more supports, or let more pass."
        )


def _of_images_gone(store: MaskStore, records: Sequence[ImageRecord]) -> Iterator[str]:
    """A sentence for images of which the store has masks, and which cannot be used any more."""
    problems = {image_id: problem for image_id, _, problem in Records.of(records).facts() if problem is not None}
    is_done = store.vector("status") == Status.DONE if problems else np.array([], np.bool_)
    gone = [store.image_ids[row] for row in np.flatnonzero(is_done).tolist() if store.image_ids[row] in problems]
    if gone:
        yield f"{store.path} keeps masks of {some(gone)}, which cannot be used any more: {problems[gone[0]]}"


def _of_classes(
    store: MaskStore,
    manifest: Manifest,
    records: Sequence[ImageRecord],
    source: MaskSource,
    listed: Sequence[ImageRecord],
) -> Iterator[str]:
    """A sentence for every class of which no image is tagged, or that is tagged and that no mask shows."""
    coverage = coverage_of(store)
    if not source.uses_tags or not coverage.tagged.sum():
        return
    tagged = _classes_of(listed) if len(listed) > len(records) else set()
    missing: list[str] = []
    cut: list[str] = []
    for place in coverage.without_image:
        (cut if store.category_ids[place] in tagged else missing).append(repr(coverage.names[place]))
    if cut:
        yield (
            f"none of the first {len(records)} of {len(listed)} images (--limit) is tagged {', '.join(cut)}, which "
            "others are; leave --limit out before you train."
        )
    if missing:
        yield (
            f"no image of step {store.step} is tagged {', '.join(missing)}, so nothing can be learnt of it; "
            f"tag some, or leave {'the class' if len(missing) == 1 else 'these classes'} out of the step."
        )
    for place in coverage.without_mask:
        why = "look at `wilss-masks sheet`, and let more pass with a lower threshold"
        if source.reads_labels:
            why = why_no_pixel(records, store.category_ids[place], manifest.taxonomy)
        yield (
            f"{coverage.names[place]!r} is tagged in {counted(coverage.tagged[place], 'image')} and no mask shows it: "
            f"{why}."
        )


def _classes_of(records: Sequence[ImageRecord]) -> set[int]:
    tags, kinds = Records.of(records).kinds_of_tags()
    return {identity for kind in np.unique(kinds).tolist() for identity in tags[kind]}


def _not_noted(store: MaskStore) -> str:
    return (
        f"{store.path} was begun by an older wilss, which did not note what its images and labels were; nobody can say "
        "whether they are still the same. --update makes it again, so that changes are noticed."
    )
