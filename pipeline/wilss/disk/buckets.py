"""Requests to the server of a bucket, by obstore: each answered, or a sentence why not.

Credentials are taken where obstore takes them (the environment, the machine's role; it reads none of S3's configuration
files), and are neither kept nor told by anything here.
"""

import contextlib
import errno
import functools
import os
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import IO, Any, TypeVar

from wilss.digests import digest_of_json
from wilss.errors import StoreError, UnreachableError, first_line

from .locations import ObjectUrl

#: How often a file is tried to be created where nobody can say what became of the last try.
_TRIES = 6
_PAUSE_SECONDS = 0.05
#: So much of a large object is in memory at a time.
_PIECE = 8 << 20
#: What failed after so long is not tried again: the server is not there.
_LONG_SECONDS = 20.0
#: A probe of the server that is older was left by somebody who was killed.
_PROBE_SECONDS = 600.0
#: How the variables of the environment begin that clients read.
_OF_CLIENTS = ("AWS_", "GOOGLE_", "AZURE_")
_T = TypeVar("_T")
_NEEDS = "it needs the library obstore: install it with `pip install 'wilss[object-stores]'`, and run the same again."
_FIX = (
    "what is done is kept. Check the network, the name of the bucket and the credentials (for s3: AWS_ACCESS_KEY_ID, "
    "AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL in the environment; ~/.aws is not read), and run the same "
    "command again."
)


class Bucket:
    """The bucket that a URL is in; keys are whole.

    Raises StoreError, and FileNotFoundError for a key that is not there. Requests that fail for a moment are sent again
    by obstore, for three minutes at most.
    """

    def __init__(self, url: ObjectUrl) -> None:
        self.root = ObjectUrl(url.scheme, url.bucket, "")
        self._client = client_of(url.scheme, url.bucket, _settings())

    def get(self, key: str) -> bytes:
        """A whole object."""
        return self._ask(key, "read", lambda obstore: bytes(obstore.get(self._client, key).bytes()))

    def get_unless(self, key: str, e_tag: str) -> tuple[bytes | None, str]:
        """A whole object and its e_tag; None where it is still the one with `e_tag`, "" for none."""

        def request(obstore: Any) -> tuple[bytes | None, str]:
            from obstore.exceptions import NotModifiedError

            try:
                answer = obstore.get(self._client, key, options={"if_none_match": e_tag} if e_tag else None)
            except NotModifiedError:
                return None, e_tag
            return bytes(answer.bytes()), answer.meta["e_tag"] or ""

        return self._ask(key, "read", request)

    def download(self, key: str, file: IO[bytes], e_tag: str) -> str | None:
        """Put a whole object into an open file, piece by piece, and say its e_tag; None where it still has `e_tag`.

        The file is emptied first, and left as it is where nothing is fetched. Raises OSError where the disk does.
        """

        def request(obstore: Any) -> str | None:
            from obstore.exceptions import NotModifiedError

            nonlocal e_tag
            try:
                answer = obstore.get(self._client, key, options={"if_none_match": e_tag} if e_tag else None)
            except NotModifiedError:
                return None
            e_tag = ""  # what is in the file is not that any more, should this be tried again
            file.seek(0)
            file.truncate()
            for piece in answer.stream(min_chunk_size=_PIECE):
                file.write(piece)
            return answer.meta["e_tag"] or ""

        return self._ask(key, "read", request)

    def beginning(self, key: str, length: int) -> tuple[bytes, int, str]:
        """The first bytes of an object, so many at most, the size of all of it, and its e_tag."""

        def request(obstore: Any) -> tuple[bytes, int, str]:
            from obstore.exceptions import GenericError

            try:
                answer = obstore.get(self._client, key, options={"range": (0, length)})
            except GenericError as error:
                if "416" not in str(error):
                    raise
                answer = obstore.get(self._client, key)  # of nothing there is no first byte
            return bytes(answer.bytes()), int(answer.meta["size"]), answer.meta["e_tag"] or ""

        return self._ask(key, "read", request)

    def piece(self, key: str, start: int, end: int, e_tag: str) -> bytes:
        """Some bytes of the object with `e_tag`. Raises OSError where it is another one by now."""

        def request(obstore: Any) -> bytes:
            from obstore.exceptions import PreconditionError

            try:
                options = {"range": (start, end)} | ({"if_match": e_tag} if e_tag else {})
                return bytes(obstore.get(self._client, key, options=options).bytes())
            except PreconditionError:
                raise OSError("it was replaced while it was read; run the same command again") from None

        return self._ask(key, "read", request)

    def head(self, key: str) -> dict[str, Any] | None:
        """What the server knows of an object: e_tag, last_modified, size; None where there is none."""
        try:
            return self._ask(key, "looked for", lambda obstore: dict(obstore.head(self._client, key)))
        except FileNotFoundError:
            return None

    def put(self, key: str, data: bytes) -> None:
        """Write an object, whole."""
        self._ask(key, "written", lambda obstore: obstore.put(self._client, key, data))

    def create(self, key: str, data: bytes) -> bool:
        """Write an object if there is none, and say whether these very bytes are there now by this call.

        An answer may be lost after the server has done what it was asked for; the client's next try is then refused
        because of its own success. And a server that is asked by two at once may refuse both (409). So a refusal is
        followed by a look at what is there.
        """
        return self._conditionally(key, data, "create")

    def replace(self, key: str, data: bytes, e_tag: str) -> bool:
        """Write an object if it is still the one with `e_tag`; the same otherwise."""
        return self._conditionally(key, data, {"e_tag": e_tag})

    def _conditionally(self, key: str, data: bytes, mode: Any) -> bool:
        from obstore.exceptions import AlreadyExistsError, GenericError, NotFoundError, PreconditionError

        problem: BaseException | None = None
        for _ in range(_TRIES):
            with self._asking(key, "written") as obstore:
                try:
                    obstore.put(self._client, key, data, mode=mode, use_multipart=False)
                    return True
                except (AlreadyExistsError, PreconditionError, NotFoundError, GenericError) as error:
                    problem = error  # the last: maybe it arrived
            try:
                there = self.get(key)
            except FileNotFoundError:
                if mode != "create":
                    return False
                time.sleep(_PAUSE_SECONDS)
                continue
            if there == data:
                return True
            if mode == "create" or not isinstance(problem, GenericError):
                return False
        raise self._unanswered(key, "written", problem)

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects, in this order; one that is not there is no error."""
        for key in keys:
            with contextlib.suppress(FileNotFoundError):
                self._ask(key, "removed", functools.partial(self._delete, key))

    def copy(self, source: str, target: str) -> None:
        """Have an object under another key, too; the server copies it."""
        self._ask(source, "copied", lambda obstore: obstore.copy(self._client, source, target))

    def list(self, below: str) -> Iterator[tuple[str, int]]:
        """Key and size of all objects in the folder `below`, "" for the bucket's root."""
        yield from ((str(entry["path"]), int(entry["size"])) for entry in self._listed(below))

    def folder(self, key: str) -> tuple[Sequence[str], Sequence[dict[str, Any]]]:
        """Of a folder, "" for the bucket's root, the names of the folders in it, and what is known of each file."""
        prefix = f"{key}/" if key else None
        found = self._ask(key, "listed", lambda obstore: obstore.list_with_delimiter(self._client, prefix=prefix))
        names = [str(folder).rpartition("/")[2] for folder in found["common_prefixes"]]
        return names, [dict(file) for file in found["objects"] if file["path"] != key]  # but a mark that it is there

    def has_any(self, key: str) -> bool:
        """Whether there is anything in a folder."""
        prefix = f"{key}/" if key else None
        return self._ask(key, "listed", lambda obstore: any(obstore.list(self._client, prefix=prefix)))

    def now(self, beside: str) -> datetime:
        """The server's clock, read off an object that is written for that; and whether it keeps what others created.

        Raises StoreError for a server that creates what is there already: two writers would not notice each other.
        """
        below = f"{beside}.probe"
        key = f"{below}/{uuid.uuid4().hex}"
        self.create(key, b"1")
        try:
            written = self.head(key)
            second = self.create(key, b"2")
        finally:
            self.delete([key])
        if second or written is None:
            raise StoreError(
                f"the server of {self.root} lets two writers create the same object, so that nobody could tell which "
                "of them came first; use a server that heeds conditional requests (If-None-Match)."
            )
        moment: datetime = written["last_modified"]
        self._sweep(below, moment - timedelta(seconds=_PROBE_SECONDS))
        return moment

    def _sweep(self, below: str, before: datetime) -> None:
        """Remove what was left in a folder where a kill came before its removal."""
        self.delete([str(entry["path"]) for entry in self._listed(below) if entry["last_modified"] < before])

    def _listed(self, below: str) -> Iterator[dict[str, Any]]:
        prefix = f"{below}/" if below else None
        some = self._ask(below, "listed", lambda obstore: [*obstore.list(self._client, prefix=prefix)])
        yield from (dict(entry) for entries in some for entry in entries)

    def _delete(self, key: str, obstore: Any) -> None:
        obstore.delete(self._client, key)

    def _ask(self, key: str, what: str, request: Callable[[Any], _T]) -> _T:
        """The answer to a request that may be sent twice.

        obstore sends again what was refused, but not what is no reading and was answered in part; that is done here,
        unless it took long already.
        """
        from obstore.exceptions import GenericError

        began = time.monotonic()
        for last in range(_TRIES):
            with self._asking(key, what) as obstore:
                try:
                    return request(obstore)
                except GenericError:
                    if last == _TRIES - 1 or time.monotonic() - began > _LONG_SECONDS:
                        raise
            time.sleep(_PAUSE_SECONDS * 2**last)
        raise AssertionError

    @contextlib.contextmanager
    def _asking(self, key: str, what: str) -> Iterator[Any]:
        import obstore
        from obstore.exceptions import BaseError, InvalidPathError, NotFoundError

        _require_not_forked(self.root / key)
        try:
            yield obstore
        except (NotFoundError, FileNotFoundError):
            raise FileNotFoundError(errno.ENOENT, "there is no such object", str(self.root / key)) from None
        except InvalidPathError as error:
            raise UnreachableError(
                f"{self.root / key} cannot be {what}: the name of an object there is none that can be read "
                f"({first_line(error)}); rename or remove it, and run the same command again."
            ) from None
        except BaseError as error:
            raise self._unanswered(key, what, error) from None

    def _unanswered(self, key: str, what: str, error: BaseException | None) -> UnreachableError:
        return UnreachableError(f"{self.root / key} cannot be {what} ({_cause(error)}); {_FIX}")


class _Forked:
    """obstore's threads are not there any more in a process that was forked: it would wait for them for ever."""

    used = False
    here = False

    @classmethod
    def note(cls) -> None:
        cls.here = cls.used


os.register_at_fork(after_in_child=_Forked.note)


@functools.lru_cache(maxsize=64)
def client_of(scheme: str, bucket: str, settings: str, prefix: str | None = None) -> Any:
    """obstore's client. settings: a digest of those that it is made of, so that another one is made with others.

    Raises StoreError without obstore, or where the environment is wrong.
    """
    try:
        from obstore import store
        from obstore.exceptions import BaseError
    except ImportError as error:
        raise StoreError(f"{scheme}://{bucket} cannot be opened ({first_line(error)}); {_NEEDS}") from error
    _require_not_forked(f"{scheme}://{bucket}")
    _Forked.used = True
    kind = {"s3": store.S3Store, "gs": store.GCSStore, "az": store.AzureStore}[scheme]
    try:
        return kind(bucket, prefix=prefix)
    except BaseError as error:
        raise StoreError(f"{scheme}://{bucket} cannot be opened ({_cause(error)}); {_FIX}") from None


def _require_not_forked(what: object) -> None:
    if _Forked.here:
        raise StoreError(
            f"{what} cannot be read in a process that was forked from one that has read it; start processes afresh, as "
            'in DataLoader(..., multiprocessing_context="spawn").'
        )


def client_below(url: ObjectUrl) -> Any:
    """A client of what lies below a URL."""
    return client_of(url.scheme, url.bucket, _settings(), url.key)


def _settings() -> str:
    """A digest of what the environment says to clients, which read it themselves: addresses, regions, credentials."""
    return digest_of_json({name: value for name, value in os.environ.items() if name.upper().startswith(_OF_CLIENTS)})


def _cause(error: BaseException | None) -> str:
    """What happened, without what a URL may carry behind its `?`, and what only obstore's makers want to know."""
    text = str(error)
    if status := re.search(r"status[ :]+(?:code )?(\d{3}[^,:\n]*)", text):
        return f"the server says {status[1].strip()}"
    if "error sending request" in text:
        return "the server does not answer"
    return re.sub(r"\?\S+", "", first_line(error))
