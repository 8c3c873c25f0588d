"""All layers learn the tags: stochastic gradient descent on views that are drawn by name."""

import logging
import math
import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from wilss.equations.cam import drawing_weights, positive_weights, tag_loss
from wilss.models.networks.classifier import Classifier
from wilss.process import map_in_threads
from wilss.randomness import numpy_generator_for

from .looking import Teaching, line
from .state import write_state
from .views import opened, view

log = logging.getLogger(__name__)

_WARMUP = 20  # steps
_MOMENTUM = 0.9
_SECONDS_BETWEEN_LINES, _SECONDS_BETWEEN_STATES = 10.0, 60.0


class Descent:
    """Stochastic gradient descent of rows and backbone, the rows faster; warm-up, then half a cosine."""

    def __init__(self, classifier: Classifier, teaching: Teaching) -> None:
        self.classifier, self.teaching, self.params = classifier, teaching, teaching.params
        backbone = [tensor for tensor in classifier.backbone.parameters() if tensor.requires_grad]
        rows = list(classifier.rows.parameters())
        self.rates = [self.params.lr] * bool(backbone) + [self.params.lr * self.params.rows_lr]
        groups = [{"params": group} for group in (backbone, rows) if group]
        self.optimiser = torch.optim.SGD(
            groups, lr=self.params.lr, momentum=_MOMENTUM, nesterov=True, weight_decay=self.params.decay
        )
        tags = torch.from_numpy(teaching.lessons.tags)
        self.drawn = drawing_weights(tags, self.params.draw_power).numpy()
        self.positive = positive_weights(tags, self.params.positive_power, self.params.positive_most)

    @property
    def steps(self) -> int:
        """Steps of the gradient."""
        return math.ceil(self.params.epochs * len(self.teaching.lessons.records) / self.params.batch_size)

    def go_on(self, done: int) -> None:
        """All steps from `done` on."""
        steps, started = self.steps, time.monotonic()
        told = kept = started
        for step, batch in enumerate(self._batches(range(done, steps)), start=done):
            loss = self._learn(step, *batch) if batch is not None else math.nan
            if time.monotonic() - told > _SECONDS_BETWEEN_LINES or step + 1 == steps:
                told = time.monotonic()
                so_far = line("learning the tags", step + 1, steps, started, done)
                log.info("%s, loss %.3f", so_far, loss)
            if time.monotonic() - kept > _SECONDS_BETWEEN_STATES:
                kept = time.monotonic()
                write_state(self.teaching.state, self.classifier, self.optimiser, step + 1)

    def _learn(self, step: int, views: Tensor, tags: Tensor) -> float:
        share = min(1.0, (step + 1) / _WARMUP) * (1 + math.cos(math.pi * step / self.steps)) / 2
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * share
        loss = tag_loss(self.classifier(views), tags, self.positive.to(views.device))
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return float(loss.detach())

    def _batches(self, steps: Sequence[int]) -> Iterator[tuple[Tensor, Tensor] | None]:
        """Views [B, 3, side, side] and tags [B, C] of every step, None where no image of it can be read."""
        for drawn in map_in_threads(self._drawn, steps):
            yield self._stacked([(row, image) for row, image in drawn if image is not None])

    def _stacked(self, drawn: Sequence[tuple[int, Tensor]]) -> tuple[Tensor, Tensor] | None:
        if not drawn:
            return None
        views = torch.stack([image for _, image in drawn]).to(self.teaching.device)
        mean, std = (views.new_tensor(one)[:, None, None] for one in (self.teaching.mean, self.teaching.std))
        tags = self.teaching.lessons.tags[[row for row, _ in drawn]]
        return (views - mean) / std, torch.from_numpy(tags).to(views.device)

    def _drawn(self, step: int) -> list[tuple[int, Tensor | None]]:
        rng = numpy_generator_for(self.teaching.seed, "cam", step)
        rows = rng.choice(len(self.drawn), self.params.batch_size, p=self.drawn).tolist()
        return [(row, self._view(row, rng)) for row in rows]

    def _view(self, row: int, rng: np.random.Generator) -> Tensor | None:
        image = opened(self.teaching.lessons.records[row])
        if image is None:
            return None
        return view(image, self.params.crop, area=self.params.area, colour=self.params.colour, rng=rng)
