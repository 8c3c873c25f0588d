"""Label Studio's json: a list of tasks; brushes, polygons, ellipses and boxes of what somebody annotated."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from wilss.data.annotations.json_files import read_json
from wilss.data.annotations.outlines import drawn_along_edges, drawn_box, drawn_ellipse, turned
from wilss.data.annotations.records import VERDICTS, AnnotatedImage, Annotations, Shape, no_area, size_of, time_of
from wilss.data.annotations.runs import Mask, mask_of_brush
from wilss.errors import ManifestError

_Group = list[Mapping[str, Any]]

#: Where a task keeps our own image id.
IMAGE_ID = "wilss_image"


def read_label_studio(path: Path) -> Annotations:
    """The tasks of an export in the form JSON, those that somebody annotated alone. Raises ManifestError."""
    tasks = read_json(path)
    if not isinstance(tasks, list) or not all(
        isinstance(task, dict) and isinstance(task.get("data"), dict) for task in tasks
    ):
        raise ManifestError(
            f"{path} is no list of tasks with `data`; export from Label Studio as JSON, not as JSON-MIN."
        )
    return Annotations(form="labelstudio", images=_images(tasks))


def _images(tasks: Iterable[Mapping[str, Any]]) -> Iterator[AnnotatedImage]:
    for task in tasks:
        given = task.get("annotations") or task.get("completions") or []
        if not isinstance(given, list) or any(_is_done(one) for one in given):
            yield AnnotatedImage.read(_name(task["data"]), _of_task, task["data"], given)


def _of_task(data: Mapping[str, Any], given: Any) -> AnnotatedImage:
    return _image(data, max(filter(_is_done, given), key=_rank))


def _is_done(annotation: Any) -> bool:
    """Whether somebody submitted an annotation, and did not skip its task."""
    return isinstance(annotation, dict) and not annotation.get("was_cancelled")


def _rank(annotation: Mapping[str, Any]) -> tuple[bool, str, str]:
    """Of several annotations of a task the one that is called true, else the one that was changed last."""
    return bool(annotation.get("ground_truth")), _text(annotation, "updated_at"), _text(annotation, "created_at")


def _text(content: Mapping[str, Any], name: str) -> str:
    return str(content.get(name) or "")


def _image(data: Mapping[str, Any], annotation: Mapping[str, Any]) -> AnnotatedImage:
    rows = [row for row in annotation.get("result") or [] if isinstance(row, dict)]
    groups = _grouped(rows)
    sizes = {size for row in rows if (size := size_of(row.get("original_height"), row.get("original_width")))}
    turned_ones = [row for row in rows if row.get("image_rotation")]
    problem = None
    if len(sizes) > 1:
        problem = f"has shapes for images of several sizes ({', '.join(map(str, sorted(sizes)))})"
    elif turned_ones:
        problem = "was turned in Label Studio; turn it back there, and export again"
    return AnnotatedImage(
        name=_name(data),
        size=next(iter(sizes)) if len(sizes) == 1 else None,
        shapes=tuple(_shapes(groups)),
        image_id=str(data[IMAGE_ID]) if isinstance(data.get(IMAGE_ID), str) else None,
        is_judged=True,
        verdict=_verdict(groups),
        author=_author(annotation.get("completed_by")),
        at=time_of(_text(annotation, "updated_at") or _text(annotation, "created_at")),
        problem=problem,
    )


def _name(data: Mapping[str, Any]) -> str:
    """The image of a task: under the name that most have, else the first text that looks like a file's name."""
    texts = [value for value in data.values() if isinstance(value, str)]
    named = data.get("image")
    return named if isinstance(named, str) else next((text for text in texts if "." in text[-6:]), "")


def _author(completed_by: Any) -> str:
    if isinstance(completed_by, dict):
        return str(completed_by.get("email") or completed_by.get("id") or "")
    return "" if completed_by is None else str(completed_by)


def _grouped(rows: Sequence[Mapping[str, Any]]) -> list[_Group]:
    """Results with the same id: the shape, and its names and choices where they stand in results of their own."""
    of_id: dict[str, _Group] = {}
    for number, row in enumerate(rows):
        of_id.setdefault(str(row.get("id") or number), []).append(row)
    return list(of_id.values())


def _shapes(groups: Iterable[_Group]) -> Iterator[Shape]:
    for group in groups:
        drawn = next((row for row in group if _is_shape(row)), None)
        names = [name for row in group for name in _labels(row)]
        if drawn is not None:
            yield from (_shape(name, drawn["value"], _choice(group)) for name in dict.fromkeys(names or [""]))


def _verdict(groups: Iterable[_Group]) -> str | None:
    """What somebody chose for the whole image."""
    return next(filter(None, (_choice(group) for group in groups if not any(map(_is_shape, group)))), None)


def _is_shape(row: Mapping[str, Any]) -> bool:
    value = row.get("value")
    return isinstance(value, dict) and any(
        key in value for key in ("rle", "points", "width", "radiusX", "vertices", "x")
    )


def _labels(row: Mapping[str, Any]) -> list[str]:
    value = row.get("value")
    lists = [names for key, names in value.items() if key.endswith("labels")] if isinstance(value, dict) else []
    return [str(name) for names in lists if isinstance(names, list) for name in names]


def _choice(group: _Group) -> str | None:
    """The first verdict that somebody chose."""
    values = [row["value"] for row in group if isinstance(row.get("value"), dict)]
    chosen = [str(word).lower() for value in values for word in value.get("choices") or []]
    return next((word for word in chosen if word in VERDICTS), None)


def _shape(name: str, value: Mapping[str, Any], verdict: str | None) -> Shape:
    if "rle" in value:
        return Shape(name=name, draw=partial(_draw_brush, value["rle"]), verdict=verdict)
    if isinstance(value.get("points"), list):
        return Shape(name=name, draw=partial(_draw_polygon, value["points"]), verdict=verdict)
    if "radiusX" in value:
        return Shape(name=name, draw=partial(_draw_ellipse, dict(value)), verdict=verdict)
    if "width" in value:
        return Shape(name=name, kind="box", draw=partial(_draw_box, dict(value)), verdict=verdict)
    return Shape(name=name, draw=partial(no_area, "point"), verdict=verdict)


def _draw_brush(packed: Any, size: tuple[int, int]) -> Mask:
    return mask_of_brush(packed, size)


def _draw_polygon(points: Any, size: tuple[int, int]) -> Mask:
    """Points in percent of the image's sides."""
    if not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise ValueError("its points are no pairs of numbers")
    return drawn_along_edges([(float(x) * size[1] / 100, float(y) * size[0] / 100) for x, y in points], size)


def _draw_ellipse(value: Mapping[str, Any], size: tuple[int, int]) -> Mask:
    """An ellipse in percent, turned clockwise around its middle."""
    x, wide = (float(value[name]) * size[1] / 100 for name in ("x", "radiusX"))
    y, high = (float(value[name]) * size[0] / 100 for name in ("y", "radiusY"))
    return drawn_ellipse((x, y), (wide, high), float(value.get("rotation") or 0), size)


def _draw_box(value: Mapping[str, Any], size: tuple[int, int]) -> Mask:
    """A box in percent, turned clockwise around its upper left corner."""
    left, wide = (float(value[side]) * size[1] / 100 for side in ("x", "width"))
    top, high = (float(value[side]) * size[0] / 100 for side in ("y", "height"))
    angle = float(value.get("rotation") or 0)
    if not angle:
        return drawn_box(left, top, left + wide, top + high, size)
    corners = ((left, top), (left + wide, top), (left + wide, top + high), (left, top + high))
    return drawn_along_edges([turned(corner, (left, top), angle) for corner in corners], size)
