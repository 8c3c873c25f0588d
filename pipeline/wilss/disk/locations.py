"""`Location`: where a store lies, on disk or in a bucket.

A path collapses the slashes of a URL; `ObjectUrl` does not.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

from wilss.errors import ParameterError

#: The kinds of buckets that there are, by how their URLs begin: S3 and whatever speaks it, Google's, Azure's.
SCHEMES = ("s3", "gs", "az")
#: The key that stands in a bucket for a folder that many processes share, see `shared`.
BEGUN = "begun"
_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")
_COLLAPSED = re.compile(rf"^({'|'.join(SCHEMES)}):/([^/].*)$")
_FORM = "write e.g. s3://BUCKET/NAME"


@dataclass(frozen=True)
class ObjectUrl:
    """A place in a bucket: what `pathlib.PurePath` is for a disk, as far as stores need it.

    bucket: of Azure, the container. key: what comes after it, without slashes at its ends. Nothing of credentials.
    """

    scheme: str
    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}"

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> "ObjectUrl":
        """What it lies in; the bucket is its own parent."""
        return ObjectUrl(self.scheme, self.bucket, self.key.rpartition("/")[0])

    def with_name(self, name: str) -> "ObjectUrl":
        """Another one beside it."""
        return self.parent / name

    def __truediv__(self, name: str) -> "ObjectUrl":
        return ObjectUrl(self.scheme, self.bucket, "/".join(part for part in (self.key, name.strip("/")) if part))

    def absolute(self) -> "ObjectUrl":
        """Itself."""
        return self


#: Where a store lies.
Location: TypeAlias = Path | ObjectUrl


def resolved(place: Location) -> Location:
    """The place itself, where links lead to it."""
    return Path(os.path.realpath(place)) if isinstance(place, Path) else place


def is_url(text: str) -> bool:
    """Whether a text begins as a URL of any kind does."""
    return _URL.match(text) is not None


def local_path(place: str | Path) -> Path:
    """A path on disk, where nothing else will do.

    Raises ParameterError for a URL, of which pathlib would make a folder of this machine.
    """
    url = str(place)
    if isinstance(place, Path) and (collapsed := _COLLAPSED.match(url)):
        url = f"{collapsed[1]}://{collapsed[2]}"
    if is_url(url):
        raise ParameterError(
            f"{without_credentials(url)} is a URL, and this is read or written on disk alone; name a path."
        )
    return Path(place)


def without_credentials(url: str) -> str:
    """A URL as it may be told: without user name, keys and everything from a `?` or `#` on."""
    scheme, rest = url.split("://", 1)
    return f"{scheme}://{re.split('[?#]', rest)[0].rpartition('@')[2]}"


def location_of(place: str | Location, *, whole_bucket: bool = False) -> Location:
    """What a user named: a path, or the URL of a place in a bucket. whole_bucket: or of all of it.

    Raises ParameterError for what is neither, and for a URL of another kind, without a bucket or a name in it, or with
    credentials.
    """
    if isinstance(place, Path) and (collapsed := _COLLAPSED.match(str(place))):  # `Path("s3://b/k")` is `s3:/b/k`
        place = f"{collapsed[1]}://{collapsed[2]}"
    if isinstance(place, Path) and is_url(str(place)):  # the path of data there
        place = str(place)
    if isinstance(place, Path | ObjectUrl):
        return place
    if not isinstance(place, str):
        if not isinstance(place, os.PathLike):
            raise ParameterError(f"a place is a path or a URL, not a {type(place).__name__}; name where it lies.")
        place = os.fsdecode(place)
    if not is_url(place):
        return Path(place)
    scheme, rest = place.split("://", 1)
    bucket, _, key = rest.partition("/")
    if "@" in bucket or "?" in rest or "#" in rest:
        raise ParameterError(
            f"{without_credentials(place)} was given with more than bucket and name; leave out user names, keys and "
            "everything from a `?` or `#` on: credentials are taken from the environment (AWS_ACCESS_KEY_ID and "
            "others) or the machine's role."
        )
    if scheme.lower() not in SCHEMES:
        raise ParameterError(f"{place} is of a kind that is not known ({', '.join(SCHEMES)} are); {_FORM}.")
    parts = [part for part in key.split("/") if part]
    if not bucket or not (parts or whole_bucket) or {".", ".."} & {*parts} or urlsplit(place).hostname is None:
        raise ParameterError(f"{place} names no place in a bucket; {_FORM}.")
    return ObjectUrl(scheme.lower(), bucket, "/".join(parts))
