"""`wilss-masks fuse`."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wilss.console import ProgressDisplay, StorePlace, finish, going_on, is_quiet, manifest_option, pasted
from wilss.disk import Location, is_there
from wilss.errors import counted
from wilss.params import names_of

from .common import store_argument

if TYPE_CHECKING:
    from wilss.store import MaskStore

    from ..inspect.kept_scores import CutOrFusion


@click.command(
    epilog="""\b
Examples:
  wilss-masks fuse step-1.zarr --out intersection.zarr --set fusion=intersection
  wilss-masks fuse step-1.zarr --out std.zarr --set keep=std --set keep_amount=0.5 --set threshold=0.6
  wilss-masks fuse step-1.zarr --out sure.zarr --set classes=compete --set unsure=0.6
  wilss-masks fuse step-1.zarr --out words.zarr --set prompts=prompts.yaml --set background=margin"""
)
@store_argument
@click.option("--out", type=StorePlace(), required=True, help="The store to write.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="fusion, keep, keep_amount, threshold (of cam: cut), or a stage (classes, regions, boundaries, unsure); with "
    "kept features also prompts (a YAML file) and all that looks at no image; the rest stays.",
)
@manifest_option
@click.option("--overwrite", is_flag=True, help="Throw an existing store at --out away.")
def command(store: Location, out: Location, assignments: tuple[str, ...], manifest_path: Path, overwrite: bool) -> None:
    """A new store from the kept score and attention maps, with other fusion, thresholds or stages.

    No forward pass and no weights. Needs a store made with `generate --keep scores`. Seeds stay those that
    were drawn at the first threshold. Stages that look at the images (regions, boundaries) read them through the
    manifest.

    Of a store made with `--keep features` also other prompts, background words, scores and placing: the texts are
    encoded, and no image is.
    """  # fmt: skip
    from wilss.data.manifest import load_manifest
    from wilss.params import parse_assignments
    from wilss.store import MaskStore

    from ..inspect.fuse import fuse, new_params, newly_failed, region_warnings
    from ..inspect.relabel import needs_features

    opened, values = MaskStore.open(store), parse_assignments(assignments)
    if needs_features(opened, values):
        _relabelled(opened, out, values, manifest_path, overwrite)
        return
    params = new_params(opened, values)
    manifest = load_manifest(manifest_path) if params.needs_picture else None
    with ProgressDisplay() as display:
        fused = fuse(opened, out, values, manifest=manifest, overwrite=overwrite, progress=display)
    for warning in region_warnings(opened, params):
        click.echo(f"Warning: {warning}", err=True)
    failed = newly_failed(opened, fused)
    if not is_quiet():
        judged = pasted("wilss-masks evaluate", out, manifest=manifest_path)
        click.echo(
            f"{out}: {counted(fused.layout.num_images - len(failed), 'image')} {_how(params)}{_stages(params)})\n"
            f"Next: {pasted('wilss-masks sheet', out, manifest=manifest_path)}\n"
            f"      {judged}  # where there are pixel labels"
        )
    finish(failed, "`wilss-masks info` names them all.")


def _going_on(out: Location) -> AbstractContextManager[None]:
    return going_on(lambda: "the same command with --overwrite begins again." if is_there(out) else "")


def _relabelled(
    store: "MaskStore", out: Location, values: dict[str, str], manifest_path: Path, overwrite: bool
) -> None:
    """Masks of kept features."""
    from wilss.data.manifest import load_manifest

    from ..inspect.relabel import relabel

    def tell(sentence: str) -> None:
        if not is_quiet():
            click.echo(sentence, err=True)

    with _going_on(out), ProgressDisplay() as display:
        summary = relabel(
            store, out, values, load_manifest(manifest_path), overwrite=overwrite, progress=display, tell=tell
        )
    for warning in (*summary.warnings, *summary.lost):
        click.echo(f"Warning: {warning}", err=True)
    if not is_quiet():
        looks = "evaluate" if summary.has_labels else "sheet"
        click.echo(
            f"{out}: {counted(summary.done, 'image')} from features, in {summary.seconds:.1f} s\n"
            f"Next: {pasted(f'wilss-masks {looks}', out, manifest=manifest_path)}"
        )
    finish(summary.failed, "`wilss-masks info` names them all.")


def _how(params: "CutOrFusion") -> str:
    """How maps became masks, in words, up to the stages; the bracket is left open for these."""
    from ..sources.cam.params import CutParams

    if isinstance(params, CutParams):
        return f"cut again (cut {params.cut:g}"
    fused = f"fused by {params.fusion} (keep {params.keep_amount:g} by {params.keep}"
    return f"{fused}, threshold {params.threshold:g}"


def _stages(params: "CutOrFusion") -> str:
    """The stages that are on, as they are set."""
    from ..stages.params import StageParams, noted

    values = {name: value for name, value in noted(params, ()).items() if name in names_of(StageParams)}
    values = {name: value for name, value in values.items() if name not in params.idle}
    return "".join(
        f", {name} {value:g}" if isinstance(value, float) else f", {name} {value}" for name, value in values.items()
    )
