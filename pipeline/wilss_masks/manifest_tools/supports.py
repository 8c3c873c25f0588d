"""The few annotated images that a manifest names for its steps: how many of each class, and what would stop a run."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from wilss.data.manifest import Manifest
from wilss.data.supports.reading import problems_of, read_supports

from .looking import collected


def support_counts(manifest: Manifest, step: int, faults: list[str]) -> Mapping[str, int] | None:
    """How many supports of each class of a step can be used, by name; None where the manifest names none.

    What stops masks from being made of them is added to `faults`: all are opened.
    """
    if step not in manifest.supports:
        return None
    with collected(faults):
        supports = read_supports(manifest, step, every=False)
        # where one is at fault, it may be all that a class has
        faults += problems_of(replace(supports, classes={}) if supports.problems else supports)
        usable = supports.usable()
        return {name: len(usable.of(identity)) for identity, name in usable.classes.items()}
    return dict.fromkeys(map(manifest.taxonomy.name_of, manifest.protocol.new(step)), 0)


def without_supports(manifest: Manifest) -> Iterator[str]:
    """A sentence for every step of a few annotated images for which the manifest names none."""
    of_sources = any("supports" in values for values in manifest.masks.values())
    for step in () if of_sources else range(manifest.protocol.num_steps):
        if manifest.supervision(step) == "shots" and step not in manifest.supports:
            yield (
                f"step {step}: {manifest.path} names no supports; add `supports: {{{step}: FOLDER}}`, or give them to "
                f"`generate` with --supports (`wilss-masks supports check SUPPORTS --step {step}` looks at those)."
            )
