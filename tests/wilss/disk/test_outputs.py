"""What a user is told when a file cannot be written, and what is never replaced unasked."""

import errno
import os
from pathlib import Path

import pytest

from wilss.disk import refuse_existing, write_output, writing
from wilss.errors import CheckpointError, StoreError


@pytest.mark.parametrize(
    ("code", "then", "sentence"),
    [
        (errno.ENOSPC, "", r"x cannot be written \(No space left on device\); free some space\.$"),
        (errno.EDQUOT, "run again", r"\(Disk quota exceeded\); free some space and run again\.$"),
        (errno.EACCES, "", r"\(Permission denied\); give a path that can be written\.$"),
        (errno.EIO, "run again", r"\(Input/output error\); fix that and run again\.$"),
    ],
)
def test_what_goes_wrong_on_disk_is_one_sentence(code: int, then: str, sentence: str) -> None:
    with pytest.raises(CheckpointError, match=sentence), writing(Path("x"), raises=CheckpointError, then=then):
        raise OSError(code, os.strerror(code))


def test_an_output_replaces_what_is_there_and_removes_what_a_killed_writer_left(tmp_path: Path) -> None:
    left_over = tmp_path / f"out.{'0' * 32}.partial"
    left_over.touch()
    (tmp_path / "out").write_bytes(b"old")
    write_output(tmp_path / "out", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("out", b"new")]
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="folder cannot be written"):
        write_output(tmp_path / "folder", b"new")


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    refuse_existing(tmp_path / "new", overwrite=False)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for path in (tmp_path, tmp_path / "link"):
        refuse_existing(path, overwrite=True)
        with pytest.raises(StoreError, match="exists; give another path, or replace it with --overwrite"):
            refuse_existing(path, overwrite=False)
