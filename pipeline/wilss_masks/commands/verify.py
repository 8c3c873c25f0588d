"""`wilss-masks verify`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wilss.console import manifest_option_with
from wilss.disk import Location
from wilss.errors import counted

from .common import store_argument

if TYPE_CHECKING:
    from wilss.data.manifest import Manifest
    from wilss.store import MaskStore

_DEFAULT_MANIFEST = Path("data_manifest.yaml")


@click.command(
    epilog="""\b
Examples:
  wilss-masks verify masks/shapes-15-5/step-1.zarr
  wilss-masks verify masks/shapes-15-5/step-1.zarr --check-digests"""
)
@store_argument
@manifest_option_with("The data manifest.  [default: data_manifest.yaml, if it is the store's]")
@click.option("--check-digests", is_flag=True, help="Read every image or label, also where size and time are the same.")
def command(store: Location, manifest_path: Path | None, check_digests: bool) -> None:
    """Compare every byte of a store with its digests, and the images or labels that it was made of with what they were.

    Exit code 0 when all is whole and the same, 1 when anything is damaged, missing or has changed.
    """
    from wilss.store import MaskStore, empty_masks

    opened = MaskStore.open(store, allow_partial=True)
    damage = list(opened.verify())
    for part in damage:
        click.echo(f"damaged: {part.what}")
    if damage:
        click.echo(
            f"{store} is damaged in {counted(len(damage), 'place')}; make it again with `wilss-masks generate "
            "--overwrite`, or fetch another copy of it.",
            err=True,
        )
        sys.exit(1)
    pending = len(opened.pending_shards())
    missing = f"without {counted(pending, 'shard')}" if pending else "without a seal"
    state = "complete" if opened.is_complete else f"not complete, {missing}: {opened.to_go_on}"
    shards = counted(opened.layout.num_shards - pending, "shard")
    click.echo(f"{store}: {shards} compared with their digests, all the same; the store is {state}")
    for sentence in empty_masks(opened):
        click.echo(f"Warning: {sentence}", err=True)
    click.echo(_compared(opened, manifest_path, check_digests))
    if not opened.is_complete:
        sys.exit(1)


def _compared(store: "MaskStore", manifest_path: Path | None, every_byte: bool) -> str:
    """What is known of the images or labels that a store was made of. Raises StoreError where they have changed."""
    from wilss.data.manifest import require_locked_contents
    from wilss.store.changes import made_of, require_unchanged
    from wilss.store.records import records_for
    from wilss.store.tags import other_tags

    kind, manifest = made_of(store), _manifest_of(store, manifest_path)
    if manifest is not None:
        records = records_for(store, manifest)
        if every_byte and kind is not None:
            require_locked_contents(manifest, store.step, str(store.attributes.get("split", "train")))
        require_unchanged(store, records, every_byte=every_byte)
        if (sentence := other_tags(store, records)) is not None:
            click.echo(f"Warning: {store.path}: {sentence}", err=True)
    if kind is None:
        return "It does not say what its images and labels were, so nobody can know whether they are still the same."
    if manifest is None:
        return f"Its {kind} were not compared with what they were; name the manifest of the store with --manifest."
    how = "every byte was read" if every_byte else "by size and time, or by what they hold where these differ"
    return f"Its {kind} are those that it was made of ({how})."


def _manifest_of(store: "MaskStore", path: Path | None) -> "Manifest | None":
    """The manifest of a store: the one that was named, or the one that lies here if it is the store's; else None."""
    from wilss.data.manifest import load_manifest
    from wilss.errors import ManifestError

    if path is not None:
        return load_manifest(path)
    if not _DEFAULT_MANIFEST.is_file():
        return None
    try:
        manifest = load_manifest(_DEFAULT_MANIFEST)
    except ManifestError:
        return None
    is_there = all(spec.root.is_dir() for spec in manifest.data.values())  # nothing is drawn for this
    return manifest if is_there and manifest.name == store.attributes.get("manifest") else None
