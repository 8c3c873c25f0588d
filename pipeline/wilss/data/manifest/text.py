"""YAML as plain data with the line of every key; nothing in a file can run, grow without bound or hide."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from wilss.data.layouts.files import read_bytes
from wilss.data.layouts.spec import expand
from wilss.errors import ManifestError, first_line

Key = tuple[str | int, ...]

_LARGEST_FILE = 1 << 20
_MOST_NODES = 200_000
#: NUL and halves of characters, which escapes such as "\\0" can name.
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_LONGEST_TEXT = 4096


@dataclass(frozen=True)
class Where:
    """A file and the lines of its keys, for errors that name both."""

    path: Path
    lines: dict[Key, int] = field(default_factory=dict)

    def at(self, key: Key) -> str:
        """A place like `data_manifest.yaml, line 12, steps.1.classes.3`, as far as it is known."""
        known = key
        while known and known not in self.lines:
            known = known[:-1]
        line = f", line {self.lines[known]}" if known in self.lines and known else ""
        return f"{self.path}{line}{', ' if key else ''}{'.'.join(map(str, key))}"

    def expanded(self, text: str, key: Key) -> str:
        """`text` with its variables filled in. Raises ManifestError."""
        try:
            return expand(text)
        except ValueError as error:
            raise self.error(key, str(error)) from None

    def error(self, key: Key, sentence: str) -> ManifestError:
        """A ManifestError that names file, line and key path before its sentence."""
        return ManifestError(f"{self.at(key)}: {sentence}")


def read_yaml(path: Path, writer: str = "manifest init") -> tuple[Any, Where]:
    """The content of a YAML file, and where its keys stand. Raises ManifestError.

    writer: the command of wilss-masks that writes such a file, for whoever has none.

    Only plain data (no tags), one document, no key twice in a mapping, at most 1 MiB and 200,000 values with
    its aliases written out.
    """
    content = read_bytes(path, _LARGEST_FILE + 1)
    if len(content) > _LARGEST_FILE:
        raise ManifestError(f"{path} is larger than 1 MiB; a manifest names lists, it does not hold them.")
    try:
        loader = yaml.SafeLoader(content)
        node = loader.get_single_node()
        if node is None:
            raise ManifestError(f"{path} is empty; `wilss-masks {writer}` writes one.")
        where = Where(path)
        _Walk(where).visit(node, ())
        return loader.construct_document(node), where
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise ManifestError(f"{path} is not plain YAML: {_told(error)}; fix that line.") from None
    except RecursionError:
        raise ManifestError(f"{path} is nested too deeply; write it flat.") from None


def _told(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem} in line {error.problem_mark.line + 1}"
    return first_line(error)


class _Walk:
    """Notes lines, counts values as if aliases were written out, refuses double keys and loops."""

    def __init__(self, where: Where) -> None:
        self.where = where
        self._sizes: dict[int, int] = {}
        self._open: set[int] = set()

    def visit(self, node: yaml.Node, key: Key) -> int:
        """How many values `node` stands for; refuses more than the most."""
        if id(node) in self._open:
            raise self.where.error(key, "refers to itself; write it out.")
        if id(node) not in self._sizes:
            self.where.lines.setdefault(key, node.start_mark.line + 1)
            if isinstance(node, yaml.ScalarNode) and _NO_TEXT.search(node.value):
                raise self.where.error(key, "holds a character that no name or path can have; write it again.")
            if isinstance(node, yaml.ScalarNode) and len(node.value) > _LONGEST_TEXT:
                raise self.where.error(
                    key, f"has {len(node.value)} characters, more than any name or path; shorten it."
                )
            self._open.add(id(node))
            self._sizes[id(node)] = 1 + sum(self._children(node, key))
            self._open.remove(id(node))
        if self._sizes[id(node)] > _MOST_NODES:
            raise self.where.error(key, "stands for too many values; write fewer aliases.")
        return self._sizes[id(node)]

    def _children(self, node: yaml.Node, key: Key) -> list[int]:
        if isinstance(node, yaml.SequenceNode):
            return [self.visit(child, (*key, place)) for place, child in enumerate(node.value)]
        if not isinstance(node, yaml.MappingNode):
            return []
        seen: set[tuple[str, str]] = set()
        sizes = []
        for name, value in node.value:
            word = (name.tag, str(name.value))
            if word in seen and isinstance(name, yaml.ScalarNode) and name.value != "<<":
                raise self.where.error((*key, name.value), "stands there twice; keep one.")
            seen.add(word)
            plain = name.value if isinstance(name, yaml.ScalarNode) else "?"
            sizes.append(self.visit(value, (*key, int(plain) if plain.isdecimal() else plain)))
        return sizes
