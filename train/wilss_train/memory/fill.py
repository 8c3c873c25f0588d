"""Filling a memory bank at the end of a step: what is carried over, what is archived.

The paper archives while the step trains. Here every candidate has a priority, drawn uniformly by its names (seed,
image, class), and the B smallest of a class are kept. A reservoir keeps instances with the same probabilities; but
here order decides nothing, so a resumed run and any number of threads or processes give the same bank, byte for byte.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from wilss.data.layouts import ImageRecord
from wilss.data.names import composed
from wilss.data.protocol import StepProtocol
from wilss.errors import StoreError
from wilss.params import require
from wilss.randomness import DESCRIPTION
from wilss.store import MaskStore
from wilss.store.schema import SEAL_KEY

from ..data.masked_images import MaskedImages
from ..data.trust import Trust
from .bank import MemoryBank
from .cutting import Marks, archive
from .regions import Queue
from .writing import Instance, InstanceInfo, write_bank


def fill(
    path: Path,
    *,
    store: MaskStore,
    records: Mapping[str, ImageRecord],
    protocol: StepProtocol,
    step: int,
    parent: MemoryBank | None,
    per_class: int = 50,
    seed: int,
    weak: bool,
    min_area: int = 64,
    keep_confident: float = 0.5,
    limit: int = 0,
    trust: str = "all",
    least_confidence: float = 0.0,
    negatives: float = 0.0,
    threads: int = 4,
) -> dict[str, str]:
    """Write the bank of `step` to `path`: the parent's instances of old classes, and new ones of this step's store.

    records: what the manifest says of the store's images, by id. per_class: B, 50 in the paper. weak: whether the masks
    were made from tags; then only those in the upper `keep_confident` share of their class by confidence are
    candidates [D]. A candidate is the largest connected region of a class in an image, if it has `min_area` pixels [D].

    limit, trust, least_confidence, negatives: which of the store's images were trained on; no other is looked at, see
    `MaskedImages.trained_on`.

    A bank that lies at `path` is replaced. Returns image id -> why it cannot be read; such images are passed over.
    Raises StoreError where store or parent are damaged or of other classes, and where `path` is something else or
    cannot be written; ParameterError for a value out of range.
    """
    require(per_class >= 0, "per_class", per_class, "0 or more")
    require(0 < keep_confident <= 1, "keep_confident", keep_confident, "above 0 and at most 1")
    _require_classes(store, protocol, step)
    carried = _carried(parent, protocol, step, per_class)
    trusted: dict[str, Any] = {"min_area": min_area, "keep_confident": keep_confident if weak else 1.0, "seed": seed}
    taken = Trust.of(store, trust, seed, least_confidence=least_confidence)
    trained_on = MaskedImages(store, records).trained_on(limit, seed, taken, negatives=negatives)
    place = store.category_ids.index
    rows = {identity: trained_on[taken.takes(trained_on, place(identity))] for identity in protocol.new(step)}
    queues = [Queue.of(store, identity, rows[identity], **trusted) for identity in protocol.new(step)]
    archived, failed = archive(queues, records, Marks(step=step, weak=weak), per_class=per_class, threads=threads)
    infos, instances = [*carried, *archived], chain(_read(parent, carried), archived)
    attributes = {**_described(store, parent, protocol, step), "per_class": per_class, **trusted}
    write_bank(path, attributes, infos, instances, protocol.taxonomy)
    return failed


def _require_classes(store: MaskStore, protocol: StepProtocol, step: int) -> None:
    names = [protocol.taxonomy.name_of(identity) for identity in protocol.new(step)]
    if sorted(map(composed, store.category_names)) != sorted(map(composed, names)):
        raise StoreError(
            f"{store.path} holds masks of {', '.join(store.category_names)}, but the classes of step {step} of "
            f"{protocol.name} are {', '.join(names)}; pass the step's own masks."
        )


def _carried(parent: MemoryBank | None, protocol: StepProtocol, step: int, per_class: int) -> list[InstanceInfo]:
    """The parent's instances of old classes; they lie by priority, so that the first ones are a smaller bank's."""
    if parent is None:
        return []
    parent.require_taxonomy(protocol.taxonomy)
    parent.verify()
    return [info for identity in protocol.old(step) for info in parent.instances(identity)[:per_class]]


def _read(parent: MemoryBank | None, carried: Sequence[InstanceInfo]) -> Iterator[Instance]:
    if parent is not None:
        yield from (parent.read(info.index) for info in carried)


def _described(store: MaskStore, parent: MemoryBank | None, protocol: StepProtocol, step: int) -> dict[str, Any]:
    """Where a bank comes from; nothing that differs between two equal runs."""
    return {
        "protocol": protocol.name,
        "setting": protocol.setting,
        "step": step,
        "store_seal": store.attributes.get(SEAL_KEY),
        "parent_digest": None if parent is None else parent.digest,
        "priority": f"{DESCRIPTION}; names: memory, image, class",
    }
