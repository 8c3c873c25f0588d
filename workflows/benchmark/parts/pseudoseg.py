"""PseudoSeg's training over its bare forward and backward passes on batches in memory; what it waits for the loader."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from measure import figure, ratios

import wilss
from wilss.store import MaskStore
from wilss_train.inputs import RunInputs, open_inputs
from wilss_train.methods.pseudoseg import Pseudoseg
from wilss_train.params import TrainParams, from_manifest

from .common import row
from .learning import MANIFEST, Learning, folder_of, over_bare


@dataclass(frozen=True, kw_only=True)
class SemiLearning(Learning):
    """Step 0 by pseudoseg, every eighth picture labelled, with the manifest's own train section."""

    @cached_property
    def inputs(self) -> RunInputs:
        """Checked, as `wilss-train` does."""
        return open_inputs(wilss.load_manifest(MANIFEST), self.folder / "step-0.zarr", None, "pseudoseg")

    @cached_property
    def params(self) -> TrainParams:
        """The manifest's."""
        params, _ = from_manifest(self.inputs.manifest.train, step=0, where=str(MANIFEST))
        return replace(params, epochs=self.epochs)

    @property
    def method(self) -> Pseudoseg:
        """The published one."""
        path = self.folder / "labelled.txt"
        if not path.exists():
            names = MaskStore.open(self.folder / "step-0.zarr").image_ids[::8]
            path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        return Pseudoseg(labelled=str(path))


def measure(scratch: Path, quick: bool) -> list[dict[str, Any]]:
    """Both loops in one process with all cores, from the same weights, on the same batches in the same order.

    An image is an unlabelled one, with its weak and its strong view and a labelled one beside it.
    """
    run = SemiLearning(folder=folder_of(scratch), epochs=1 if quick else 2)
    repeats = 1 if quick else 5
    taken, timings = over_bare(run, repeats)
    images = timings[0].images
    waits = figure([100 * one.waited / one.seconds for one in timings])
    return [
        row("pseudoseg / bare forward and backward passes, images/s", ratios(taken["bare"], taken["trainer"]),
            "at least 0.95", images=images, images_per_second=images / min(taken["trainer"])),
        row("pseudoseg, images/s", figure([images / seconds for seconds in taken["trainer"]])),
        row("waiting for the loader, % of the time, first epoch not cached", waits),
    ]  # fmt: skip
