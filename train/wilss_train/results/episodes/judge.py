"""The end of a run of `panet`: its embedding judged on classes that it has not seen, and a report of that."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from wilss.console import aligned, percent
from wilss.data.manifest import Manifest
from wilss.disk import write_atomically
from wilss.errors import ImageError, ManifestError, ParameterError
from wilss.models.networks.checkpoint import CheckpointInfo, read_info
from wilss.models.networks.embedding import Embedding, load_embedding

from ... import run_folder as runs
from ...data.episodes.images import labelled_split
from ...inputs import RunInputs
from ..judge import Judged, RunResults, judge_once, untold
from ..report.log import LOG_FILE, read_log
from ..report.page import REPORT_FILE
from .evaluate import EpisodeEvaluation, EpisodeParams, evaluate_episodes


class EpisodeResults(RunResults):
    """What a run ended with: the figures of its episodes, and no page."""

    def table(self) -> list[str]:
        """A row per class, then the means."""
        return [] if self.scores is None else table_of(self.scores)


def judge_run(
    params: EpisodeParams, inputs: RunInputs, out: Path, *, split: str | None, device: str, progress: Judged = untold
) -> EpisodeResults:
    """Judge the run's embedding on episodes and write report.json, unless that is done already."""

    def report() -> None:
        info = read_info(out)
        embedding = load_embedding(info, inputs.manifest.encoders.vit, device)
        _write(out, info, judge_embedding(embedding, info.step, inputs.manifest, str(split), params, progress=progress))

    harmless = (ImageError, ManifestError, ParameterError)  # the training is none the worse
    return judge_once(EpisodeResults, out, split, report, harmless=harmless)


def held_out(manifest: Manifest, step: int) -> dict[int, str]:
    """The classes that come after `step`, by id. Raises ManifestError where there is none."""
    protocol = manifest.protocol
    classes = {identity: manifest.taxonomy.name_of(identity) for identity in protocol.later(step)}
    if not classes:
        raise ManifestError(
            f"{manifest.path} holds no class back after step {step}, and episodes are of classes that were not "
            "trained on; use a protocol with a later step, such as 5i-0."
        )
    return classes


def judge_embedding(
    embedding: Embedding,
    step: int,
    manifest: Manifest,
    split: str,
    params: EpisodeParams,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> EpisodeEvaluation:
    """An embedding on a split's images of the classes after `step`."""
    names = held_out(manifest, step)
    images = labelled_split(manifest.evaluation(split).records, names, split)
    return evaluate_episodes(embedding, images, names, params, progress=progress)


def table_of(scores: Mapping[str, Any]) -> list[str]:
    """A row per class, then the means over the runs with their spread."""
    rows = [(name, percent(value), "") for name, value in scores["iou"].items()]
    for title, key in (("foreground mIoU", "mean_iou"), ("binary IoU", "binary_iou")):
        spread = scores[key]["spread"]
        rows.append((title, percent(scores[key]["mean"]), "" if spread is None else f"± {percent(spread)}"))
    return aligned([("%", "IoU", "spread" if len(scores["mean_iou"]["runs"]) > 1 else ""), *rows], {1, len(rows) - 1})


def _write(out: Path, info: CheckpointInfo, evaluation: EpisodeEvaluation) -> None:
    log = read_log(out / LOG_FILE)
    training = {
        "steps": info.iterations,
        "losses": dict(log.steps[-1].losses) if log.steps else {},
        "failed": dict(log.failed),
    }
    report = {"checkpoint": info.digest, "method": info.method, "scores": evaluation.as_json(), "training": training}
    with runs.writing_to(out / REPORT_FILE):
        write_atomically(out / REPORT_FILE, (json.dumps(report, indent=2, sort_keys=True) + "\n").encode())
