"""What is said of masks that were made: counts, failures, warnings with a remedy, and what to do next."""

from typing import TYPE_CHECKING, Any

import click

from wilss.console import is_quiet, pasted, tell_failures
from wilss.errors import counted

if TYPE_CHECKING:
    from ...make.options import Options
    from ...make.summary import Summary


def report(summary: "Summary", source: Any, arguments: dict[str, Any]) -> None:
    """What happened, and what to do next; warnings and failures to the standard error.

    arguments: of the command, its step and manifest_path.
    """
    for warning in (*summary.warnings, *_warnings(summary, source, arguments)):
        click.echo(f"Warning: {warning}", err=True)
    for lost in summary.lost:
        click.echo(f"Error: {lost}", err=True)
    tell_failures(summary.failed, "see `wilss-masks info`.")
    if is_quiet():
        return
    click.echo(_what_happened(summary))
    click.echo("masks per class: " + ", ".join(f"{name} {count}" for name, count in summary.masks_per_class.items()))
    for line in summary.look.sentences():
        click.echo(line)
    click.echo(_next_step(summary, source, arguments))


def stopped(manifest: Any, arguments: dict[str, Any], options: "Options", *, has_begun: bool = True) -> str:
    """What an interrupted run leaves: the images of shards that were finished.

    has_begun: whether its store was begun, or resumed; before that another one to be overwritten is still there.
    """
    from wilss.disk import is_there
    from wilss.errors import StoreError
    from wilss.store import MaskStore

    from ...make.generate import images_made
    from ...make.request import store_path

    size, made, total = options.shard_size, 0, 0
    try:
        path = store_path(manifest, arguments["step"], arguments["out"], options.split)
        if is_there(path):
            store = MaskStore.open(path, allow_partial=True)
            size, made, total = store.layout.shard_size, images_made(store), store.layout.num_images
    except StoreError as error:
        return f"Stopped. How much is kept cannot be said: {error}"
    if not made:
        return f"Stopped. Nothing was finished yet: images are kept {size} at a time. The same command begins again."
    if arguments["overwrite"] and not has_begun:
        return (
            f"Stopped. Nothing was made yet: {path} is still the store that was there. The same command begins again."
        )
    without = ", without --overwrite," if arguments["overwrite"] else ""
    kept = f"{made} of {counted(total, 'image')} {'is' if made == 1 else 'are'} kept"
    return f"Stopped. {kept}; run the same command again{without} to go on."


def _warnings(summary: "Summary", source: Any, arguments: dict[str, Any]) -> list[str]:
    """What makes masks useless, with a remedy; masks that are the labels themselves are right."""
    if source.reads_labels or summary.lost:
        return []
    remedy = f"look at them: {pasted('wilss-masks sheet', summary.store, manifest=arguments['manifest_path'])}"
    if source.name == "fmwiss":
        command = pasted(f"wilss-masks tune --step {arguments['step']}", manifest=arguments["manifest_path"])
        remedy = f"for better parameters: {command}"
    return [f"{what}; {remedy}" for what in summary.look.warnings()]


def _what_happened(summary: "Summary") -> str:
    without = f" ({summary.without} without the step's classes)" if summary.without else ""
    counts = (
        f"{summary.done} done{without}, {len(summary.failed)} failed, {summary.untagged} skipped (no tag of this step)"
    )
    if summary.unlabelled:
        counts += f", {summary.unlabelled} without pixel labels"
    if not summary.made_now:
        return f"{summary.store} was complete already: {counts}; nothing to do ({summary.seconds:.1f} s)"
    made = f"{counted(summary.made_now, 'image')} in {summary.seconds:.1f} s"
    return f"{summary.store}: {counts}; {made}, {rate(summary.made_now, summary.seconds)}"


def rate(images: int, seconds: float) -> str:
    """Images a second, or seconds an image where that is more."""
    if images > seconds > 0:
        return f"{images / seconds:.1f} images/s"
    return f"{seconds / max(images, 1):.1f} s an image"


def _next_step(summary: "Summary", source: Any, arguments: dict[str, Any]) -> str:
    if summary.lost:
        return "Not complete: run the same command again to make what is missing."
    failed = "Fix the failed images and run the same command with --retry-failed"
    if getattr(source, "learns_from_all", False):
        failed = "Fix the failed images and run the same command with --overwrite, since it learns from all images"
    if summary.failed and not summary.done:
        return f"{failed}."
    manifest = arguments["manifest_path"]
    looks = [pasted("wilss-masks sheet", summary.store, manifest=manifest)]
    if summary.has_labels and not source.reads_labels:
        looks.append(pasted("wilss-masks evaluate", summary.store, manifest=manifest))
    trains = pasted("wilss-train --masks", summary.store, manifest=manifest)
    then = "\n      ".join([f"Next: {looks[0]}", *looks[1:], trains])
    if summary.left_out:
        then = (
            f"These are {summary.images} of {summary.images + summary.left_out} images (--limit); for all of them run "
            f"the same command with --update and without --limit.\n{then}"
        )
    return f"{failed}, or go on without them.\n{then}" if summary.failed else then
