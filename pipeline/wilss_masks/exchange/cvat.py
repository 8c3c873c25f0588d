"""Stores as pre-annotations for CVAT: images 1.1, an xml or a zip with annotations.xml; and the labels of the task."""

import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from wilss.data.annotations.cvat import INSIDE_ZIP, VERDICT
from wilss.data.annotations.outlines import outlines_along_edges
from wilss.data.annotations.records import VERDICTS
from wilss.data.annotations.runs import box_of, cropped, runs_by_rows
from wilss.data.taxonomy import VOID
from wilss.disk import refuse_existing, write_output
from wilss.drawing import class_colours
from wilss.errors import StoreError
from wilss.store import MaskStore

from .common import Exported, exportable, exported, holds_void, make_each
from .naming import CocoNames
from .pieces import VOID_NAME, Picture, Piece, PieceOptions, Pieces, ShapeKind

_VERDICTS = ("unjudged", *VERDICTS)


def export_cvat(
    store: MaskStore,
    out: Path,
    *,
    names: CocoNames = CocoNames(),  # noqa: B008  frozen
    shapes: ShapeKind = "mask",
    options: PieceOptions = PieceOptions(),  # noqa: B008  frozen
    overwrite: bool = False,
    threads: int | None = None,
) -> Exported:
    """Write the file `out`, .xml or .zip, and beside it the labels for the task's form "Raw", as <out>.labels.json.

    Each shape has the attributes `verdict`, to be chosen in CVAT, and `score`. Polygons keep every pixel, holes too.
    Raises StoreError when a file is there and `overwrite` is False.
    """
    if out.suffix.lower() not in (".xml", ".zip"):
        raise StoreError(f"{out} is neither .xml nor .zip; give it one of these endings, which CVAT takes.")
    labels_file = out.with_name(f"{out.name}.labels.json")
    refuse_existing(out, overwrite)
    refuse_existing(labels_file, overwrite)
    rows, refused = exportable(store)
    labels = _labels(store, with_void=options.void and holds_void(store))
    encode = _Image(store, names, shapes, options)
    made = make_each(store, encode, rows, refused, threads)
    images = (f'  <image id="{number}" {text}' for number, (text, _, _) in enumerate(made.results))
    content = "\n".join([*_head(store, labels, len(made.rows)), *images, "</annotations>", ""]).encode("utf-8")
    write_output(
        labels_file, json.dumps([_raw(*label) for label in labels], ensure_ascii=False, indent=1).encode("utf-8")
    )
    write_output(out, content if out.suffix.lower() == ".xml" else _zipped(content))
    return exported(
        store,
        made,
        annotations=sum(count for _, count, _ in made.results),
        overlapping=sum(both for _, _, both in made.results),
        notes=[f"{labels_file} has the labels; paste it into the raw form of a new task, then upload {out.name}."],
    )


class _Image:
    """One image as xml without its number; how many shapes it has; and whether its masks overlap."""

    def __init__(self, store: MaskStore, names: CocoNames, shapes: ShapeKind, options: PieceOptions) -> None:
        self._pieces, self._names, self._shapes = Pieces(store, options), names, shapes

    def __call__(self, row: int) -> tuple[str, int, bool]:
        picture = self._pieces(row)
        shapes = [shape for piece in picture.pieces for shape in self._shape(piece)]
        text = "\n".join([self._start(picture), *shapes, "  </image>"])
        return text, len(shapes), picture.is_overlapping

    def _start(self, picture: Picture) -> str:
        name = quoteattr(self._names.file_name(picture.image_id))
        return f'name={name} width="{picture.width}" height="{picture.height}">'

    def _shape(self, piece: Piece) -> Iterator[str]:
        label = f'label={quoteattr(piece.name)} source="auto" occluded="0"'
        said = "" if piece.identity == VOID else f'<attribute name="{VERDICT}">{piece.verdict}</attribute>'
        if piece.score is not None:
            said += f'<attribute name="score">{piece.score}</attribute>'
        for tag, where in self._places(piece):
            yield f'    <{tag} {label} {where} z_order="0">{said}</{tag}>'

    def _places(self, piece: Piece) -> Iterator[tuple[str, str]]:
        if self._shapes == "polygon":
            for outline in outlines_along_edges(piece.mask):
                yield "polygon", f'points="{";".join(f"{x}.0,{y}.0" for x, y in outline)}"'
        elif self._shapes == "box":
            top, left, high, wide = box_of(piece.mask)
            yield "box", f'xtl="{left}.0" ytl="{top}.0" xbr="{left + wide}.0" ybr="{top + high}.0"'
        else:
            crop, top, left = cropped(piece.mask)
            runs = ", ".join(map(str, runs_by_rows(crop).tolist()))
            yield "mask", f'rle="{runs}" left="{left}" top="{top}" width="{crop.shape[1]}" height="{crop.shape[0]}"'


def _labels(store: MaskStore, *, with_void: bool) -> list[tuple[str, str, bool]]:
    """Name, colour as #rrggbb, and whether verdicts go with it."""
    colours = class_colours()
    rows = [
        (name, "#{:02x}{:02x}{:02x}".format(*colours[identity]), True)
        for identity, name in zip(store.category_ids, store.category_names, strict=True)
    ]
    return [*rows, (VOID_NAME, "#{:02x}{:02x}{:02x}".format(*colours[VOID]), False)] if with_void else rows


def _attributes(is_judged: bool) -> list[dict[str, object]]:
    """What CVAT asks about a shape of a label."""
    score = {"name": "score", "mutable": False, "input_type": "text", "default_value": "", "values": [""]}
    verdict = {"name": VERDICT, "mutable": False, "input_type": "select", "default_value": _VERDICTS[0],
               "values": list(_VERDICTS)}  # fmt: skip
    return [verdict, score] if is_judged else []


def _raw(name: str, colour: str, is_judged: bool) -> dict[str, object]:
    return {"name": name, "color": colour, "type": "any", "attributes": _attributes(is_judged)}


def _head(store: MaskStore, labels: Sequence[tuple[str, str, bool]], count: int) -> list[str]:
    task = _text(f"{store.attributes.get('manifest', 'wilss')} step {store.attributes.get('step')}")
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "  <version>1.1</version>", "  <meta><task>",
             f"    <name>{task}</name><size>{count}</size><mode>annotation</mode>", "    <labels>"]  # fmt: skip
    for name, colour, is_judged in labels:
        asked = "".join(
            f"<attribute><name>{one['name']}</name><mutable>False</mutable><input_type>{one['input_type']}</input_type>"
            f"<default_value>{one['default_value']}</default_value><values>{_values(one['values'])}</values></attribute>"
            for one in _attributes(is_judged)
        )
        lines.append(
            f"      <label><name>{_text(name)}</name><color>{colour}</color><type>any</type>"
            f"<attributes>{asked}</attributes></label>"
        )
    return [*lines, "    </labels>", "  </task></meta>"]


def _values(values: object) -> str:
    return "\n".join(values) if isinstance(values, list) else ""


def _text(text: str) -> str:
    """Text for the inside of an element, without characters that xml has not."""
    return escape("".join(letter for letter in text if letter.isprintable()))


def _zipped(content: bytes) -> bytes:
    """A zip with annotations.xml, the same bytes every time."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(INSIDE_ZIP), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
