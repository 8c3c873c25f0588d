"""What the sections of a manifest say that are handed on as they are: who knows their parameters finds their faults."""

import pkgutil
from collections.abc import Iterator
from typing import Any

#: By section the function that finds its faults, in the package that reads it: from a manifest, and whether weights are
#: to be opened, to a sentence for each. By name, since nothing here may import what stands on it.
_READERS = {"masks": "wilss_masks.sources.section:faults", "train": "wilss_train.section:faults"}


def section_faults(manifest: Any, *, weights: bool) -> Iterator[str]:
    """Every fault of every section that is not empty, as sentences. manifest: a `Manifest`."""
    for section, reader in _READERS.items():
        if getattr(manifest, section) or (section == "masks" and manifest.preset):
            yield from _found(reader)(manifest, weights)


def _found(reader: str) -> Any:
    try:
        return pkgutil.resolve_name(reader)
    except ModuleNotFoundError:  # half of the package is installed, and the section is for the other half
        return lambda manifest, weights: ()
