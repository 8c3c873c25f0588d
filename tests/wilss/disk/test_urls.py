"""Paths of data in buckets: names as of any path, and never taken for a file of this machine."""

import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wilss.disk import ObjectUrl, UrlPath, absolute, data_path, joined, location_of, on_disk, path_of
from wilss.errors import ParameterError, StoreError

VOC = data_path("s3://bucket/data/VOC2012/")


def test_names_are_taken_apart_as_those_of_other_paths() -> None:
    image = VOC / "JPEGImages/a b#c.jpg"
    assert str(image) == f"{image}" == image.as_posix() == "s3://bucket/data/VOC2012/JPEGImages/a b#c.jpg"
    assert (image.name, image.stem, image.suffix) == ("a b#c.jpg", "a b#c", ".jpg")
    assert image.parent.parent == VOC
    assert {VOC: 1}[image.parent.parent]
    assert image.relative_to(VOC).as_posix() == "JPEGImages/a b#c.jpg"
    assert (VOC / "night:/a.jpg").relative_to(VOC).as_posix() == "night:/a.jpg"
    assert str(image.with_suffix(".png")) == "s3://bucket/data/VOC2012/JPEGImages/a b#c.png"
    assert [str(path) for path in sorted([VOC / "b", VOC / "a"])] == [f"{VOC}/a", f"{VOC}/b"]
    assert all(type(path) is UrlPath for path in (image, image.parent, image.with_name("x"), *image.parents))


def test_it_is_made_again_from_what_it_says_and_by_pickle() -> None:
    for path in (VOC, VOC / "a%20b.jpg", data_path("gs://bucket"), data_path("az://container/x")):
        again = pickle.loads(pickle.dumps(path))
        assert again == path == path_of(str(path)) == data_path(path)
        assert hash(again) == hash(path)
        assert type(again) is type(path_of(str(path))) is UrlPath
        assert VOC.absolute() is VOC.resolve() is VOC
    assert isinstance(VOC, UrlPath)
    assert VOC.url == ObjectUrl("s3", "bucket", "data/VOC2012") == location_of(VOC)
    assert data_path(Path("s3://bucket/data/VOC2012")) == VOC  # pathlib has put its slashes together
    assert type(path_of("/data/VOC2012")) is type(Path())


def test_places_of_a_manifest() -> None:
    assert absolute(VOC, "../lists/./train.txt") == data_path("s3://bucket/data/lists/train.txt")
    assert absolute(VOC, ".") == VOC
    assert absolute(VOC, "/data") == joined(VOC, "/data") == Path("/data")
    assert absolute(Path("/home"), "s3://other/x") == joined(Path("/home"), "s3://other/x") == UrlPath("s3://other/x")
    assert absolute(Path("/home"), "../x") == Path("/x")
    assert Path("/home") / VOC == VOC
    with pytest.raises(ParameterError, match="leads out of its bucket"):
        absolute(VOC, "../../../x")


@pytest.mark.parametrize(
    "use",
    [
        open,
        os.stat,
        os.path.isfile,
        os.listdir,
        Path.mkdir,
        Path.unlink,
        Path.touch,
        lambda path: path.rename("x"),
        lambda path: path.write_bytes(b""),
        lambda path: path.open("w"),
        lambda path: os.path.join(path, "x"),
    ],
)
def test_what_needs_a_file_on_disk_is_refused(
    use: Callable[[Any], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:/bucket/data/VOC2012").mkdir(parents=True)  # what pathlib would take it for
    with pytest.raises(StoreError, match=r"s3://bucket/data/VOC2012 lies in a bucket, .*; copy it to disk"):
        use(VOC)


@pytest.mark.parametrize(
    "url", ["s3://key:secret@bucket/x", "s3://bucket/x?X-Amz-Signature=secret", "https://server/x", "s3://bucket/../x"]
)
def test_other_urls_are_refused_without_what_is_secret_in_them(url: str) -> None:
    with pytest.raises(ParameterError) as refused:
        data_path(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (errno.ENOSPC, r"{} cannot be written \(No space left on device\); free some space and run the same .*TMPDIR"),
        (errno.EACCES, r"{} cannot be written \(Permission denied\); fix that and run the same command again"),
    ],
)
def test_a_full_temporary_folder_is_told_as_such(
    code: int, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(path: UrlPath, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(code, os.strerror(code), str(target))

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(UrlPath, "copy_to", failing)
    with pytest.raises(StoreError, match=sentence.format(tmp_path)), on_disk(VOC / "a.pth"):
        pytest.fail("there is no copy")
    assert not list(tmp_path.iterdir())


def test_what_is_not_in_the_bucket_and_what_fails_while_the_copy_is_used_are_no_fault_of_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(path: UrlPath, target: Path) -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(UrlPath, "copy_to", missing)
    with pytest.raises(FileNotFoundError, match=str(VOC / "a.pth")), on_disk(VOC / "a.pth"):
        pytest.fail("there is no copy")
    monkeypatch.setattr(UrlPath, "copy_to", lambda path, target: target.write_bytes(b"whole"))
    with pytest.raises(OSError, match="of the reader"), on_disk(VOC / "a.pth"):
        raise OSError(errno.EIO, "of the reader")


def test_without_any_temporary_folder_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_is_usable() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr("tempfile.gettempdir", none_is_usable)
    sentence = r"no folder for temporary files \(No usable.*free some space there, or set TMPDIR"
    with pytest.raises(StoreError, match=sentence), on_disk(VOC / "a.pth"):
        pytest.fail("there is no copy")
