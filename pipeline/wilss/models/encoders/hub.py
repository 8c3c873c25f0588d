"""Files of a model hub: from the cache if they are there, else fetched; nothing waits for a network that is not there.

Before anything is fetched the hub is called once, for a few seconds at most: its own client tries again and again, with
pauses that grow, and a node of a cluster without a way out would hang in it for minutes.
"""

import socket
import threading
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from wilss.errors import WeightsError, first_line
from wilss.models.tensor_files import listed

_SECONDS = 3.0
_PORTS = {"http": 80, "https": 443}
#: What a file of the hub is to an encoder: the words for it, and the key of the manifest that names a local copy.
KINDS = {"file": "the weights", "config": "the config", "tokenizer": "the tokenizer"}
Key = Literal["file", "config", "tokenizer"]


def hub_file(repository: str, names: Sequence[str], revision: str | None = None, *, key: Key = "file") -> Path:
    """The first of `names` in a Hugging Face repository: from the cache if it is there, else fetched.

    key: of the encoder in the manifest, which names a local copy. Under HF_HUB_OFFLINE, and where the hub does not
    answer one call, nothing is fetched. Raises WeightsError that says which file is missing and the way out.
    """
    for name in names:
        if cached := cached_file(repository, name, revision):
            return cached
    require_connection(repository, names, key)
    return _fetched(repository, names, revision, key)


def hub_folder(repository: str, names: Sequence[str], lacking: Callable[[Path], Sequence[str]]) -> Path:
    """The folder of the cache that holds those of `names` that a repository has, its tokenizer's; fetched if need be.

    lacking: the files that a folder cannot be without and has not. Raises WeightsError as `hub_file` does.
    """
    from huggingface_hub import snapshot_download

    folder = cached_folder(repository, names)
    missing = lacking(folder) if folder else names
    if folder and not missing:
        return folder
    require_connection(repository, missing, "tokenizer")
    try:
        folder = Path(snapshot_download(repository, allow_patterns=list(names)))
    except Exception as error:  # the client raises its own, the transport's and OSError
        raise _not_fetched(repository, "tokenizer", error) from error
    if missing := lacking(folder):
        raise WeightsError(f"{repository} of the hub has no {listed(missing)}; pass `tokenizer:` with a local copy.")
    return folder


def cached_folder(repository: str, names: Sequence[str]) -> Path | None:
    """The folder of the cache that holds any of `names` of a repository."""
    found = (cached_file(repository, name) for name in names)
    return next((file.parent for file in found if file), None)


def require_connection(repository: str, names: Sequence[str], key: Key) -> None:
    """WeightsError where files of a repository, which are not in the cache, could not be fetched either."""
    from huggingface_hub import constants

    reason = None if constants.HF_HUB_OFFLINE else why_offline(constants.ENDPOINT)
    if constants.HF_HUB_OFFLINE or reason:
        are, them = ("are", "them") if key == "file" else ("is", "it")
        raise WeightsError(
            f"offline{f' ({reason})' if reason else ''}, and {KINDS[key]} of {repository} ({names[0]}) "
            f"{are} not in the cache; pass `{key}:` with a local copy, or fetch {them} once where there is a "
            "connection and share the cache (HF_HOME)."
        )


def why_offline(endpoint: str) -> str | None:
    """Why `endpoint` (a URL), or the proxy on the way to it, cannot be called; None where somebody answers.

    A single call that ends after a few seconds, also where a name server or a firewall says nothing at all.
    """
    scheme, host, port = _first_stop(endpoint)
    if not host:
        return f"{endpoint!r} is no address; correct HF_ENDPOINT or the proxy"
    answer: list[str | None] = []
    caller = threading.Thread(target=lambda: answer.append(_call(host, port)), daemon=True)
    caller.start()
    caller.join(_SECONDS)
    return answer[0] if answer else f"{scheme}://{host} does not answer"


def _first_stop(endpoint: str) -> tuple[str, str, int]:
    """Scheme, host and port of the proxy that the environment names for `endpoint`, or of itself."""
    parts = urlsplit(endpoint)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    try:
        port = parts.port
    except ValueError:
        return parts.scheme, "", 0
    return parts.scheme, parts.hostname or "", port or _PORTS.get(parts.scheme, 443)


def _call(host: str, port: int) -> str | None:
    try:
        socket.create_connection((host, port), timeout=_SECONDS).close()
    except OSError as error:
        return f"{host}: {error.strerror or first_line(error)}"
    return None


def cached_file(repository: str, name: str, revision: str | None = None) -> Path | None:
    """A file of a Hugging Face repository where the cache holds it; nothing is fetched."""
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(repository, name, revision=revision)
    return Path(cached) if isinstance(cached, str) else None


def _fetched(repository: str, names: Sequence[str], revision: str | None, key: Key) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    reason: Exception | None = None
    for name in names:
        try:
            return Path(hf_hub_download(repository, name, revision=revision))
        except LocalEntryNotFoundError as error:  # no connection; it is an EntryNotFoundError too
            reason = error
            break
        except EntryNotFoundError as error:
            reason = error
        except Exception as error:  # the client raises its own, the transport's and OSError
            reason = error
            break
    raise _not_fetched(repository, key, reason) from reason


def _not_fetched(repository: str, key: Key, reason: Exception | None) -> WeightsError:
    return WeightsError(
        f"{KINDS[key]} of {repository} could not be fetched ({first_line(reason)}); "
        f"check the name and the connection, or pass `{key}:` with a local copy."
    )
