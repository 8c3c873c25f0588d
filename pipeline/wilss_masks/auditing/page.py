"""audit.html: what an audit found, for people; one file that loads nothing from anywhere."""

import base64
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from PIL import Image

from wilss.data.images import read_image
from wilss.data.layouts import ImageRecord
from wilss.drawing import class_colours, encoded
from wilss.errors import OneImageError
from wilss.store import MaskStore, Status

from ..inspect import drawing
from .findings import KINDS, Audit, Finding

#: Of every kind so many of the worst are shown with their pictures.
_SHOWN = 24
_LONGEST, _QUALITY = 240, 78
_FAILED_SHOWN = 40
#: Kinds whose pictures carry a mask, where the store has one.
_WITH_MASK = {"unsupported-tags", "missing-tags", "odd-areas", "stray-parts"}
_HEADINGS = {
    "leaks": "Leaks between training and validation",
    "tag-conflicts": "Tags that contradict each other",
    "unsupported-tags": "Tags that nothing supports",
    "missing-tags": "Classes that no tag explains",
    "confused-classes": "Confused classes",
    "duplicates": "Duplicates",
    "odd-masks": "Masks of the whole image or its rim",
    "odd-areas": "Unusual areas",
    "stray-parts": "Stray parts",
}


def render(audit: Audit, store: MaskStore | None = None) -> str:
    """The page as text; a store adds its masks.

    Whatever comes from outside is escaped by the template; an image that cannot be read any more is left out.
    """
    pictures = _Pictures(store)
    counts = audit.counts
    sections = [
        {
            "kind": kind,
            "heading": _HEADINGS[kind],
            "what": KINDS[kind],
            "count": counts[kind],
            "cards": [_card(finding, pictures) for finding in audit.of(kind)[:_SHOWN]],
        }
        for kind in KINDS
        if counts[kind]
    ]
    return _template().render(
        title=audit.title,
        looked_at=audit.looked_at,
        images=audit.images,
        counts=counts,
        kinds=KINDS,
        sections=sections,
        warnings=audit.warnings,
        failed={"count": len(audit.failed), "shown": dict(list(audit.failed.items())[:_FAILED_SHOWN])},
    )


@functools.cache
def _template() -> Template:
    home = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=home, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["amount"] = lambda value: f"{value:,}"
    return environment.get_template("template.html.j2")


def _card(finding: Finding, pictures: "_Pictures") -> Mapping[str, Any]:
    name = finding.classes[0] if finding.kind in _WITH_MASK and finding.classes else None
    shown = [(record.image_id, pictures(record, name)) for record in finding.records]
    return {
        "sentence": finding.sentence,
        "score": f"{finding.score:.2f}",
        "pictures": [{"id": image, "uri": uri} for image, uri in shown if uri is not None],
    }


class _Pictures:
    """Thumbnails as data URIs, with the mask of a class laid over where the store has it."""

    def __init__(self, store: MaskStore | None) -> None:
        self._store = store
        self._rows = {} if store is None else {name: row for row, name in enumerate(store.image_ids)}
        self._status = None if store is None else store.current_status()

    def __call__(self, record: ImageRecord, name: str | None) -> str | None:
        try:
            image = read_image(record.path, record.bits)
            scale = min(1.0, _LONGEST / max(image.shape[:2]))
            size = tuple(max(1, round(side * scale)) for side in image.shape[:2])
            shown = drawing.picture(image, (size[0], size[1]))
            mask = self._mask(record.image_id, name, image.shape[:2])
            if mask is not None and name is not None and self._store is not None:
                identity = self._store.category_ids[self._store.category_names.index(name)]
                red, green, blue = class_colours()[identity].tolist()
                resized = drawing.resized_mask(mask, (size[0], size[1]))
                shown = drawing.overlay(shown, resized, (red, green, blue), line=2)
        except OneImageError:
            return None
        return _data_uri(shown)

    def _mask(self, image_id: str, name: str | None, shape: tuple[int, ...]) -> Any:
        store, row = self._store, self._rows.get(image_id)
        if store is None or row is None or name not in store.category_names:
            return None
        if self._status is None or self._status[row] != Status.DONE:
            return None
        mask = store.read(row, [store.category_names.index(name)]).masks[0]
        return mask if mask.shape == tuple(shape) and mask.any() else None


def _data_uri(picture: np.ndarray[Any, np.dtype[np.uint8]]) -> str:
    content = encoded(Image.fromarray(picture), "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
