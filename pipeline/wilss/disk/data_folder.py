"""From where data lie that are only read to their files, as `places` does it for stores."""

from pathlib import Path

from .folder import Folder, LocalFolder
from .objects import ObjectFolder
from .urls import UrlPath, fetching


class FetchedFolder(ObjectFolder):
    """A folder in a bucket whose files are data: what was fetched whole is kept on disk, see `fetching`."""

    # ruff: noqa: D102 (what the methods do is said by `Folder`)

    def read(self, name: str) -> bytes:
        return fetching.read_kept(self.location / name)


def data_folder_at(path: Path) -> Folder:
    """The folder of data at a path."""
    return FetchedFolder(path.url) if isinstance(path, UrlPath) else LocalFolder(path)
