"""`--dry-run`: what would be done."""

from typing import TYPE_CHECKING, Any

import click

from wilss.errors import counted

if TYPE_CHECKING:
    from ...make.options import Options
    from ...make.plan import MaskPlan

_FAILURES_SHOWN = 10


def dry_run(manifest: Any, arguments: dict[str, Any], source: Any, options: "Options") -> None:
    """Say what `make_masks` would do with the same arguments, and what of it would fail."""
    from wilss.data.manifest import require_locked_contents

    from ...make.features import require_keepable_features
    from ...make.generate import planned, requested, with_features
    from ...make.options import require_consistent
    from ...make.outlook import outlook
    from ...make.request import require_known_names, to_fetch

    require_consistent(options)
    if options.check_digests:
        require_locked_contents(manifest, arguments["step"], options.split)
    require_known_names(source, also_files=True)
    missing = to_fetch(source)
    stores = arguments.get("features_from", ())
    request = requested(manifest, arguments["step"], source, arguments["out"], options, stores)
    request = with_features(request, stores, click.echo)
    require_keepable_features(request.source, request.options)
    plan = planned(request)
    for warning in request.selection.warnings:
        click.echo(f"Warning: {warning}", err=True)
    click.echo(f"step {request.step} of {manifest.name} by {source.name}: {_described(plan, request.source)}")
    if missing:
        click.echo(f"not here, will be fetched: {'; '.join(missing)}")
    click.echo(outlook(request, plan, can_compare=not missing))


def _described(plan: "MaskPlan", source: Any) -> str:
    """Sizes, classes and networks of a plan, and the first of the images that it cannot use."""
    layout, problems = plan.layout, [problem for _, problem in sorted(plan.images.problems.items())]
    batches = sum(len(plan.shard(shard).batches) for shard in range(layout.num_shards))
    told = (
        f"{counted(layout.num_images, 'image')}, {counted(layout.num_shards, 'shard')} of {layout.shard_size}, "
        f"{counted(batches, 'batch', 'batches')}, canvas {layout.canvas[1]} x {layout.canvas[0]}\n"
        f"classes: {', '.join(plan.category_names)}\n{_encoders_of(source)}images that cannot be used: {len(problems)}"
    )
    return "\n".join([told, *(f"  {problem}" for problem in problems[:_FAILURES_SHOWN])])


def _encoders_of(source: Any) -> str:
    """A line with the networks that encode an image, "" for a source without any."""
    named = ", ".join(f"{name} {spec.title}" for name, spec in source.encoders)
    return f"encoders: {getattr(source, 'encoding', named)}\n" if named else ""
