"""Evaluations, logs and pictures made up for the tests of reports: plausible, small, the same every time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wilss.data.protocol import StepProtocol, preset
from wilss.data.taxonomy import COCO, VOC, Taxonomy
from wilss.equations.metrics import Scores
from wilss.models.networks.checkpoint import CheckpointInfo
from wilss.models.networks.spec import SegmenterSpec
from wilss_train.results.evaluate import Evaluation
from wilss_train.results.report.log import Progress, TrainingLog
from wilss_train.results.report.pictures import Picture

NASTY = '<b>"x"&'
PARAMS = {"lr": 0.001, "epochs": 40, "scale": (0.5, 2.0), "method": {"alpha": 0.5, "beta": 0.9}, "note": "<i>&amp;"}


def protocol_of(name: str = "15-5", taxonomy: Taxonomy = VOC) -> StepProtocol:
    return preset(name, COCO if name == "coco-voc" else taxonomy)


def nasty_taxonomy() -> Taxonomy:
    """VOC with names that are markup, in the old and in the new classes."""
    names = list(VOC.class_names)
    names[3], names[17], names[20] = NASTY, "</script><img src=http://x/y.png>", "'); } body { color: red"
    return Taxonomy(name="nasty & <co>", class_names=tuple(names))


def matrix_of(size: int, skill: Sequence[float], seed: int = 0) -> NDArray[np.int64]:
    """A confusion matrix whose diagonal shares are `skill`; what is missed goes to background and a few others."""
    rng = np.random.default_rng(seed)
    matrix = np.zeros((size, size), np.int64)
    for row in range(size):
        pixels = 3_000_000 if row == 0 else int(rng.integers(20_000, 200_000))
        rest = rng.dirichlet(np.full(size, 0.08)) * (0.45 if row else 1.0)
        rest[0] += 0.55 if row else 0.0
        rest[row] = 0
        matrix[row] = (pixels * (1 - skill[row]) * rest / max(rest.sum(), 1e-9)).astype(np.int64)
        matrix[row, row] = int(pixels * skill[row])
    return matrix


def evaluation_of(
    protocol: StepProtocol,
    step: int,
    skill: Sequence[float] | None = None,
    *,
    failed: Mapping[str, str] | None = None,
    seed: int = 0,
    split: str = "val",
) -> Evaluation:
    size = len(protocol.seen(step))
    drawn = np.random.default_rng(seed).uniform(0.45, 0.93, size)
    matrix = matrix_of(size, drawn.tolist() if skill is None else skill, seed)
    info = info_of(protocol, step)
    return Evaluation(
        info=info,
        split=split,
        mode="full",
        scores=Scores(names=info.channel_names, matrix=matrix),
        counted=1449,
        failed=failed or {},
        seconds=81.25,
    )


def info_of(protocol: StepProtocol, step: int) -> CheckpointInfo:
    return CheckpointInfo(
        path=Path(f"runs/voc/step-{step}/model.safetensors"),
        digest=f"{step}1" * 32,
        method="fmwiss",
        step=step,
        protocol=protocol,
        spec=SegmenterSpec(backbone="resnet101", num_channels=len(protocol.seen(step))),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        params=PARAMS,
        parent_digest="ab" * 32 if step else None,
        store_digest="cd" * 32 if step else None,
        manifest_name="voc",
        manifest_digest="ef" * 32,
    )


def write_log(path: Path, *, lines: int = 400, every: int = 10) -> Path:
    """A log like a real one: losses that fall and are noisy, poly learning rates, two broken images."""
    rng, steps = np.random.default_rng(0), lines * every
    with TrainingLog.open(path) as log:
        log.start({"images": 2145, "device": "cuda"})
        for step in range(every, steps + 1, every):
            write_step(log, step, steps, rng)
        log.image("2008_000021", "2008_000021.jpg ends too early; copy it again.", step=20)
        log.end(step=steps)
    return path


def write_step(log: TrainingLog, step: int, steps: int, rng: np.random.Generator) -> None:
    fall = 0.9 * np.exp(-5 * step / steps)
    losses = {name: factor * (fall + 0.1) * rng.lognormal(0, 0.15) for name, factor in LOSSES.items()}
    losses = {**losses, "total": sum(losses.values())}
    rate = 1e-3 * (1 - (step - 1) / steps) ** 0.9
    speed = 61 + rng.normal(0, 2)
    lr = {"backbone": rate, "head": 10 * rate}
    epoch = 40 * step // (steps + 1)
    log.step(Progress(step=step, steps=steps, epoch=epoch, losses=losses, lr=lr, seconds=step * 0.4,
                      images_per_second=speed))  # fmt: skip


LOSSES = {"new": 0.8, "dcl": 0.12, "old": 0.5, "seg": 1.3}


def pictures_of(
    protocol: StepProtocol, step: int, count: int = 12, size: tuple[int, int] = (375, 500)
) -> list[Picture]:
    """Pictures with one round thing of an old and one of a new class, seen a little askew by the models."""
    rng, made = np.random.default_rng(1), []
    for number in range(count):
        height, width = size if number % 4 else size[::-1]
        ids = [int(rng.choice(protocol.seen(step)[1:])), int(rng.choice(protocol.new(step)))]
        spots = [
            (rng.uniform(0.25, 0.75) * height, rng.uniform(0.25, 0.75) * width, rng.uniform(0.15, 0.3)) for _ in ids
        ]
        truth = discs(height, width, spots, ids, askew=0.0)
        seen = discs(height, width, spots, ids, askew=0.12)
        before = np.where(np.isin(seen, protocol.old(step)), seen, 0).astype(np.uint8) if step else None
        image = photo(truth, rng)
        made.append(
            Picture(image_id=f"2007_{number:06d}", image=image, truth=truth, predicted=seen, old=before)
        )  # fmt: skip
    return made


def discs(height: int, width: int, spots: Sequence[Any], ids: Sequence[int], *, askew: float) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[:height, :width]
    labels = np.zeros((height, width), np.uint8)
    for (row, column, radius), identity in zip(spots, ids, strict=True):
        far = np.hypot(rows - row * (1 + askew), columns - column * (1 - askew)) / min(height, width)
        labels[far < radius] = identity
        if not askew:
            labels[(far >= radius) & (far < radius + 0.012)] = 255
    return labels


def photo(labels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Something with a gradient, grain and things of a colour of their own."""
    height, width = labels.shape
    ground = np.linspace(70, 190, height)[:, None, None] + np.array([0, 10, 25])
    things = (labels[..., None].astype(int) * np.array([53, 97, 31])) % 160 + 40
    image = np.where((labels > 0)[..., None], things, np.broadcast_to(ground, (height, width, 3)))
    return (image + rng.normal(0, 9, (height, width, 1))).clip(0, 255).astype(np.uint8)
