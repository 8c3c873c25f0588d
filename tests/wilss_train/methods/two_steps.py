"""Masks of both steps of a data set on disk, and a base, for tests of what a later step makes of its pictures."""

from pathlib import Path

from wilss.data.manifest import load_manifest
from wilss_masks.make.generate import generate
from wilss_masks.make.options import Options as MaskOptions
from wilss_masks.sources.annotation import AnnotationSource
from wilss_train.inputs import RunInputs, open_inputs
from wilss_train.methods.distill import Distill
from wilss_train.params import TrainParams
from wilss_train.run.train import Options, run_training

QUIET = Options(threads=1, device="cpu", split=None)


def make(root: Path, params: TrainParams) -> None:
    """From pixel labels, beside the manifest that is in `root`."""
    manifest = load_manifest(root / "data_manifest.yaml")
    for step in (0, 1):
        source = AnnotationSource.from_manifest(manifest, step)
        generate(manifest, step=step, source=source, out=masks(root, step), options=MaskOptions(device="cpu"))
    run_training(inputs(root, 0), Distill(), params, root / "base", QUIET)


def masks(root: Path, step: int) -> Path:
    """The store of a step."""
    return root / f"masks/step-{step}.zarr"


def inputs(root: Path, step: int = 1, method: str = "distill") -> RunInputs:
    """What a run of a step reads; of step 1 with the base."""
    manifest = load_manifest(root / "data_manifest.yaml")
    return open_inputs(manifest, masks(root, step), root / "base" if step else None, method)
