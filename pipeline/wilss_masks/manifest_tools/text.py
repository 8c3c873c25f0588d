"""Words of a manifest as YAML in one line."""

import json
import re
from collections.abc import Mapping, Sequence

_PLAIN = re.compile(r"(?:[A-Za-z]|\.{0,2}/)[A-Za-z0-9_./ -]*|\.{1,2}")
_YAML_WORDS = frozenset({"yes", "no", "on", "off", "true", "false", "null", "y", "n", "~"})


def scalar(text: str) -> str:
    """A text, in quotes where YAML would read something else."""
    plain = _PLAIN.fullmatch(text) and text == text.strip() and text.casefold() not in _YAML_WORDS
    return text if plain else json.dumps(text, ensure_ascii=False)


def flow(value: str | Mapping[str, str] | Sequence[str]) -> str:
    """A text, a mapping of texts, or several texts, in one line."""
    if isinstance(value, str):
        return scalar(value)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {scalar(inner)}' for key, inner in value.items())}}}"
    return f"[{', '.join(map(scalar, value))}]"
