"""What a search found, as a part of the manifest: text that can be pasted, or the manifest with it put in place.

Comments and everything else of the file stay as they are: the section is replaced by its place in the text, and what
comes of it must read as the old content with the new values, else nothing is written.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from wilss.disk import write_output
from wilss.errors import ManifestError

_MARK = "chosen by `wilss-masks tune"
_COMMENT = re.compile(r"(?:^|\s)(#.*?)\s*$")


def list_of(manifest: Path, named: Path | None) -> Path:
    """Where images are named that settings are chosen on: beside the manifest, and not in the list that it names now.

    named: that list, which belongs to the settings that the manifest has now.
    """
    places = [manifest.with_name(f"{manifest.stem}.tuned{number}.txt") for number in ("", "-2")]
    return next(place for place in places if named is None or place.name != named.name)


def save_list(manifest: Path, named: Path | None, image_ids: Sequence[str]) -> Path:
    """Write that list, an id a line. Raises StoreError."""
    path = list_of(manifest, named)
    write_output(path, "".join(f"{name}\n" for name in image_ids).encode("utf-8", "surrogateescape"))
    return path


def block(values: Mapping[str, Any], chosen_on: str, comment: str) -> str:
    """The section `masks` with these values of fmwiss, as text."""
    return "\n".join(["masks:", *_lines(values, chosen_on, comment, "  ")]) + "\n"


def adopted(text: str, values: Mapping[str, Any], chosen_on: str, comment: str) -> str:
    """A manifest's text with these values in its section `masks.fmwiss`.

    values: all that the section shall hold. comment: what it was chosen on; replaces an earlier one.
    Raises ManifestError where the text is written in a way that cannot be changed in place.
    """
    before = yaml.safe_load(text)
    masks = dict(before.get("masks") or {})
    wanted = {**before, "masks": {**masks, "fmwiss": dict(values), "chosen_on": chosen_on}}
    changed = _changed(text, masks, values, chosen_on, comment)
    try:
        found = yaml.safe_load(changed)
    except yaml.YAMLError:
        found = None
    if found != wanted:
        raise ManifestError("its section `masks` cannot be changed in place; put the text above into it by hand.")
    return changed


def _changed(text: str, masks: Mapping[str, Any], values: Mapping[str, Any], chosen_on: str, comment: str) -> str:
    node = _child(yaml.compose(text, yaml.SafeLoader), "masks")
    if node is None:
        gap = "" if text.endswith("\n") else "\n"
        return f"{text}{gap}\n{block(values, chosen_on, comment)}"
    key, value = node
    if not isinstance(value, yaml.MappingNode) or value.flow_style or not value.value:
        rest = {name: section for name, section in masks.items() if name not in ("fmwiss", "chosen_on")}
        lines = ["masks:", *_lines(values, chosen_on, comment, "  "), *(_line(n, s, "  ") for n, s in rest.items())]
        return _replaced(text, key.start_mark.index, value.end_mark.index, "\n".join(lines))
    indent = " " * value.value[0][0].start_mark.column
    for name in ("fmwiss", "chosen_on"):  # from the end, so that places before stay right
        text = _without(text, name)
    key, value = _child(yaml.compose(text, yaml.SafeLoader), "masks") or node
    start = text.index("\n", key.start_mark.index) + 1 if "\n" in text[key.start_mark.index :] else len(text)
    section = "\n".join(_lines(values, chosen_on, comment, indent)) + "\n"
    return text[:start] + section + text[start:]


def _without(text: str, name: str) -> str:
    """The text without one key of `masks`, its comment by `tune` and its lines."""
    masks = _child(yaml.compose(text, yaml.SafeLoader), "masks")
    node = _child(masks[1], name) if masks else None
    if node is None:
        return text
    key, value = node
    lines = text.splitlines(keepends=True)
    first, last = key.start_mark.line, _last_line(value)
    if first and _MARK in lines[first - 1]:
        first -= 1
    return "".join([*lines[:first], *_comments(lines[first : last + 1]), *lines[last + 1 :]])


def _comments(lines: Sequence[str]) -> list[str]:
    """The comments on lines that go, each on a line of its own; ours goes with them."""
    found = [(line[: len(line) - len(line.lstrip())], _COMMENT.search(line)) for line in lines if _MARK not in line]
    return [f"{indent}{comment[1]}\n" for indent, comment in found if comment is not None]


def _last_line(node: yaml.Node) -> int:
    """Where a value ends; a mapping in block style is said to end where the next key begins."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _last_line(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.line)


def _child(node: yaml.Node | None, name: str) -> tuple[yaml.Node, yaml.Node] | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next(((key, value) for key, value in pairs if key.value == name), None)


def _replaced(text: str, start: int, end: int, by: str) -> str:
    return text[:start] + by + text[end:]


def _lines(values: Mapping[str, Any], chosen_on: str, comment: str, indent: str) -> list[str]:
    return [
        f"{indent}# {_MARK}{comment}",
        _line("fmwiss", values, indent),
        _line("chosen_on", chosen_on, indent),
    ]


def _line(name: str, value: Any, indent: str) -> str:
    return f"{indent}{name}: {_flow(value)}"


def _flow(value: Any) -> str:
    """A value as YAML on one line; the words of parameters need no quotes."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_flow(one)}" for name, one in value.items()) + "}"
    if isinstance(value, str) and value.isidentifier() and yaml.safe_load(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)
