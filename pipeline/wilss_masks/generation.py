"""`generate`: the first verb as a function call. Images and tags in, a complete mask store out.

Everything that can be refused is refused before the first forward pass.
"""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from wilss.errors import ParameterError, StoreError
from wilss.manifest import ImageRecord, Manifest
from wilss.randomness import DESCRIPTION
from wilss.store import MaskStore, ShardReceipt, Status, writer_lock

from .cluster import ClusterOptions, connect, require_usable_address
from .plan import MaskPlan, make_plan
from .run import Job, disk_errors, run
from .sources.base import MaskSource

__all__ = ["Options", "Progress", "Summary", "default_store", "generate", "plan_for"]

#: Libraries whose version can change a mask or its bytes.
_LIBRARIES = (
    "wilss",
    "torch",
    "torchvision",
    "open_clip_torch",
    "timm",
    "numpy",
    "pillow",
    "zarr",
    "numcodecs",
)

#: Called with (images done so far, images in the store), first before any is made.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a store is made.

    split: the manifest's split whose images are labelled. keep_scores: keep score map, attention and seeds.
    limit: only the first so many images. shard_size: images per shard. batch_size: images per forward pass.
    threads: CPU threads of a forward pass; its rounding may depend on it. device: "auto", "cpu" or "cuda".
    overwrite: throw away what is there. retry_failed: try the failed images of a complete store again.
    """

    split: str = "train"
    keep_scores: bool = False
    limit: int | None = None
    shard_size: int = 32
    batch_size: int = 8
    threads: int = 1
    device: str = "auto"
    overwrite: bool = False
    retry_failed: bool = False
    cluster: ClusterOptions = ClusterOptions()


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What is in the store now, and what this call added. `lost` has a sentence for every shard not made."""

    store: Path
    images: int
    done: int
    failed: Mapping[str, str]
    untagged: int
    masks_per_class: Mapping[str, int]
    made_now: int
    seconds: float
    warnings: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def images_per_second(self) -> float:
        """Images made by this call per second of it."""
        return self.made_now / self.seconds if self.seconds else 0.0


def default_store(manifest: Manifest, step: int, split: str = "train") -> Path:
    """Where a step's masks go when nobody says: `masks/<manifest name>/step-<t>.zarr`."""
    ending = "" if split == "train" else f"-{re.sub(r'[^A-Za-z0-9._-]', '_', split)}"
    return Path("masks") / manifest.name / f"step-{step}{ending}.zarr"


def generate(
    manifest: Manifest,
    *,
    step: int,
    source: MaskSource,
    out: Path | str | None = None,
    options: Options = Options(),
    progress: Progress = lambda done, total: None,
) -> Summary:
    """Make the masks of one step, or go on where an earlier call stopped; a complete store is left alone.

    Raises StoreError when `out` was made with anything else (naming the difference), is being written by
    somebody else or cannot be written; ManifestError, WeightsError, EncoderError for what they name.
    """
    started = time.perf_counter()
    path = Path(out) if out is not None else default_store(manifest, step, options.split)
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    options = _keeping_what_is_kept(path, options)
    selection = manifest.records(step, options.split)
    records = selection.records[: options.limit]
    attributes = _attributes(manifest, step, source, records, options)
    lost: tuple[str, ...] = ()
    made: list[int] = []
    if not _is_finished(_compatible(path, attributes, options), options):
        _require_means(options)
        _require_writable(path)
        with writer_lock(path):
            _compatible(path, attributes, options)  # again: somebody may have finished it meanwhile
            plan = plan_for(manifest, step, source, records, options)
            store = _create_or_resume(path, plan, attributes, options)
            lost = _make(store, plan, source, options, _Counting(progress, made))
    seconds = time.perf_counter() - started
    store = MaskStore.open(path, allow_partial=True)
    return _summary(store, sum(made), seconds, selection.warnings, lost)


def plan_for(
    manifest: Manifest, step: int, source: MaskSource, records: Sequence[ImageRecord], options: Options
) -> MaskPlan:
    """The plan of a step: reads the images' headers, and nothing else of them."""
    taxonomy = manifest.taxonomy
    return make_plan(
        step=step,
        records=records,
        categories={identity: taxonomy.name_of(identity) for identity in manifest.protocol.new(step)},
        source=source,
        shard_size=options.shard_size,
        batch_size=options.batch_size,
        keep_soft=options.keep_scores,
    )


def _make(
    store: MaskStore, plan: MaskPlan, source: MaskSource, options: Options, on_shard: "_Counting"
) -> tuple[str, ...]:
    """Make what is pending; returns what was lost."""
    here = resolve_device("auto" if options.cluster.is_elsewhere else options.device)
    device = options.device if options.cluster.is_elsewhere and options.device != "auto" else here
    on_shard.start(_count_made(store), plan.layout.num_images)
    job = Job(
        store=store.path,
        layout=plan.layout,
        source=source.prepare(here),
        device=device,
        threads=options.threads,
        lanes=max(1, len(os.sched_getaffinity(0)) // options.threads) if device == "cpu" else 1,
    )
    with connect(options.cluster, threads=options.threads) as connection:
        return run(store, plan, job, client=connection.client, window=connection.window, on_shard=on_shard)


class _Counting:
    """Adds up receipts for the progress bar and the summary."""

    def __init__(self, progress: Progress, made: list[int]) -> None:
        self._progress, self._made = progress, made
        self._before = self._total = 0

    def start(self, before: int, total: int) -> None:
        self._before, self._total = before, total
        self._progress(before, total)

    def __call__(self, receipt: ShardReceipt) -> None:
        self._made.append(len(receipt.status))
        self._progress(self._before + sum(self._made), self._total)


def _create_or_resume(path: Path, plan: MaskPlan, attributes: Mapping[str, Any], options: Options) -> MaskStore:
    with disk_errors(path):
        if path.exists():
            store = MaskStore.open(path, allow_partial=True)  # refuses to throw away what is no mask store
            if not options.overwrite and not _holds_nothing(store):
                return _resume(store, plan, attributes, options)
        _discard(path)
        return MaskStore.create(path, plan.header(attributes))


def _discard(path: Path) -> None:
    """Remove a store, and what a killed run left of one; the name goes first, so that no half store is ever seen."""
    aside = path.with_name(f"{path.name}.discarded")
    shutil.rmtree(aside, ignore_errors=True)
    if path.exists():
        path.rename(aside)
        shutil.rmtree(aside)


def _resume(store: MaskStore, plan: MaskPlan, attributes: Mapping[str, Any], options: Options) -> MaskStore:
    """Go on with a store; shards that are to be made whole anew take the images as they are now."""
    store.sweep()
    size, pending = plan.layout.shard_size, set(store.pending_shards())
    failed = np.flatnonzero(store.vector("status") == Status.FAILED) if options.retry_failed else np.array([], np.intp)
    anew = pending | {int(row) // size for row in failed}
    changed = _changed_images(store, plan)
    _require_same_images(store, plan, [row for row in changed if row // size not in anew])
    reopened = {int(row) // size for row in failed} | {row // size for row in changed}
    if reopened:
        store.reopen(sorted(reopened), plan.header(attributes))
    return store


def _changed_images(store: MaskStore, plan: MaskPlan) -> list[int]:
    """Rows of the images that have another size than when the store was begun, or can be opened only now."""
    if store.layout.num_images != plan.layout.num_images:
        return []
    sizes = np.array([(image.height, image.width) for image in plan.images], np.int32).T
    differ = (sizes[0] != store.vector("height")) | (sizes[1] != store.vector("width"))
    return [int(row) for row in np.flatnonzero(differ)]


def _require_same_images(store: MaskStore, plan: MaskPlan, changed: Sequence[int]) -> None:
    """Batches follow from the images' sizes: refuse to go on where an image that is made already has changed."""
    if changed and (problem := plan.images[changed[0]].problem):
        why = f"the image {store.image_ids[changed[0]]} could be used when it was begun, but now {problem.rstrip('.')}"
        raise StoreError(f"{store.path} cannot be gone on with: {why}; or make the store anew with --overwrite.")
    if changed or store.layout != plan.layout:
        which = f"the image {store.image_ids[changed[0]]} has" if changed else "the largest images have"
        raise StoreError(
            f"{store.path} cannot be gone on with: {which} another size now; bring the old images back, or make the "
            "store anew with --overwrite."
        )


def _holds_nothing(store: MaskStore) -> bool:
    """Whether no shard was ever committed, so that nothing is lost when it is begun anew."""
    return not any(store.vector("shard_digest"))


def resolve_device(device: str, option: str | None = None) -> str:
    """`auto` as "cuda" where there is one, else "cpu"; a device that is not there is refused.

    option: what asked for it, for the error; `--device` by default.
    """
    if device == "cpu":
        return device
    _require_device_word(device)
    number = device.partition(":")[2]
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return "cuda" if count else "cpu"
    if int(number or 0) >= count:
        found = f"{count or 'no'} CUDA device{'' if count == 1 else 's'}"
        raise ParameterError(
            f"{option or f'--device {device}'}: torch finds {found} here; name others, or use --device cpu."
        )
    return device


def _require_device_word(device: str) -> None:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise ParameterError(f"--device {device} is no device; use auto, cpu or cuda.")


def _require_means(options: Options) -> None:
    """Refuse devices that are not there and a scheduler that must not be talked to, before anything is done."""
    cluster = options.cluster
    if cluster.is_elsewhere:
        require_usable_address(cluster)
    _require_device_word(options.device)
    if options.device != "auto" and not cluster.is_elsewhere:
        resolve_device(options.device)
    said = f"--devices {','.join(map(str, cluster.devices))}"
    if cluster.devices and options.device == "cpu":
        raise ParameterError(f"{said} and --device cpu ask for different things; leave one of them out.")
    for index in cluster.devices:
        if index < 0 or cluster.devices.count(index) > 1:
            raise ParameterError(f"{said} is no list of different GPUs; name each once, as in --devices 0,1.")
        resolve_device(f"cuda:{index}", said)


def _attributes(
    manifest: Manifest, step: int, source: MaskSource, records: Sequence[ImageRecord], options: Options
) -> dict[str, Any]:
    """What a store says of itself; two runs with equal attributes make equal masks."""
    protocol = manifest.protocol
    attributes = {
        "protocol": protocol.name,
        "setting": protocol.setting,
        "step": step,
        "steps": [list(ids) for ids in protocol.steps],
        "classes": list(manifest.taxonomy.class_names),
        "split": options.split,
        "source": source.name,
        **source.identity(),
        "keep": ["scores"] if options.keep_scores else [],
        "limit": options.limit,
        "shard_size": options.shard_size,
        "batch_size": options.batch_size,
        "threads": options.threads,
        "manifest": manifest.name,
        "manifest_sha256": manifest.digest,
        "records_sha256": _records_digest(records),
        "rng": DESCRIPTION,
        "versions": {name: _version(name) for name in _LIBRARIES},
    }
    return dict(json.loads(json.dumps(attributes)))


def _records_digest(records: Sequence[ImageRecord]) -> str:
    text = json.dumps([[record.image_id, list(record.tags)] for record in records], separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _compatible(path: Path, attributes: Mapping[str, Any], options: Options) -> MaskStore | None:
    """The store that is there, None if there is none, or it is to be overwritten, or nothing was ever made in it.

    Raises StoreError, with the difference, when it was made with something else.
    """
    if options.overwrite or not path.exists():
        return None
    store = MaskStore.open(path, allow_partial=True)
    # A store made by `fuse` has seeds of other parameters than its masks: never the one that is asked for here.
    differences = _differences({**attributes, "fused_from": None}, store.attributes)
    if differences and _holds_nothing(store):
        return None
    if differences:
        raise StoreError(
            f"{path} was made with something else:\n"
            + "\n".join(f"  {line}" for line in differences)
            + "\nGive another --out, or make it anew with --overwrite."
        )
    return store


def _keeping_what_is_kept(path: Path, options: Options) -> Options:
    """A store that keeps its scores is gone on with as it was begun, also when nobody asks for scores again."""
    if options.keep_scores or options.overwrite or not path.exists():
        return options
    kept = MaskStore.open(path, allow_partial=True).attributes.get("keep") == ["scores"]
    return dataclasses.replace(options, keep_scores=kept)


def _is_finished(store: MaskStore | None, options: Options) -> bool:
    if store is None or not store.is_complete:
        return False
    return not (options.retry_failed and Status.FAILED in store.vector("status"))


def _require_writable(path: Path) -> None:
    """Find out now, not after an hour, that the folder, or the store in it, cannot be written."""
    for folder in (path.parent, path):
        try:
            if folder is not path:
                folder.mkdir(parents=True, exist_ok=True)
            if folder.is_dir():
                with tempfile.TemporaryFile(dir=folder):
                    pass
        except OSError as error:
            raise StoreError(
                f"{folder} cannot be written ({error.strerror}); give another --out, or change its permissions."
            ) from error


def _differences(wanted: Mapping[str, Any], found: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Leaves that differ, as `parameters.threshold: 0.5 asked for, 0.6 in the store`."""
    lines = []
    for key in wanted:
        mine, theirs = wanted[key], found.get(key)
        if isinstance(mine, dict) and isinstance(theirs, dict):
            lines += _differences(mine, theirs, f"{prefix}{key}.")
        elif mine != theirs:
            lines.append(f"{prefix}{key}: {_short(mine)} asked for, {_short(theirs)} in the store")
    return lines


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _count_made(store: MaskStore) -> int:
    """Images in committed shards."""
    layout = store.layout
    pending = sum(len(layout.rows(shard)) for shard in store.pending_shards())
    return layout.num_images - pending


def _summary(
    store: MaskStore, made_now: int, seconds: float, warnings: tuple[str, ...], lost: tuple[str, ...]
) -> Summary:
    status, errors, area = store.vector("status"), store.vector("error"), store.vector("area")
    failed = {store.image_ids[row]: str(errors[row]) for row in np.flatnonzero(status == Status.FAILED)}
    masks = (area > 0).sum(axis=0).tolist()
    return Summary(
        store=store.path,
        images=store.layout.num_images,
        done=int((status == Status.DONE).sum()),
        failed=failed,
        untagged=int((status == Status.UNTAGGED).sum()),
        masks_per_class=dict(zip(store.category_names, masks, strict=True)),
        made_now=made_now,
        seconds=seconds,
        warnings=warnings,
        lost=lost,
    )
