"""`wilss-train`."""

import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wilss.console import (
    FINISHED_WITH_FAILURES,
    DataPlace,
    StorePlace,
    device_option,
    is_quiet,
    manifest_option,
    pasted,
    tell_failures,
)
from wilss.disk import Location
from wilss.errors import counted

from .running import INTERRUPTED, RunDisplay, StopRequest, exit_now

if TYPE_CHECKING:
    from ..results.judge import RunResults
    from ..run.fit import Stopped
    from ..run.settings import AskedRun, Layer
    from ..run.train import Summary

#: Parameters that have options of their own: those of the method, and those of every run.
_FILES = ("labelled", "targets")
_NAMED = ("limit", "epochs", "batch_size", "lr", "backbone", "crop", "precision")


@click.command(
    epilog="""\b
Examples:
  wilss-train --masks masks/shapes-15-5/step-0.zarr
  wilss-train --masks masks/shapes-15-5/step-1.zarr
  wilss-train --masks step-1.zarr --method finetune --set warmup=100 --out runs/lower-bound
  wilss-train --masks masks/shapes-15-5/step-0.zarr --method pseudoseg --labelled labelled.txt
  accelerate launch --num_processes 8 -m wilss_train --masks step-1.zarr --manifest voc.yaml"""
)
@click.option(
    "--masks",
    type=StorePlace(),
    required=True,
    help="The mask store: it says which classes, step and images.",
)
@click.option(
    "--from",
    "parent",
    type=DataPlace(),
    metavar="CHECKPOINT",
    help="What to start from: the run of the step before.  [default: runs/<manifest>/step-<t-1>]",
)
@click.option(
    "--method",
    default="fmwiss",
    show_default=True,
    help="fmwiss, finetune, distill or wilson; mib or plop, for pixel labels; pseudoseg or unimatch, for "
    "few of them; panet.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The run's folder.  [default: runs/<manifest>/step-<t>]",
)
@manifest_option
@click.option("--labelled", metavar="LIST", help="pseudoseg, unimatch: the file that names the labelled images.")
@click.option("--targets", metavar="STORE", help="pseudoseg: stored soft labels to learn from.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Train on N images only, drawn by the seed.")
@click.option("--epochs", type=int, help="Passes over the images.")
@click.option("--batch-size", type=int, help="Images of one optimiser step, over all processes.")
@click.option("--lr", type=float, help="Peak learning rate of the backbone.")
@click.option("--backbone", help="A timm model, or wide_resnet38.")
@click.option("--crop", type=int, help="Side of the square crop, in pixels.")
@click.option("--precision", type=click.Choice(["auto", "fast", "fp32", "bf16"]), help="Of the forward passes.")
@click.option("--seed", type=int, default=0, show_default=True, help="Names every random draw.")
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any other parameter of the run or its method."
)
@click.option("--resume", is_flag=True, help="Continue where the run stopped, bit for bit; start if it never did.")
@click.option("--overwrite", is_flag=True, help="Throw away what is in the run's folder.")
@click.option("--check-digests", is_flag=True, help="Read every image or label, also where size and time are the same.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Loader threads.")
@click.option(
    "--threads",
    type=click.IntRange(0),
    default=0,
    help="Of torch on the CPU.  [default: OMP_NUM_THREADS, else all cores]",
)
@device_option
@click.option("--deterministic", is_flag=True, help="Only deterministic operations, also on a GPU.")
@click.option("--split", default="val", show_default=True, help="What to judge the result on; none for nothing.")
@click.option("--tensorboard", is_flag=True, help="Also write the curves for TensorBoard, into DIR/tensorboard.")
@click.option("--parameters", is_flag=True, help="Show every parameter with its value here, and stop.")
def command(
    masks: Location, parent: Path | None, method: str, out: Path | None, manifest_path: Path, **options: Any
) -> None:
    """Teach a segmenter the classes of a mask store, and keep it from forgetting those that it knows.

    What is not said comes from the manifest's `train` section, else from the published values. The result is a
    folder: model.safetensors, memory.zarr, log.jsonl, report.json and report.html.
    """  # fmt: skip
    if options["resume"] and options["overwrite"]:
        raise click.UsageError("--resume continues the run that is there and --overwrite throws it away; give one.")
    if not (options["parameters"] or is_quiet()) and os.environ.get("RANK", "0") == "0":
        click.echo(f"Reading {masks}", err=True)  # before torch is imported, which takes seconds
    if options["parameters"]:
        _show_parameters(masks, parent, method, manifest_path, options)
        return
    asked = _opened(masks, parent, method, out, manifest_path, options)
    for warning in asked.inputs.warnings:
        click.echo(f"Warning: {warning}", err=True)
    with StopRequest() as stop, RunDisplay(asked.folder) as display:
        summary = _train(asked, options, stop, display)
    if summary.results is not None:
        _show(summary, summary.results, manifest_path)
        tell_failures(summary.failed, "log.jsonl names them all.")
        if summary.failed:
            sys.exit(FINISHED_WITH_FAILURES)


def _opened(
    masks: Location, parent: Path | None, method: str, out: Path | None, manifest: Path, options: dict[str, Any]
) -> "AskedRun":
    """What the words ask for."""
    from ..run.settings import open_run

    layers = _layers(method, options)
    return open_run(masks, manifest=manifest, method=method, out=out, parent=parent, layers=layers)


def _show_parameters(
    masks: Location, parent: Path | None, method: str, manifest: Path, options: dict[str, Any]
) -> None:
    """Every parameter; where the checkpoint to start from cannot be used, without what that decides."""
    from wilss.errors import CheckpointError

    from ..run.settings import asked_parameters, settled

    try:
        asked = _opened(masks, parent, method, None, manifest, options)
        kind, params = asked.method, settled(asked.params, asked.method, asked.inputs)
    except CheckpointError as error:
        kind, params = asked_parameters(masks, manifest=manifest, method=method, layers=_layers(method, options))
        click.echo(f"Warning: values that the checkpoint decides are shown as they were asked for: {error}", err=True)
    values = {**params.as_json(), **kind.as_json()}
    click.echo("\n".join(f"{name} = {value}" for name, value in values.items()))


def _layers(method: str, options: dict[str, Any]) -> "list[Layer]":
    """The parameters of the command line, which stand over the manifest's."""
    from wilss.errors import ParameterError
    from wilss.params import parse_assignments

    from ..run.settings import require_method

    try:
        require_method(method)
    except ParameterError as error:
        raise click.BadParameter(str(error), param_hint="--method") from None
    layers: list[Layer] = [(f"--{name}", {name: options[name]}) for name in _FILES if options[name] is not None]
    named = {name: options[name] for name in _NAMED if options[name] is not None}
    return [*layers, ("--set", {**parse_assignments(options["assignments"]), **named})]


def _train(asked: "AskedRun", options: dict[str, Any], stop: StopRequest, display: "RunDisplay") -> "Summary":
    from wilss.params import of_fields

    from ..run.fit import Stopped
    from ..run.train import Options, run_training

    leave = partial(_leave, partial(_stopped, asked.folder, options), display)
    told = {"asked_to_stop": stop.asked, "running": stop.running, "leave": leave}
    shown = {f"on_{name}": getattr(display, name) for name in ("plan", "start", "phase", "step")}
    shown["on_ready"] = partial(stop.say, f"Interrupted; {_going_on(asked.folder, options)}")
    split = None if options["split"] == "none" else options["split"]
    run_options = of_fields(Options, {**options, **told, **shown, "on_progress": display, "split": split})
    try:
        return run_training(*asked, run_options)
    except Stopped as stopped:
        display.close()
        click.echo(_stopped(asked.folder, options, stopped), err=True)
        sys.exit(INTERRUPTED)
    except KeyboardInterrupt:
        raise click.Abort(stop.sentence) from None


def _leave(told: "Callable[[Stopped], str]", display: "RunDisplay", outcome: Exception) -> None:
    """End the process in the middle of a step, from another thread."""
    from ..run.fit import Stopped

    display.close()
    if isinstance(outcome, Stopped):
        click.echo(told(outcome), err=True)
        exit_now(INTERRUPTED)
    click.echo(f"Error: {outcome}", err=True)
    exit_now(1)


def _stopped(folder: Path, options: Mapping[str, Any], stopped: "Stopped") -> str:
    return f"Stopped at step {stopped.step} of {stopped.steps}; {_going_on(folder, options)}"


def _going_on(folder: Path, options: Mapping[str, Any]) -> str:
    instead = "--resume in the place of --overwrite" if options["overwrite"] else "--resume"
    return f"saved in {folder}. Continue with the same command and {instead}."


def _show(summary: "Summary", results: "RunResults", manifest: Path) -> None:
    if is_quiet():
        return
    info = results.info
    done = (
        "was finished already"
        if summary.was_complete
        else f"{counted(info.iterations, 'step')} in {summary.seconds:.0f} s"
    )
    click.echo(f"{summary.folder}: {info.method}, step {info.step} of {info.manifest_name}, {done}")
    if results.scores is None:
        click.echo(f"Not judged: {results.why_not or 'no split was named'}")
        return
    click.echo("\n".join(results.table()))
    if results.page is not None:
        click.echo(f"Look at {results.page}")
    if (following := _next_command(summary.folder, info, manifest)) is not None:
        click.echo(f"Next: {following}")


def _next_command(folder: Path, info: Any, manifest: Path) -> str | None:
    """What one does with the result: a later step's masks, or, where few images were labelled, those of the others."""
    if info.method in ("pseudoseg", "unimatch"):
        return pasted(
            f"wilss-masks generate --step {info.step} --source pseudoseg {_labels_of(info.params)}--keep scores",
            *("--checkpoint", folder, "--out", f"{folder}-soft.zarr"),
            manifest=manifest,
        )
    if info.step + 1 == info.protocol.num_steps:
        return None
    more = ("--source", "panet", "--set", f"embedding={folder}") if info.kind == "embedding" else ()
    return pasted(f"wilss-masks generate --step {info.step + 1}", *more, manifest=manifest)


def _labels_of(params: Mapping[str, Any]) -> str:
    """Which soft labels a run can make: without attention maps of its own, the decoder's."""
    own = params.get("target") in ("fused", "sgc") and not params["targets"]
    kind = params["target"] if own else "decoder"
    return "" if kind == "fused" else f"--set kind={kind} "
