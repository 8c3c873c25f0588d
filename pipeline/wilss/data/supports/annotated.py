"""Supports that were drawn in an annotation tool: what its file says of the classes of a step."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from wilss.data.annotations import AnnotatedImage, ImageNames, Shape, read_annotations
from wilss.data.layouts import ImageRecord
from wilss.data.manifest import Manifest
from wilss.data.supports.simulate import Kind
from wilss.data.supports.spec import SupportSpec
from wilss.data.taxonomy import BACKGROUND, VOID, closest, meaning_of
from wilss.errors import ManifestError

#: Which kind a class has on an image with shapes of several: the one that says most.
_BY_MEANING: tuple[Kind, ...] = ("mask", "box", "scribble")


def annotated_supports(
    path: Path, manifest: Manifest, step: int, records: Mapping[str, ImageRecord]
) -> Iterator[SupportSpec | ManifestError]:
    """A support for every image and class of the step that the file has shapes of, or why it is none.

    Masks and polygons become masks, rectangles boxes, lines scribbles; what is called void is unknown, and lines that
    are called background run beside the class. Where masks and boxes of a class are on one image, what boxes alone
    hold is unknown. Classes of other steps and rejected shapes are left out. records: the images of the step's list.
    Raises ManifestError where the file cannot be read.
    """
    names, seen = ImageNames(records), set[str]()
    for image in read_annotations(path, manifest.taxonomy.class_names).images:
        shapes = [shape for shape in image.shapes if shape.verdict != "rejected" and image.verdict != "rejected"]
        if not shapes and image.problem is None:
            continue
        image_id = image.image_id if image.image_id in records else names.find(image.name)
        if problem := _problem(path, image, image_id, seen):
            yield ManifestError(problem)
            continue
        assert image_id is not None
        seen.add(image_id)
        yield from _of_image(path, manifest, step, image_id, image, shapes)


def _problem(path: Path, image: AnnotatedImage, image_id: str | None, seen: set[str]) -> str | None:
    if image.problem is not None:
        return f"{path}: {image.name!r}: {image.problem.rstrip('.')}; correct it, or take it out."
    if image_id is None:
        return f"{path}: {image.name!r} is no image of the step's list, or could be several; name it by its id."
    if image_id in seen:
        return f"{path}: {image.name!r} is {image_id!r}, which was there before; keep one."
    return None


def _of_image(
    path: Path, manifest: Manifest, step: int, image_id: str, image: AnnotatedImage, shapes: list[Shape]
) -> Iterator[SupportSpec | ManifestError]:
    by_class: dict[int, list[Shape]] = {}
    for shape in shapes:
        identity = manifest.taxonomy.find(shape.name)
        identity = meaning_of(shape.name) if identity is None else identity
        if identity is None:
            names = manifest.taxonomy.class_names
            yield ManifestError(f"{path}: {image.name!r}: {shape.name!r} is no class{closest(shape.name, names)}.")
        else:
            by_class.setdefault(identity, []).append(shape)
    for identity in manifest.protocol.new(step):
        if of_class := by_class.get(identity):
            yield SupportSpec(
                image_id=image_id,
                class_id=identity,
                kind=next(kind for kind in _BY_MEANING if any(shape.kind == kind for shape in of_class)),
                shapes=tuple(of_class),
                void=tuple(by_class.get(VOID, ())),
                beside=tuple(by_class.get(BACKGROUND, ())),
                told_size=image.size,
                where=f"{path}: {image.name!r}, {manifest.taxonomy.name_of(identity)!r}",
            )
