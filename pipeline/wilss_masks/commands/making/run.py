"""Make the masks of a source, whichever command asks for them."""

import sys
import threading
from typing import TYPE_CHECKING, Any

import click

from wilss.console import FINISHED_WITH_FAILURES, ProgressDisplay, is_quiet
from wilss.process import interrupted_by_queues

from .dry_run import dry_run
from .options import options_of
from .outcome import report, stopped
from .precision import faster_precision, slow_precision

if TYPE_CHECKING:
    from ...make.options import Options
    from ...make.summary import Summary


def make_masks(manifest: Any, source: Any, arguments: dict[str, Any]) -> None:
    """Make the masks that a source proposes, or say what would be done; ends the process where something is missing.

    arguments: those of `making_options`, and manifest_path, step, split, out and limit.
    """
    options = options_of(arguments)
    if arguments["dry_run"]:
        dry_run(manifest, arguments, source, options)
        return
    summary = _generate(manifest, source, arguments, options)
    _remember_weights(manifest, source)
    report(summary, source, arguments)
    if summary.made_now:
        _tell(faster_precision(source, options))
    if summary.lost:
        sys.exit(1)
    if summary.failed:
        sys.exit(FINISHED_WITH_FAILURES)


def _generate(manifest: Any, source: Any, arguments: dict[str, Any], options: "Options") -> "Summary":
    """Call `generate` with a progress bar; a queue's signal is as Ctrl-C, and what a stopped run has kept is said."""
    from ...make.generate import generate

    started = threading.Event()
    try:
        with interrupted_by_queues(), ProgressDisplay() as display:

            def progress(done: int, total: int) -> None:
                started.set()
                display(done, total)

            return generate(
                manifest,
                step=arguments["step"],
                source=source,
                out=arguments["out"],
                options=options,
                features_from=arguments.get("features_from", ()),
                progress=progress,
                tell=_tell,
                before_making=lambda: _tell(slow_precision(source, options)),
            )
    except KeyboardInterrupt:
        click.echo(stopped(manifest, arguments, options, has_begun=started.is_set()), err=True)
        raise


def _tell(sentence: str) -> None:
    if sentence and not is_quiet():
        click.echo(sentence, err=True)


def _remember_weights(manifest: Any, source: Any) -> None:
    """Write the digests of weights from a hub beside the manifest at their first use; later runs must match."""
    from wilss.data.manifest import record_hub_digest

    for name, model in source.identity()["models"].items():
        if hasattr(manifest.encoders, name):  # a network that was trained here comes from no hub
            record_hub_digest(manifest, name, model["sha256"])
