"""From regions in a mask store to instances with pixels; every image is decoded once for all its classes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat

from wilss.data.layouts import ImageRecord
from wilss.errors import OneImageError

from ..data.masked_images import MaskedImages
from .regions import Queue, Region
from .writing import Instance

#: Classes (positions in the list of queues) with their regions in one image.
_Regions = dict[int, Region]


@dataclass(frozen=True, kw_only=True)
class Marks:
    """What every instance of a step is marked with: the step, and whether its masks were made from tags."""

    step: int
    weak: bool


def archive(
    queues: Sequence[Queue], records: Mapping[str, ImageRecord], marks: Marks, *, per_class: int, threads: int
) -> tuple[list[Instance], dict[str, str]]:
    """The first `per_class` instances of every queue, queue by queue, and image id -> why it was passed over.

    records: what the manifest says of the images, by id. Masks choose, images are read only then; where either cannot
    be read, the queue's next comes in.
    """
    cut: dict[tuple[int, int], Instance] = {}
    failed: dict[int, str] = {}
    images = MaskedImages(queues[0].store, records)
    with ThreadPoolExecutor(threads, thread_name_prefix="memory") as pool:
        while True:
            won = list(pool.map(Queue.first, queues, repeat(per_class), repeat(frozenset(failed))))
            missing = _by_image(won, cut)
            if not missing:
                break
            jobs = {row: pool.submit(_cut, row, regions, queues, images, marks) for row, regions in missing.items()}
            for row, job in jobs.items():
                try:
                    cut |= {(number, row): instance for number, instance in job.result().items()}
                except OneImageError as error:
                    failed[row] = str(error)
    failed |= {row: why for queue in queues for row, why in queue.failed.items()}
    instances = [cut[number, row] for number, regions in enumerate(won) for row in regions]
    return instances, {queues[0].store.image_ids[row]: failed[row] for row in sorted(failed)}


def _by_image(won: Sequence[Mapping[int, Region]], cut: Mapping[tuple[int, int], Instance]) -> dict[int, _Regions]:
    """What is still to be cut: row -> its regions by queue, in the store's order."""
    missing: defaultdict[int, _Regions] = defaultdict(dict)
    for number, regions in enumerate(won):
        for row, region in regions.items():
            if (number, row) not in cut:
                missing[row][number] = region
    return dict(sorted(missing.items()))


def _cut(
    row: int, regions: _Regions, queues: Sequence[Queue], images: MaskedImages, marks: Marks
) -> dict[int, Instance]:
    """The regions of one image. Raises ImageError."""
    image = images.image(row)
    instances = {}
    for number, region in regions.items():
        top, left, bottom, right = region.box
        instances[number] = Instance(
            index=0,  # its place in the bank is known when all are there
            category_id=queues[number].category_id,
            image_id=images.store.image_ids[row],
            box=region.box,
            area=int(region.mask.sum()),
            step=marks.step,
            weak=marks.weak,
            confidence=float(queues[number].confidence[row]),
            image=image[top:bottom, left:right].copy(),
            mask=region.mask,
        )
    return instances
