"""`read_annotations`: the files of any annotation tool, recognised by what is in them."""

import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from wilss.data.annotations.coco import read_coco_instances, read_panoptic
from wilss.data.annotations.cvat import INSIDE_ZIP, read_cvat
from wilss.data.annotations.fiftyone import SAMPLES, read_fiftyone
from wilss.data.annotations.json_files import read_json
from wilss.data.annotations.label_maps import holds_label_maps, read_label_maps
from wilss.data.annotations.label_studio import read_label_studio
from wilss.data.annotations.labelme import labelme_files, read_labelme
from wilss.data.annotations.parquet import read_parquet
from wilss.data.annotations.records import Annotations
from wilss.errors import ManifestError

#: The reader of each form, by name; path, and the classes' names by value for label maps.
READERS: Mapping[str, Callable[[Path, Sequence[str]], Annotations]] = {
    "cvat": lambda path, names: read_cvat(path),
    "labelstudio": lambda path, names: read_label_studio(path),
    "labelme": lambda path, names: read_labelme(path),
    "coco": lambda path, names: read_coco_instances(path),
    "panoptic": lambda path, names: read_panoptic(path),
    "fiftyone": lambda path, names: read_fiftyone(path),
    "labelmaps": read_label_maps,
    "huggingface": read_parquet,
}


def read_annotations(path: Path, class_names: Sequence[str] = (), form: str | None = None) -> Annotations:
    """The images and shapes of a file or folder. form: one of `READERS`, where it is not to be recognised.

    class_names: by value, for label maps without a labelmap.txt. Raises ManifestError, also while images are read.
    """
    if not path.exists():
        raise ManifestError(f"{path} is not there; correct the path.")
    return READERS[form or recognised(path)](path, class_names)


def recognised(path: Path) -> str:
    """The form of a file or folder. Raises ManifestError for what is none of `READERS`."""
    if path.is_dir():
        found = _of_folder(path)
    elif path.suffix.lower() == ".xml":
        found = "cvat"
    elif path.suffix.lower() == ".parquet":
        found = "huggingface"
    elif zipfile.is_zipfile(path):
        found = "cvat"
    elif path.suffix.lower() == ".zip":
        raise ManifestError(f"{path} is no whole zip: damaged or incomplete; export or copy it again.")
    elif path.suffix.lower() == ".json":
        found = _of_json(path)
    else:
        found = None
    if found is None:
        raise ManifestError(
            f"{path} is no file of an annotation tool that is known; read are exports of CVAT (images 1.1), Label "
            "Studio (JSON), labelme, COCO, FiftyOne, Hugging Face's parquet, and folders of label maps."
        )
    return found


def _of_folder(path: Path) -> str | None:
    if (path / SAMPLES).is_file():
        return "fiftyone"
    if (path / INSIDE_ZIP).is_file():
        raise ManifestError(f"{path} is a folder with {INSIDE_ZIP}; name that file.")
    if next(path.rglob("*.parquet"), None) is not None:
        return "huggingface"
    for file in labelme_files(path):
        return "labelme" if _of_json(file) == "labelme" else None
    return "labelmaps" if holds_label_maps(path) else None


def _of_json(path: Path) -> str | None:
    content = read_json(path)
    if isinstance(content, list):
        return "labelstudio"
    if not isinstance(content, dict):
        return None
    if "shapes" in content:
        return "labelme"
    if "samples" in content:
        return "fiftyone"
    if not {"images", "annotations", "categories"} <= content.keys():
        return None
    rows = content["annotations"] if isinstance(content["annotations"], list) else []
    return "panoptic" if any(isinstance(row, dict) and "segments_info" in row for row in rows) else "coco"
