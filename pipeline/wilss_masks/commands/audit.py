"""`wilss-masks audit`."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wilss.console import (
    FINISHED_WITH_FAILURES,
    DataPlace,
    ProgressDisplay,
    StorePlace,
    aligned,
    device_option,
    is_quiet,
    manifest_option,
    pasted,
    tell_failures,
    write_json,
)
from wilss.disk import Location
from wilss.errors import WilssError, counted

if TYPE_CHECKING:
    from ..auditing.findings import Audit

_FOUND, _COULD_NOT_RUN = 1, 2
_JSON, _PAGE, _QUALITY = "audit.json", "audit.html", "quality.json"
_ALL = "any"


@click.command(
    epilog="""\b
Examples:
  wilss-masks audit masks/shapes-15-5/step-1.zarr
  wilss-masks audit step-1.zarr --predictions runs/shapes-15-5/step-1 --out audit
  wilss-masks audit --manifest voc.yaml --fail-on leaks,tag-conflicts,unsupported-tags=10
  wilss-masks audit step-1.zarr --fail-on any --json - | jq .counts"""
)
@click.argument("store", type=StorePlace(), required=False)
@manifest_option
@click.option("--predictions", type=DataPlace(), metavar="RUN|FOLDER",
              help="What a trained network says: a run of wilss-train, or label maps of wilss-predict.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), default=Path("audit"), show_default=True,
              help=f"The folder of {_JSON}, {_PAGE} and {_QUALITY}.")  # fmt: skip
@click.option("--no-labels", is_flag=True, help="Do not use pixel labels, even where there are some.")
@click.option("--no-duplicates", is_flag=True, help="Do not compare pictures with each other (quicker).")
@click.option("--fail-on", metavar="KIND,KIND=N",
              help="Exit with 1 where something of these kinds is found, or more than N; any: of all.")  # fmt: skip
@click.option("--worst", type=click.IntRange(0), default=5, show_default=True,
              help="How many findings of each kind are printed; the page shows more, the json all.")  # fmt: skip
@click.option("--json", "json_path", type=click.Path(allow_dash=True), metavar="FILE",
              help=f"Write {_JSON} there as well; - for stdout, in place of the table.")  # fmt: skip
@device_option
@click.option("--allow-partial", is_flag=True, help="Look at what is there of a store that is not complete.")
def command(
    store: Location | None,
    manifest_path: Path,
    predictions: Path | None,
    out: Path,
    no_labels: bool,
    no_duplicates: bool,
    fail_on: str | None,
    worst: int,
    json_path: str | None,
    device: str,
    allow_partial: bool,
) -> None:
    """Find what is likely wrong in tags, masks and lists: wrong tags, leaks, duplicates, odd masks, the worst first.

    Without a store, tags are held against pixel labels, and pictures against each other. With one, also against its
    masks and kept scores, and with --predictions against what a trained network says.
    The score of an image and class in audit.json is how likely its tag or mask is wrong; quality.json has 1 - score, as
    cleanlab gives it and tools sort by it.

    Exit code 0 when it is done, 1 when there is what --fail-on names, 2 when it could not run, 3 when it is done but
    for images that could not be looked at.
    """  # fmt: skip
    limits = _limits(fail_on)
    try:
        found = _run(store, manifest_path, predictions, out, not no_labels, not no_duplicates, device, allow_partial)
        if json_path is not None:
            write_json(found.as_json(), json_path)
    except WilssError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(_COULD_NOT_RUN)
    for warning in found.warnings:
        click.echo(f"Warning: {warning}", err=True)
    if json_path != "-" and not is_quiet():
        click.echo("\n".join(_report(found, worst)))
        click.echo(f"\n{out / _PAGE}: the worst, with their pictures; {out / _JSON}: all of them, and scores")
        if store is not None and any(found.counts.values()):
            words = (store, "--label-quality", out / _QUALITY)
            click.echo(f"Next: {pasted('wilss-masks review', *words, manifest=manifest_path)}")
    tell_failures(found.failed, f"{out / _JSON} names them all.")
    over = [kind for kind, most in limits.items() if found.counts[kind] > most]
    if over:
        told = ", ".join(f"{kind} ({found.counts[kind]})" for kind in over)
        click.echo(f"Found, as --fail-on asks: {told}", err=True)
        sys.exit(_FOUND)
    if found.failed:
        sys.exit(FINISHED_WITH_FAILURES)


def _run(
    store: Location | None,
    manifest_path: Path,
    predictions: Path | None,
    out: Path,
    labels: bool,
    duplicates: bool,
    device: str,
    allow_partial: bool,
) -> "Audit":
    import json

    from wilss.data.manifest import load_manifest
    from wilss.disk import write_output
    from wilss.models.devices import resolve_device
    from wilss.store import MaskStore

    from ..auditing.audit import audit
    from ..auditing.page import render

    opened = None if store is None else MaskStore.open(store, allow_partial=allow_partial)
    with ProgressDisplay("looks", "look") as display:
        found = audit(
            load_manifest(manifest_path), opened, predictions=predictions, labels=labels, duplicates=duplicates,
            device=resolve_device(device), progress=display,
        )  # fmt: skip
    for name, content in ((_JSON, found.as_json()), (_QUALITY, found.scores.as_quality())):
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        write_output(out / name, f"{text}\n".encode("utf-8", "surrogatepass"))
    write_output(out / _PAGE, render(found, opened).encode("utf-8", "replace"))
    return found


def _limits(fail_on: str | None) -> dict[str, int]:
    """How many findings of each kind are borne, by the words of --fail-on."""
    from ..auditing.findings import KINDS

    limits: dict[str, int] = {}
    for word in filter(None, (part.strip() for part in (fail_on or "").split(","))):
        kind, _, most = word.partition("=")
        if kind not in (*KINDS, _ALL) or not re.fullmatch(r"\d*", most) or (kind == _ALL and most):
            raise click.BadParameter(
                f"{word!r} is no kind of finding; known are {', '.join(KINDS)} and {_ALL}, with =N for more than N.",
                param_hint="--fail-on",
            )
        limits |= dict.fromkeys(KINDS, 0) if kind == _ALL else {kind: int(most or 0)}
    return limits


def _report(found: "Audit", worst: int) -> list[str]:
    """Counts by kind, then the worst of each."""
    from ..auditing.findings import KINDS

    counts = found.counts
    table: list[tuple[str, ...]] = [("what is likely wrong", "found")]
    table += [(kind, str(count)) for kind, count in counts.items()]
    lines = [f"{found.title}: {counted(found.images, 'image')}", "", *aligned(table, {1})]
    for kind in KINDS:
        shown: list[Any] = found.of(kind)[:worst]
        if shown:
            lines += ["", f"{kind}: {KINDS[kind]}"]
            lines += [f"  {one.score:.2f}  {one.sentence}" for one in shown]
            lines += [f"  ... and {counts[kind] - len(shown)} more"] if counts[kind] > len(shown) else []
    return lines
