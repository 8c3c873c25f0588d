"""What a contact sheet of a search shows: masks by the best setting beside those by the present one."""

from collections.abc import Iterator, Sequence

import numpy as np

from wilss.data.images import read_image
from wilss.data.taxonomy import VOID
from wilss.equations import fmwiss
from wilss.errors import OneImageError

from ..inspect.sheet import Row, Sheet
from ..inspect.sheet import Truth as SheetTruth
from ..sources.fmwiss_params import FmwissParams
from .masks import masks_of
from .sample import Truth
from .scratch import Seen
from .tune import Tuning


def sheet_of(tuning: Tuning, title: str, count: int) -> Sheet:
    """So many rows, an image and class each, evenly spread over those of the images that were judged."""
    judged, batches = set(tuning.image_ids), tuning.scratch.batches
    tasks = [task for batch in batches for task in batch if task.record.image_id in judged]
    wanted = _spread([(task.record.image_id, place) for task in tasks for place in range(len(task.categories))], count)
    images = {image_id for image_id, _ in wanted}
    rows: list[Row] = []
    failed: dict[str, str] = {}
    for number, batch in enumerate(batches):
        if not any(task.record.image_id in images for task in batch):
            continue
        for seen in tuning.scratch.read(number):
            if seen.task.record.image_id in images:
                try:
                    rows += _rows(tuning, seen, wanted)
                except OneImageError as error:
                    failed[seen.task.record.image_id] = str(error)
    return Sheet(title=title, rows=tuple(rows), failed=failed)


def _spread(pairs: Sequence[tuple[str, int]], count: int) -> set[tuple[str, int]]:
    places = np.linspace(0, len(pairs) - 1, min(count, len(pairs))).round().astype(int)
    return {pairs[place] for place in places.tolist()}


def _rows(tuning: Tuning, seen: Seen, wanted: set[tuple[str, int]]) -> Iterator[Row]:
    record, source = seen.task.record, next(iter(tuning.sources.values()))
    params: list[FmwissParams] = [one.setting.params or source.params for one in (tuning.present, tuning.best)]
    before, best = (masks_of(source, one, seen) for one in params)
    truths, image = tuning.sample.truths(record), read_image(record.path, record.bits)
    confidence, agreement = best.confidence, fmwiss.agreement(best.init, best.seeds)
    for place, category in enumerate(seen.task.categories):
        if (record.image_id, place) not in wanted:
            continue
        identity = tuning.sample.classes[category]
        yield Row(
            image_id=record.image_id,
            category=category,
            identity=identity,
            name=source.classes[category][0],
            image=image,
            mask=best.fused[place].cpu().numpy(),
            before=before.fused[place].cpu().numpy(),
            soft=None,
            truth=_truth(truths, identity),
            confidence=float(confidence[place]),
            agreement=float(agreement[place]),
            fell_back=False,
        )


def _truth(truths: Sequence[Truth], identity: int) -> SheetTruth | None:
    known = next((truth for truth in truths if identity in truth.classes), None)
    if known is None:
        return None
    return SheetTruth(inside=known.labels == identity, unknown=known.labels == VOID)
