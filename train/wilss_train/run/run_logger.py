"""What a run says while it trains: its log, and whoever listens."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import run_folder as runs
from ..inputs import Beginning
from ..params import TrainParams
from ..results.report import LOG_FILE, TrainingLog
from .fit import Progress
from .states import latest_step

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Teller", "run_log"]

Listener = Callable[[Progress], None]


class Teller:
    """Writes what the loop says into the log, and hands it on; `log` is None in all processes but the first."""

    def __init__(self, log: TrainingLog | None, broken: Mapping[str, str], listeners: Sequence[Listener]) -> None:
        self._log, self._broken, self._listeners = log, broken, listeners

    def __call__(self, progress: Progress) -> None:
        broken = _of_all_processes(dict(self._broken))
        if self._log is None:
            return
        for image in sorted(broken):
            self._log.image(image, broken[image], step=progress.step)
        self._log.step(
            step=progress.step,
            steps=progress.steps,
            epoch=progress.epoch,
            losses=progress.losses,
            lr=progress.lr,
            seconds=progress.seconds,
            images_per_second=progress.images_per_second,
        )
        self._log.sync()
        for listener in self._listeners:
            listener(progress)


@contextlib.contextmanager
def run_log(
    out: Path, beginning: Beginning, params: TrainParams, accelerator: "Accelerator"
) -> Iterator[TrainingLog | None]:
    """The run's log, cut back to the newest state; None in all processes but the first."""
    if not accelerator.is_main_process:
        yield None
        return
    with TrainingLog.open(out / LOG_FILE, keep_steps_up_to=latest_step(out / runs.STATES)) as log:
        log.start({"images": len(beginning.records), "batch_size": params.batch_size, "epochs": params.epochs})
        yield log


def _of_all_processes(broken: dict[str, str]) -> dict[str, str]:
    """What each process knows of broken images, together."""
    from accelerate.utils import gather_object

    return dict(gather_object(sorted(broken.items())))
