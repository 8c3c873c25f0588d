"""What a run reports while it trains: its log, whoever listens, and curves for TensorBoard."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object

from wilss.errors import ParameterError
from wilss.store.verdicts import from_whom

from ..context import RunContext
from ..results.report.log import LOG_FILE, Progress, TrainingLog

Listener = Callable[[Progress], None]


class RunLogger:
    """Writes the loop's progress into the log, and hands it on; `log` is None in all processes but the first."""

    def __init__(self, log: TrainingLog | None, broken: Mapping[str, str], listeners: Sequence[Listener]) -> None:
        self._log, self._broken, self._listeners = log, broken, listeners

    def __call__(self, progress: Progress) -> None:
        """One progress row; images that broke in any process since the last one are named before it."""
        broken = _of_all_processes(dict(self._broken))
        if self._log is None:
            return
        for image in sorted(broken):
            self._log.image(image, broken[image], step=progress.step)
        self._log.step(progress)
        self._log.sync()
        for listener in self._listeners:
            listener(progress)


@contextlib.contextmanager
def run_log(out: Path, context: RunContext, first: int, *, images: int) -> Iterator[TrainingLog | None]:
    """The run's log, cut back to step `first`, at which the run resumes; None in all processes but the first.

    images: how many are trained on.
    """
    if context.rank:
        yield None
        return
    params = context.params
    with TrainingLog.open(out / LOG_FILE, keep_steps_up_to=first) as log:
        store = context.inputs.store
        judged = {"masks": from_whom(store).as_json()} if store.layout.has_review else {}
        log.start({"images": images, "batch_size": params.batch_size, "epochs": params.epochs, **judged})
        yield log


class CurveWriter:
    """Losses and rates for TensorBoard, an extra: `pip install wilss[tensorboard]`. log.jsonl has the same figures.

    Every progress becomes scalars in a folder. first: the step at which the run resumes.
    """

    def __init__(self, folder: Path, *, first: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ParameterError(
                "--tensorboard needs the package tensorboard; install it with `pip install wilss[tensorboard]`, or "
                "read the same figures in log.jsonl."
            ) from None
        self._writer: Any = SummaryWriter(folder, purge_step=first)

    def __call__(self, progress: Progress) -> None:
        """One point of every curve."""
        for kind, values in (("loss", progress.losses), ("lr", progress.lr)):
            for name, value in values.items():
                self._writer.add_scalar(f"{kind}/{name}", value, progress.step)
        self._writer.add_scalar("images_per_second", progress.images_per_second, progress.step)
        self._writer.flush()


def _of_all_processes(broken: dict[str, str]) -> dict[str, str]:
    """What each process knows of broken images, together."""
    return dict(gather_object(sorted(broken.items())))
