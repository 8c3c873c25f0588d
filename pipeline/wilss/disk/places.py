"""From where a store lies to its files."""

from pathlib import Path

from wilss.errors import StoreError

from .folder import Folder, LocalFolder
from .locations import Location
from .objects import ObjectFolder
from .urls import UrlPath


def folder_at(place: Location | Folder) -> Folder:
    """The folder at a location; a folder is itself."""
    if isinstance(place, Folder):
        return place
    if isinstance(place, UrlPath):
        return ObjectFolder(place.url)
    if isinstance(place, Path):
        return LocalFolder(place)
    return ObjectFolder(place)


def is_there(place: Location) -> bool:
    """Whether anything is at a location. Raises StoreError where a server does not say."""
    return folder_at(place).exists()


def refuse_existing(path: Location, overwrite: bool, *, resumes: bool = False) -> None:
    """Raise StoreError when `path` is there and nobody said that it may be replaced.

    resumes: whether the command has a --resume, which leaves out what is made already.
    """
    if not overwrite and (is_there(path) or (isinstance(path, Path) and path.is_symlink())):
        keep = "leave out what is made already with --resume, " if resumes else ""
        raise StoreError(f"{path} exists; {keep}give another path, or replace it with --overwrite.")
