"""The tools' own libraries, read and write, run by their own Python: `libraries.py read|write FORM PLACE OUT.npz`.

It imports nothing of ours: test_tools.py calls it and compares. Masks go into OUT.npz under `image<TAB>class`.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Found = Iterator[tuple[str, str, np.ndarray]]

# -- reading what we wrote ----------------------------------------------------------------------------------------


def by_datumaro(place: Path, form: str) -> Found:
    """Masks and polygons of a format of datumaro's; polygons as its own transform draws them."""
    from datumaro import Dataset

    dataset = Dataset.import_from(str(place), form)
    dataset.transform("polygons_to_masks")
    labels = dataset.categories()[next(iter(k for k in dataset.categories() if k.name == "label"))]
    for item in dataset:
        for annotation in item.annotations:
            if annotation.type.name == "mask":
                yield item.id, labels[annotation.label].name, np.asarray(annotation.image, bool)


def read_cvat(place: Path) -> Found:
    yield from by_datumaro(place, "cvat")


def read_cvat_sdk(place: Path) -> Found:
    """The masks' numbers as cvat-sdk takes them: run lengths, then the box."""
    from xml.etree import ElementTree

    from cvat_sdk.masks import decode_mask

    for image in ElementTree.parse(place).iter("image"):
        width, height = int(image.attrib["width"]), int(image.attrib["height"])
        for mask in image.iter("mask"):
            left, top, wide, high = (int(mask.attrib[name]) for name in ("left", "top", "width", "height"))
            runs = [int(run) for run in mask.attrib["rle"].split(",")]
            points = [*runs, left, top, left + wide - 1, top + high - 1]
            drawn = decode_mask(points, image_width=width, image_height=height)
            yield os.path.splitext(image.attrib["name"])[0], mask.attrib["label"], drawn


def read_labelstudio(place: Path) -> Found:
    """Brushes by the converter's own decoder; every prediction is held against the labeling interface first."""
    from label_studio_sdk.converter.brush import decode_rle
    from label_studio_sdk.label_interface import LabelInterface

    interface = LabelInterface(Path(f"{place}.config.xml").read_text(encoding="utf-8"))
    interface.validate()
    for task in json.loads(place.read_text(encoding="utf-8")):
        (prediction,) = task["predictions"]
        assert interface.validate_prediction(prediction), prediction
        for result in prediction["result"]:
            size = result["original_height"], result["original_width"], 4
            value = result["value"]
            drawn = decode_rle(value["rle"]).reshape(size)[..., 3] > 0
            yield task["data"]["wilss_image"], value["brushlabels"][0], drawn


def without_window() -> None:
    """Let modules of labelme be imported that draw and code masks, without its window: Qt and networks."""
    from importlib.util import find_spec
    from types import ModuleType

    found: Any = find_spec("labelme")
    (folder,) = found.submodule_search_locations
    places = {"labelme": folder, "labelme.utils": f"{folder}/utils", "labelme._label_file": "", "PyQt5": ""}
    for name, inside in places.items():
        module: Any = ModuleType(name)
        module.__path__, module.ShapeDict, module.QtGui = [inside], dict, None
        sys.modules[name] = module


def read_labelme(place: Path) -> Found:
    without_window()
    from labelme.utils.image import img_b64_to_arr
    from labelme.utils.shape import shape_to_mask

    for file in sorted(place.rglob("*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        size = content["imageHeight"], content["imageWidth"]
        for shape in content["shapes"]:
            if shape["shape_type"] == "mask":
                (left, top), (right, bottom) = np.array(shape["points"], int)
                drawn = np.zeros(size, bool)
                drawn[top : bottom + 1, left : right + 1] = img_b64_to_arr(shape["mask"]).astype(bool)
            else:
                drawn = shape_to_mask(size, shape["points"], shape["shape_type"])
            yield file.relative_to(place).as_posix().removesuffix(".json"), shape["label"], drawn


def read_pycocotools(place: Path) -> Found:
    from pycocotools.coco import COCO

    coco = COCO(str(place))
    for annotation in coco.loadAnns(coco.getAnnIds()):
        (image,), (category,) = coco.loadImgs(annotation["image_id"]), coco.loadCats(annotation["category_id"])
        yield os.path.splitext(image["file_name"])[0], category["name"], coco.annToMask(annotation).astype(bool)


def read_supervision(place: Path) -> Found:
    import supervision as sv

    images = place.parent / "images"
    dataset = sv.DetectionDataset.from_coco(str(images), str(place), force_masks=True)
    for path, detections in dataset.annotations.items():
        for mask, number in zip(detections.mask if len(detections) else [], detections.class_id, strict=True):
            name = Path(path).relative_to(images).with_suffix("").as_posix()
            yield name, dataset.classes[number], np.asarray(mask, bool)


def read_coco_datumaro(place: Path) -> Found:
    yield from by_datumaro(place, "coco_instances")


def read_panoptic(place: Path) -> Found:
    """datumaro finds annotations/panoptic_<name>.json and a folder of its name."""
    yield from by_datumaro(place, "coco_panoptic")


def read_fiftyone(place: Path) -> Found:
    """Samples by the importer of its own layout, as it hands them to the database; masks by its own detections."""
    import fiftyone as fo
    from fiftyone.utils.data import LegacyFiftyOneDatasetImporter

    importer = LegacyFiftyOneDatasetImporter(str(place))
    with importer:
        for sample in importer:
            assert isinstance(sample, fo.Sample)
            size = sample.metadata.height, sample.metadata.width
            labels = sample.label.get_mask()
            for detection in sample.masks.detections:
                drawn = detection.to_segmentation(frame_size=(size[1], size[0]), target=1).mask.astype(bool)
                yield sample.wilss_image, detection.label, drawn
            assert labels.shape == size


def read_datasets(place: Path) -> Found:
    from datasets import load_dataset

    files = sorted(map(str, (place / "data").glob("*.parquet")))
    dataset = load_dataset("parquet", data_files=files, split="train", cache_dir=str(place.parent / "cache"))
    for row in dataset:
        labels = np.array(row["mask"])
        for value in np.unique(labels[labels > 0]).tolist():
            yield row["image_id"], str(value), labels == value


def read_voc(place: Path) -> Found:
    yield from by_datumaro(place, "voc_segmentation")


def read_grey(place: Path) -> Found:
    """Any folder of grey PNGs, as OpenCV reads them."""
    import cv2

    for file in sorted(place.rglob("*.png")):
        if not file.stem.endswith("_color"):
            labels = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_UNCHANGED)
            assert labels.ndim == 2
            name = "/".join(file.relative_to(place).with_suffix("").parts[2:]).removesuffix("_gtFine_labelIds")
            for value in np.unique(labels[labels > 0]).tolist():
                yield name, str(value), labels == value


def read_sam(place: Path) -> Found:
    from pycocotools import mask

    for file in sorted(place.rglob("*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        for annotation in content["annotations"]:
            name = os.path.splitext(content["image"]["file_name"])[0]
            yield name, "", mask.decode(annotation["segmentation"]).astype(bool)


# -- writing for us to read ---------------------------------------------------------------------------------------

SIZE = (9, 11)
LABELS = ("cat", "dog")


def drawings() -> dict[tuple[str, str], np.ndarray]:
    """Masks by image and class: a ring with an island, two parts, a single pixel, the whole image."""
    ring = np.zeros(SIZE, bool)
    ring[1:7, 1:8] = True
    ring[2:6, 2:7] = False
    ring[3, 4] = True
    parts = np.zeros(SIZE, bool)
    parts[0:3, 8:11] = parts[7:9, 0:4] = True
    pixel = np.zeros(SIZE, bool)
    pixel[8, 10] = True
    return {("a", "cat"): ring, ("a", "dog"): parts, ("b", "dog"): pixel, ("c", "cat"): np.ones(SIZE, bool)}


def images() -> dict[str, dict[str, np.ndarray]]:
    found: dict[str, dict[str, np.ndarray]] = {}
    for (image, label), mask in drawings().items():
        found.setdefault(image, {})[label] = mask
    return found


def datumaro_dataset() -> Any:
    from datumaro import Dataset, DatasetItem
    from datumaro.components.annotation import Mask
    from datumaro.components.media import Image as Media

    items = [
        DatasetItem(
            id=image,
            subset="train",
            media=Media.from_numpy(np.zeros((*SIZE, 3), np.uint8)),
            annotations=[
                Mask(mask, label=LABELS.index(label), id=n, group=n) for n, (label, mask) in enumerate(of.items(), 1)
            ],
        )
        for image, of in images().items()
    ]
    return Dataset.from_iterable(items, categories=list(LABELS))


def write_datumaro(form: str) -> Callable[[Path], None]:
    def write(place: Path) -> None:
        datumaro_dataset().export(str(place), form, save_media=False)

    return write


def write_labelstudio(place: Path) -> None:
    from label_studio_sdk.converter.brush import mask2rle

    tasks = []
    for number, (image, of) in enumerate(images().items()):
        results = [
            {"id": label, "type": "brushlabels", "from_name": "tag", "to_name": "image", "original_width": SIZE[1],
             "original_height": SIZE[0], "image_rotation": 0,
             "value": {"format": "rle", "rle": mask2rle(mask.astype(np.uint8) * 255), "brushlabels": [label]}}
            for label, mask in of.items()
        ]  # fmt: skip
        annotation = {"id": number, "completed_by": {"email": "ann@example.org"}, "result": results,
                      "updated_at": "2026-03-01T10:00:00.000000Z"}  # fmt: skip
        tasks.append(
            {"id": number, "data": {"image": f"/data/upload/1/0123abcd-{image}.png"}, "annotations": [annotation]}
        )
    place.write_text(json.dumps(tasks), encoding="utf-8")


def write_labelme(place: Path) -> None:
    without_window()
    from labelme.utils.image import img_arr_to_b64

    place.mkdir(parents=True, exist_ok=True)
    for image, of in images().items():
        shapes = []
        for label, mask in of.items():
            rows, columns = np.nonzero(mask)
            top, left, bottom, right = rows.min(), columns.min(), rows.max(), columns.max()
            coded = img_arr_to_b64(mask[top : bottom + 1, left : right + 1].astype(np.uint8))
            corners = [[float(left), float(top)], [float(right), float(bottom)]]
            shapes.append({"label": label, "points": corners, "group_id": None, "description": "",
                           "shape_type": "mask", "flags": {}, "mask": coded})  # fmt: skip
        content: dict[str, Any] = {"version": "6.3.1", "flags": {}, "shapes": shapes, "imagePath": f"{image}.png"}
        content |= {"imageData": None, "imageHeight": SIZE[0], "imageWidth": SIZE[1]}
        (place / f"{image}.json").write_text(json.dumps(content), encoding="utf-8")


def write_supervision(place: Path) -> None:
    import supervision as sv

    place.mkdir(parents=True, exist_ok=True)
    paths, annotations = [], {}
    for image, of in images().items():
        path = str(place / f"{image}.png")
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(path)
        masks = np.stack(list(of.values()))
        paths.append(path)
        annotations[path] = sv.Detections(xyxy=sv.mask_to_xyxy(masks).astype(float), mask=masks,
                                          class_id=np.array([LABELS.index(label) for label in of]))  # fmt: skip
    dataset = sv.DetectionDataset(classes=list(LABELS), images=paths, annotations=annotations)
    dataset.as_coco(annotations_path=str(place / "instances.json"))
    for path in paths:
        os.remove(path)


def write_fiftyone(place: Path) -> None:
    """Samples as its exporter writes them: each one's own words for json."""
    import fiftyone as fo
    from bson import json_util

    place.mkdir(parents=True, exist_ok=True)
    samples = []
    for image, of in images().items():
        detections = []
        for label, mask in of.items():
            rows, columns = np.nonzero(mask)
            top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
            box = [left / SIZE[1], top / SIZE[0], (right - left) / SIZE[1], (bottom - top) / SIZE[0]]
            detections.append(fo.Detection(label=label, bounding_box=box, mask=mask[top:bottom, left:right]))
        sample = fo.Sample(filepath=f"/photos/{image}.png")
        sample["ground_truth"] = fo.Detections(detections=detections)
        content = sample.to_dict()
        content["filepath"] = f"data/{image}.png"
        samples.append(content)
    (place / "samples.json").write_text(json_util.dumps({"samples": samples}), encoding="utf-8")


def write_datasets(place: Path) -> None:
    from datasets import Dataset, Features, Value
    from datasets import Image as Picture

    rows: dict[str, list[Any]] = {"image_id": [], "mask": []}
    for image, of in images().items():
        labels = np.zeros(SIZE, np.uint8)
        for label, mask in of.items():
            labels[mask] = 1 + LABELS.index(label)
        rows["image_id"].append(image)
        rows["mask"].append(Image.fromarray(labels))
    features = Features({"image_id": Value("string"), "mask": Picture()})
    place.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_dict(rows, features=features).to_parquet(str(place))


READERS = {name.removeprefix("read_"): value for name, value in list(globals().items()) if name.startswith("read_")}
WRITERS: dict[str, Callable[[Path], None]] = {
    "cvat": write_datumaro("cvat"),
    "coco": write_datumaro("coco_instances"),
    "panoptic": write_datumaro("coco_panoptic"),
    "voc": write_datumaro("voc_segmentation"),
    "labelstudio": write_labelstudio,
    "labelme": write_labelme,
    "supervision": write_supervision,
    "fiftyone": write_fiftyone,
    "datasets": write_datasets,
}


def save(out: str, found: Found) -> None:
    """Masks of one image and class together."""
    masks: dict[str, np.ndarray] = {}
    for image, label, mask in found:
        key = f"{image}\t{label}"
        masks[key] = masks.get(key, np.zeros(mask.shape, bool)) | mask
    names = list(masks)
    arrays: Any = {f"m{number}": masks[name] for number, name in enumerate(names)}
    np.savez(out, names=np.array(names), **arrays)


def main() -> None:
    what, form, place, out = sys.argv[1:]
    if what == "read":
        save(out, READERS[form](Path(place)))
    else:
        WRITERS[form](Path(place))
        save(out, ((image, label, mask) for (image, label), mask in drawings().items()))


if __name__ == "__main__":
    main()
