"""What masks lose that are made of kept features: mIoU and pixels that stay as in an image pass, by projection.

    python workflows/shapes/features.py run      # masks of the validation pictures in every way; goes on way by way
    python workflows/shapes/features.py table    # figures/features.json

The default settings, of the built-in manifest; the projection is fitted on the pictures that it is used for, as
`generate --keep features` does it.
"""

from pathlib import Path

import click
import numpy as np
from runs import RESULTS, ROOT, Cell, keep_figures

import wilss
from wilss.data.manifest import Manifest
from wilss.store import MaskStore
from wilss_masks import FmwissSource, Options, generate
from wilss_masks.inspect.evaluate import evaluate

STORES = RESULTS / "features"
DIMS = (128, 96, 64)
STEP, SPLIT = 1, "val"


@click.group()
def main() -> None:
    """Make and tabulate."""


@main.command()
@click.option("--limit", type=int, help="Only so many pictures.")
def run(limit: int | None) -> None:
    """Stores with features in every way, and masks of them."""
    manifest = wilss.load_manifest(ROOT / "data_manifest.yaml")
    source = FmwissSource.from_manifest(manifest, step=STEP)
    for projection in ("pca", "random"):
        for dims in DIMS:
            kept = STORES / f"{projection}-{dims}.zarr"
            options = Options(split=SPLIT, limit=limit, keep_features=True, feature_dims=dims,
                              feature_projection=projection)  # fmt: skip
            print(kept.name, flush=True)
            generate(manifest, step=STEP, source=source, out=kept, options=options)
            plain = Options(split=SPLIT, limit=limit)
            generate(manifest, step=STEP, source=source, out=_masks(kept), options=plain, features_from=[kept])


@main.command()
def table() -> None:
    """Judge the masks by pixel labels and beside those of an image pass."""
    manifest = wilss.load_manifest(ROOT / "data_manifest.yaml")
    stores = {f"{projection}-{dims}": STORES / f"{projection}-{dims}.zarr"
              for projection in ("pca", "random") for dims in DIMS}  # fmt: skip
    cells: dict[str, dict[str, Cell]] = {}
    by_images = MaskStore.open(stores["pca-128"])  # whose masks come from the pass that the features were kept of
    cells["images"] = {"masks": _mean_iou(by_images, manifest), "same": "-", "worst": "-", "size": "-"}
    for key, path in stores.items():
        found = MaskStore.open(_masks(path))
        same = [100 * float((found.read(name).masks == by_images.read(name).masks).mean())
                for name in by_images.image_ids]  # fmt: skip
        size = sum(file.stat().st_size for part in ("features", "scale") for name in ("clip", "vit")
                   for file in (path / f"{name}_{part}").rglob("*") if file.is_file())  # fmt: skip
        cells[key] = {
            "masks": _mean_iou(found, manifest),
            "same": f"{np.mean(same):.2f}",
            "worst": f"{min(same):.1f}",
            "size": f"{size / len(same) / 1000:.0f}",
        }
    keep_figures("features", cells, seeds=1)


def _masks(kept: Path) -> Path:
    return kept.with_name(f"{kept.stem}-masks.zarr")


def _mean_iou(store: MaskStore, manifest: Manifest) -> float:
    return 100 * float(evaluate(store, manifest).scores["stored"].mean_iou)


if __name__ == "__main__":
    main()
