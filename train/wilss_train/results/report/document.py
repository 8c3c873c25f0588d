"""report.json: what came of a run, for programs."""

import platform
from collections.abc import Mapping
from typing import Any

from wilss.digests import version_of
from wilss.models.networks.checkpoint import CheckpointInfo

from ..evaluate import Evaluation
from .figures import class_figures, old_classes
from .log import RunLog, plain

FORMAT = "wilss-report"
FORMAT_VERSION = 1
#: Libraries whose version can change what a run makes.
_LIBRARIES = ("wilss", "torch", "torchvision", "timm", "accelerate", "numpy", "pillow", "zarr")


def document_of(
    evaluation: Evaluation, old: Evaluation | None, log: RunLog | None, run: Mapping[str, Any]
) -> dict[str, Any]:
    """The report as JSON values: ratios in [0, 1], null where there is none.

    scores, old_model: `Evaluation.as_json` of the two models. change: IoU against the old model, per class that both
    have, and in the mean of the old classes. run: facts that the run wants said; `title` replaces the title, `images`
    is the size of its training set, `weights` what it started from, "random" for nothing.
    """
    info = evaluation.info
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "title": _title(info, run),
        "method": info.method,
        "step": info.step,
        "protocol": info.protocol.name,
        "setting": info.protocol.setting,
        "classes": _classes(info),
        "digests": digests_of(info),
        "params": plain(info.params),
        "scores": plain(evaluation.as_json()),
        "old_model": None if old is None else plain(old.as_json()),
        "change": None if old is None else _change(evaluation, old),
        "training": None if log is None else _training(log, run),
        "run": plain({key: value for key, value in run.items() if key != "title"}),
        "versions": {"python": platform.python_version(), **{name: version_of(name) for name in _LIBRARIES}},
    }


def _title(info: CheckpointInfo, run: Mapping[str, Any]) -> str:
    """What the report is called: the run's own title, else method, protocol and step."""
    title = run.get("title")
    return str(title) if title else f"{info.method} on {info.protocol.name}, step {info.step}"


def digests_of(info: CheckpointInfo) -> dict[str, str | None]:
    """What the figures rest on, each by its sha256."""
    return {
        "model": info.digest,
        "parent": info.parent_digest,
        "store": info.store_digest,
        "manifest": info.manifest_digest or None,
    }


def _training(log: RunLog, run: Mapping[str, Any]) -> dict[str, Any]:
    """How the run went, from its log. images: of the training set, masks: from whom, each if the run says so."""
    last = log.steps[-1] if log.steps else None
    facts = {**log.run, **run}
    return {
        "steps": last.step if last else 0,
        "epochs": last.epoch + 1 if last else 0,
        "images": plain(facts.get("images")),
        "masks": plain(facts.get("masks")),
        "images_per_second": round(log.images_per_second, 3),
        "seconds": round(log.seconds, 3),
        "last_losses": plain(last.losses) if last else {},
        "finished": log.ended,
        "failed_images": dict(log.failed),
    }


def _classes(info: CheckpointInfo) -> dict[str, Any]:
    def names(ids: tuple[int, ...]) -> list[str]:
        return [info.protocol.taxonomy.name_of(identity) for identity in ids]

    protocol, step = info.protocol, info.step
    return {
        "taxonomy": protocol.taxonomy.name,
        "channels": names(protocol.seen(step)),
        "old": names(protocol.old(step)),
        "new": names(protocol.new(step)),
    }


def _change(evaluation: Evaluation, old: Evaluation) -> dict[str, Any]:
    shared = old_classes(evaluation, old)
    figures = class_figures(evaluation, old)
    per_class = {each.name: each.change for each in figures if each.change is not None}
    change = None if shared.now is None or shared.before is None else shared.now - shared.before
    return {"mean_iou_old": change, "old_classes": shared._asdict(), "iou": per_class}
