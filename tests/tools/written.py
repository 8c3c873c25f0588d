"""Small files that the tools' own libraries wrote, in the folder `written`; `libraries.py` writes them again:

    for form in cvat coco panoptic voc labelme supervision fiftyone; do
        python libraries.py write $form written/$form written/masks.npz
    done
    python libraries.py write labelstudio written/labelstudio.json written/masks.npz
    python libraries.py write datasets written/datasets/a.parquet written/masks.npz

They are of the versions in requirements.txt and labelme 6.3.1; masks.npz holds the masks that all of them were given.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from wilss.data.annotations import read_annotations

FOLDER = Path(__file__).with_suffix("")
#: What is read of what each library writes.
WRITTEN = {
    "cvat": "cvat/train.xml",
    "coco": "coco/annotations/instances_train.json",
    "panoptic": "panoptic/annotations/panoptic_train.json",
    "voc": "voc",
    "labelstudio": "labelstudio.json",
    "labelme": "labelme",
    "fiftyone": "fiftyone",
    "datasets": "datasets/a.parquet",
    "supervision": "supervision/instances.json",
}

Masks = Mapping[str, np.ndarray]


def shapes_of(path: Path) -> Masks:
    """What we read, by "image<TAB>class"."""
    found: dict[str, np.ndarray] = {}
    for image in read_annotations(path, ("background", "cat", "dog")).images:
        assert image.problem is None
        for shape in image.shapes:
            key = f"{Path(image.name).stem.rpartition('-')[2]}\t{shape.name}"
            mask = shape.drawn((9, 11))
            found[key] = found.get(key, np.zeros_like(mask)) | mask
    return found


def masks_of(path: Path) -> Masks:
    """What `libraries.py` keeps of masks, by the same names."""
    with np.load(path) as found:
        return {str(name): found[f"m{number}"] for number, name in enumerate(found["names"])}
