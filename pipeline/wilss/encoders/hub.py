"""Files of a model hub: from the cache if they are there, else fetched; nothing waits for a network that is off."""

from collections.abc import Sequence
from pathlib import Path

from wilss.errors import WeightsError
from wilss.tensor_files import first_line

__all__ = ["hub_file"]


def hub_file(repository: str, names: Sequence[str], revision: str | None = None) -> Path:
    """The first of `names` in a Hugging Face repository: from the cache if it is there, else fetched.

    Under HF_HUB_OFFLINE nothing is fetched. Raises WeightsError with the way out.
    """
    from huggingface_hub import constants

    for name in names:
        if cached := _cached(repository, name, revision):
            return cached
    if constants.HF_HUB_OFFLINE:
        raise WeightsError(
            f"offline, and the weights of {repository} are not in the cache; pass `file:` with a local copy, "
            "or fetch them once without HF_HUB_OFFLINE."
        )
    return _fetched(repository, names, revision)


def _cached(repository: str, name: str, revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, name, revision=revision)
    return Path(found) if isinstance(found, str) else None


def _fetched(repository: str, names: Sequence[str], revision: str | None) -> Path:
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
    raise WeightsError(
        f"the weights of {repository} could not be fetched ({first_line(reason)}); "
        "check the name and the connection, or pass `file:` with a local copy."
    ) from reason
