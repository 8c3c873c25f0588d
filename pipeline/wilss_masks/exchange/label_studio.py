"""Stores as tasks with predictions for Label Studio, and the labeling interface that shows them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from wilss.data.annotations.label_studio import IMAGE_ID
from wilss.data.annotations.outlines import outlines_along_edges
from wilss.data.annotations.runs import box_of, packed_brush
from wilss.data.taxonomy import VOID
from wilss.disk import refuse_existing, write_output
from wilss.drawing import class_colours
from wilss.store import MaskStore

from .common import Exported, exportable, exported, holds_void, make_each
from .naming import CocoNames
from .pieces import VOID_NAME, Picture, Piece, PieceOptions, Pieces, ShapeKind

#: Where Label Studio looks for files of a local storage, whose folder is that of the images.
LOCAL_FILES = "/data/local-files/?d="

_TAGS = {"mask": "BrushLabels", "polygon": "PolygonLabels", "box": "RectangleLabels"}


def export_label_studio(
    store: MaskStore,
    out: Path,
    *,
    names: CocoNames = CocoNames(),  # noqa: B008  frozen
    shapes: ShapeKind = "mask",
    options: PieceOptions = PieceOptions(),  # noqa: B008  frozen
    images_at: str = LOCAL_FILES,
    overwrite: bool = False,
    threads: int | None = None,
) -> Exported:
    """Write the file `out`, a json of tasks, and the labeling interface beside it, <out>.config.xml.

    A task's prediction has the least score of its classes as `score`, so that the least sure can be sorted first, and
    `model_version`, which names the store. images_at: what stands before an image's name in its address.
    Raises StoreError when a file is there and `overwrite` is False.
    """
    config = out.with_name(f"{out.name}.config.xml")
    refuse_existing(out, overwrite)
    refuse_existing(config, overwrite)
    rows, refused = exportable(store)
    encode = _Task(store, names, shapes, options, images_at)
    made = make_each(store, encode, rows, refused, threads)
    write_output(config, _config(store, shapes, with_void=options.void and holds_void(store)).encode("utf-8"))
    tasks = ",\n".join(text for text, _, _ in made.results)
    write_output(out, f"[{tasks}]\n".encode())
    return exported(
        store,
        made,
        annotations=sum(count for _, count, _ in made.results),
        overlapping=sum(both for _, _, both in made.results),
        notes=[
            f"{config} is the project's labeling interface; the predictions are shown under it alone.",
            *(f"The address of the first image is {encode.address(store.image_ids[row])}" for row in made.rows[:1]),
        ],
    )


def model_version(store: MaskStore) -> str:
    """What the predictions of a store say of where they come from."""
    digest = store.digest[:12] if store.is_complete else "partial"
    return f"wilss {store.attributes.get('source')} {digest}"


class _Task:
    """One task as json text; how many results it has; and whether its masks overlap."""

    def __init__(
        self, store: MaskStore, names: CocoNames, shapes: ShapeKind, options: PieceOptions, images_at: str
    ) -> None:
        self._pieces, self._names, self._shapes, self._images_at = Pieces(store, options), names, shapes, images_at
        self._version = model_version(store)

    def __call__(self, row: int) -> tuple[str, int, bool]:
        picture = self._pieces(row)
        shapes = [
            (f"m{number}-{part}", piece, value)
            for number, piece in enumerate(picture.pieces)
            for part, value in enumerate(self._values(picture, piece))
        ]
        results = [result for shape in shapes for result in self._results(picture, *shape)]
        prediction: dict[str, Any] = {"model_version": self._version, "result": results}
        if picture.score is not None:
            prediction["score"] = picture.score
        task = {
            "data": {"image": self.address(picture.image_id), IMAGE_ID: picture.image_id},
            "predictions": [prediction],
        }
        return json.dumps(task, ensure_ascii=False), len(shapes), picture.is_overlapping

    def address(self, image_id: str) -> str:
        """Where Label Studio looks for an image."""
        name = self._names.file_name(image_id)
        return self._images_at + (quote(name) if self._images_at else name)

    def _results(self, picture: Picture, name: str, piece: Piece, value: dict[str, Any]) -> list[dict[str, Any]]:
        """A shape, and what is chosen of it, which has the shape's id."""
        shape = self._result(name, picture, piece, value)
        if piece.verdict == "unjudged":
            return [shape]
        chosen = {**value, "choices": [piece.verdict]}
        return [shape, {**shape, "type": "choices", "from_name": "verdict", "value": chosen}]

    def _result(self, name: str, picture: Picture, piece: Piece, value: dict[str, Any]) -> dict[str, Any]:
        kind = _TAGS[self._shapes].lower()
        result = {
            "id": name,
            "type": kind,
            "from_name": self._shapes,
            "to_name": "image",
            "original_width": picture.width,
            "original_height": picture.height,
            "image_rotation": 0,
            "value": {**value, kind: [piece.name]},
        }
        return result if piece.score is None else {**result, "score": piece.score}

    def _values(self, picture: Picture, piece: Piece) -> Iterator[dict[str, Any]]:
        high, wide = picture.height, picture.width
        if self._shapes == "polygon":
            for outline in outlines_along_edges(piece.mask):
                yield {"points": [[100 * x / wide, 100 * y / high] for x, y in outline], "closed": True}
        elif self._shapes == "box":
            top, left, rows, columns = box_of(piece.mask)
            yield {"x": 100 * left / wide, "y": 100 * top / high, "width": 100 * columns / wide,
                   "height": 100 * rows / high, "rotation": 0}  # fmt: skip
        else:
            yield {"format": "rle", "rle": packed_brush(piece.mask)}


def _config(store: MaskStore, shapes: ShapeKind, *, with_void: bool) -> str:
    """The labeling interface: the shapes' labels, and a verdict for each of them."""
    colours, tag = class_colours(), _TAGS[shapes]
    classes = [*zip(store.category_ids, store.category_names, strict=True), *([(VOID, VOID_NAME)] if with_void else [])]
    labels = "".join(
        f'    <Label value={quoteattr(name)} background="#{"{:02x}{:02x}{:02x}".format(*colours[identity])}"/>\n'
        for identity, name in classes
    )
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true" zoomControl="true"/>\n'
        f'  <{tag} name="{shapes}" toName="image">\n{labels}  </{tag}>\n'
        '  <Choices name="verdict" toName="image" perRegion="true">\n'
        '    <Choice value="accepted"/>\n    <Choice value="rejected"/>\n  </Choices>\n</View>\n'
    )
