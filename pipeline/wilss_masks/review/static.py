"""The page as files: opened by a double click, without a server; what is said there comes back as `verdicts.json`."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wilss.disk import built_beside, make_folder, refuse_existing, write_atomically, writing
from wilss.errors import OneImageError, StoreError

from .index import NO_CLASS, ReviewIndex
from .page_files import page_text
from .session import ReviewSession

#: Images whose masks one script holds; as in files.js.
PART = 20
#: The modules of the page in the order in which they need each other.
_MODULES = ("parts", "masks", "items", "history", "stage", "tools", "gallery", "viewer", "keys", "files", "main")
_MODULE_LINE = '<script type="module" src="main.js"></script>'
_SCRIPTS = '<script defer src="data/index.js"></script>\n<script defer src="app.js"></script>'
_POLICY = (
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src 'self' file:; style-src "
    "'self' file:; img-src 'self' file: data: blob:\">"
)
_IMPORT = re.compile(r'^import (\{[^}]*\}) from "\./(\w+)\.js";$', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?(?:function|class|const) (\w+))", re.MULTILINE)


def write_static(
    session: ReviewSession,
    out: Path,
    *,
    limit: int,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write the page of the `limit` least sure masks, unjudged ones first, into the folder `out`, whole or not at all.

    Returns how many masks it shows. Raises StoreError where it is there already, or cannot be written.
    """
    refuse_existing(out, overwrite)
    if out.exists() and not (out / "data" / "index.js").is_file():
        raise StoreError(f"{out} is there and is no such page, so it is not replaced; give another folder.")
    if session.comparison is not None:
        session.comparison.wait()
    index = session.listed.part(_least_sure(session, limit))
    with writing(out), built_beside(out) as folder:
        make_folder(folder)
        _write_page(folder)
        _write_index(folder, session, index)
        _write_images(folder, session, index, progress)
    return len(index.image)


def bundled() -> str:
    """All modules of the page as one plain script, which needs no server to be loaded; each keeps its own names."""
    parts = ['"use strict";', "const modules = {};"]
    for name in _MODULES:
        text = page_text(f"{name}.js")
        exported = ", ".join(found for _, found in _EXPORT.findall(text))
        text = _EXPORT.sub(r"\1", _IMPORT.sub(lambda found: f"const {found[1]} = modules.{_module(found[2])};", text))
        parts.append(f"modules.{name} = (() => {{\n{text}\nreturn {{ {exported} }};\n}})();")
    return "\n".join(parts) + "\n"


def _module(name: str) -> str:
    return "files" if name == "server" else name


def _least_sure(session: ReviewSession, limit: int) -> NDArray[np.intp]:
    """Items that can be judged, as the page sorts them: unjudged ones first, then by how sure the store is of them."""
    index, column = session.index, session.index.columns[session.index.worst_first]
    key = np.nan_to_num(column if session.index.worst_first != "deviation" else -column, nan=np.inf)
    if index.is_listed:
        key = np.arange(len(key)).astype(np.float32)
    standing = set(session.changes.judged())
    pairs = zip(index.image.tolist(), index.category.tolist(), strict=True)
    judged = np.array([(index.image_ids[place], category) in standing for place, category in pairs], bool)
    order = np.lexsort((key, judged))
    chosen: NDArray[np.intp] = order[index.category[order] != NO_CLASS][:limit]
    return chosen


def _write_page(folder: Path) -> None:
    html = page_text("index.html").replace(_MODULE_LINE, f"{_POLICY}\n{_SCRIPTS}")
    for name, text in {"index.html": html, "app.css": page_text("app.css"), "app.js": bundled()}.items():
        write_atomically(folder / name, text.encode("utf-8"))


def _write_index(folder: Path, session: ReviewSession, index: ReviewIndex) -> None:
    value = {**session.index_value(index), "maps": {}}
    standing = ((pair, session.changes.standing(pair)) for pair in session.changes.judged())
    places = {image_id: place for place, image_id in enumerate(index.image_ids)}
    states = [
        {**state, "image": places[pair[0]]}
        for pair, event in standing
        if pair[0] in places and (state := session.state(pair, event, "")) is not None
    ]
    _write_script(folder / "data" / "index.js", f"REVIEW = {_json({'index': value, 'states': states, 'parts': {}})};")


def _write_images(
    folder: Path, session: ReviewSession, index: ReviewIndex, progress: Callable[[int, int], None] | None
) -> None:
    places = {row: place for place, row in enumerate(session.index.rows.tolist())}
    values: list[dict[str, Any]] = []
    for number, row in enumerate(index.rows.tolist()):
        place = places[row]
        values.append({**_value(session, place), "image": number})
        _write_picture(folder / "images" / f"{number}.jpg", partial(session.pictures.jpeg, row))
        for category in index.category[index.image == number].tolist():
            thumbnail = folder / "thumbs" / f"{number}-{category}.jpg"
            _write_picture(thumbnail, partial(session.thumbnail, place, category))
        if len(values) == PART or number == len(index.rows) - 1:
            part = number // PART
            _write_script(folder / "data" / f"masks-{part}.js", f"REVIEW.parts[{part}] = {_json(values)};")
            values = []
        if progress is not None:
            progress(number + 1, len(index.rows))


def _value(session: ReviewSession, place: int) -> dict[str, Any]:
    """The masks of an image; the page of files has no maps."""
    try:
        value = session.image_value(place)
    except OneImageError as error:
        return {"height": 0, "width": 0, "classes": [], "void": None, "problem": str(error)}
    return {**value, "classes": [{**one, "maps": []} for one in value["classes"]]}


def _write_picture(path: Path, draw: Callable[[], bytes]) -> None:
    """A picture that cannot be drawn is left out; the page says so in its place."""
    try:
        data = draw()
    except OneImageError:
        return
    write_atomically(path, data)


def _write_script(path: Path, text: str) -> None:
    write_atomically(path, f"{text}\n".encode("ascii"))


def _json(value: Any) -> str:
    """JSON that is a script, too: in ASCII."""
    return json.dumps(value, separators=(",", ":"))
