"""Digests and versions, held against hashlib and the installed libraries."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from wilss.digests import digest_of_bytes, digest_of_file, digest_of_json, listing_of_files, version_of


def test_bytes_and_files_have_the_digest_of_their_content(tmp_path: Path) -> None:
    data = bytes(range(256)) * 4096  # more than one read
    (tmp_path / "a").write_bytes(data)
    assert digest_of_file(tmp_path / "a") == digest_of_bytes(data) == hashlib.sha256(data).hexdigest()
    with pytest.raises(OSError, match="No such file"):
        digest_of_file(tmp_path / "b")


@pytest.mark.parametrize(
    ("compact", "text"), [(False, b'{"a": [1, null], "b": "\\u00e9"}'), (True, b'{"a":[1,null],"b":"\\u00e9"}')]
)
def test_json_has_the_digest_of_its_sorted_text(compact: bool, text: bytes) -> None:
    assert digest_of_json({"b": "é", "a": [1, None]}, compact=compact) == hashlib.sha256(text).hexdigest()


def test_a_listing_names_files_by_relative_path_in_order(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("b/c", "a"):
        (tmp_path / name).write_text(name)
    expected = "".join(f"{name} {hashlib.sha256(name.encode()).hexdigest()}\n" for name in ("a", "b/c"))
    assert listing_of_files(tmp_path, [tmp_path / "b/c", tmp_path / "a"]) == expected.encode()


def test_a_library_that_is_not_installed_has_no_version() -> None:
    assert version_of("numpy") == np.__version__
    assert version_of("no-such-library-of-anybody") is None
