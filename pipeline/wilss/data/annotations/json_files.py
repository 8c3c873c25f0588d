"""Json of annotation tools: read whole, refused in a sentence."""

import json
from pathlib import Path
from typing import Any

from wilss.data.layouts.files import read_bytes
from wilss.errors import ManifestError, first_line


def read_json(path: Path) -> Any:
    """The content of a json file. Raises ManifestError."""
    content = read_bytes(path)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{path} is no whole json file ({first_line(error)}); export it again.") from None
