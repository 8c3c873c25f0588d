"""Where an encoder's weights lie, whether they are the right ones, and how they get into a network.

safetensors first; `.pt`, `.pth` and `.bin` only through `torch.load(weights_only=True)`, never a fallback,
so that no weights file can run code. Nothing here waits for a network unless a hub file is missing from the
cache and `HF_HUB_OFFLINE` is not set. torch is imported inside the functions that need it: digests do
without.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import pickle
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wilss.errors import EncoderError, WeightsError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from wilss.manifest import EncoderSpec

__all__ = [
    "check_digest",
    "digest_of",
    "hub_file",
    "identity_of",
    "load_strictly",
    "random_seed",
    "read_config",
    "read_tensors",
    "resolve",
    "sha256_of",
    "weights_file",
]

BUILTIN = Path(__file__).parent / "builtin"
CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
TIMM_FILES = ("model.safetensors", "pytorch_model.bin")


# -- which file ---------------------------------------------------------------------------------------------


def resolve(name: str | Path) -> Path:
    """The file that a manifest names: "builtin:NAME" is one that ships with the package, all else a path.

    Raises WeightsError if it is missing or no file, or if a built-in name tries to leave its folder.
    """
    text = str(name)
    if not text.startswith("builtin:"):
        return _existing(Path(text).expanduser())
    plain = text.removeprefix("builtin:")
    if plain != Path(plain).name or plain in ("", ".", ".."):
        raise WeightsError(f"{text} is not a built-in file; name one of {_names(_builtins())}.")
    return _existing(BUILTIN / plain, f"; the built-in files are {_names(_builtins())}")


def _builtins() -> list[str]:
    return sorted(p.name for p in BUILTIN.glob("*") if p.suffix in (".json", ".safetensors"))


def _existing(path: Path, hint: str = "; check `file:` and `config:` of the encoder in the manifest") -> Path:
    with contextlib.suppress(OSError):
        if path.is_file():
            return path
    raise WeightsError(f"{path} {'is not a file' if path.is_dir() else 'does not exist or may not be read'}{hint}.")


def read_config(name: str | Path) -> dict[str, Any]:
    """An encoder's json config. Raises WeightsError if the file is missing or no json object."""
    path = resolve(name)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise WeightsError(f"{path} is not a readable json config ({error}); write open_clip's form.") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds no json object; write open_clip's form, {{embed_dim, vision_cfg, text_cfg}}.")
    return content


def random_seed(spec: EncoderSpec) -> int | None:
    """The seed of `pretrained: random` or `random:SEED` (an untrained control); None for real weights."""
    word, _, seed = (spec.pretrained or "").partition(":")
    if word != "random" or spec.file:
        return None
    if seed and not seed.isdecimal():
        raise EncoderError(f"pretrained {spec.pretrained!r} has no whole number as its seed; write e.g. random:0.")
    return int(seed or 0)


def weights_file(spec: EncoderSpec) -> Path:
    """The weights of `spec` on this disk: its local file, or the hub's from the cache (fetched if it may be).

    Raises WeightsError if there is none, or EncoderError if the spec names no weights at all.
    """
    if spec.file:
        return resolve(spec.file)
    return _clip_hub_file(spec) if spec.library == "open_clip" else _timm_hub_file(spec)


def _clip_hub_file(spec: EncoderSpec) -> Path:
    if spec.model and spec.model.startswith("hf-hub:"):
        return hub_file(spec.model.removeprefix("hf-hub:"), CLIP_FILES, spec.revision)
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    known = list_pretrained_tags_by_model(spec.model or "")
    entry = get_pretrained_cfg(spec.model or "", spec.pretrained or "")
    if not entry.get("hf_hub"):
        raise EncoderError(
            f"open_clip has no weights {spec.pretrained!r} for {spec.model!r}; use one of {_names(known)}, "
            "a local `file:`, or `pretrained: random` for an untrained control."
        )
    repository, _, name = entry["hf_hub"].rpartition("/")
    return hub_file(repository, (name,) if name else CLIP_FILES, spec.revision)


def _timm_hub_file(spec: EncoderSpec) -> Path:
    from timm.models import get_pretrained_cfg

    entry = get_pretrained_cfg(spec.model, allow_unregistered=True) if spec.model else None
    if entry is None or not entry.hf_hub_id:
        raise EncoderError(
            f"timm has no hub weights for {spec.model!r}; use a tagged one (vit_small_patch16_224.dino), "
            "a local `file:`, or `pretrained: random` for an untrained control."
        )
    names = (entry.hf_hub_filename,) if entry.hf_hub_filename else TIMM_FILES
    return hub_file(entry.hf_hub_id, names, spec.revision)


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
        f"the weights of {repository} could not be fetched ({_first_line(reason)}); "
        "check the name and the connection, or pass `file:` with a local copy."
    ) from reason


# -- which bytes --------------------------------------------------------------------------------------------


def digest_of(spec: EncoderSpec) -> str:
    """sha256 of the weights file of `spec`, checked against `spec.sha256` if that is given.

    A hub file's digest is that of the cached file, to be recorded at first use. Untrained weights have no
    file; theirs is the sha256 of what they are made from. Raises WeightsError naming both digests where
    they differ.
    """
    seed = random_seed(spec)
    if seed is None:
        return check_digest(weights_file(spec), spec.sha256, spec.sha256_from)
    config = sha256_of(resolve(spec.config)) if spec.config else None
    made_from = [spec.library, spec.model, config, dict(spec.args or {}), seed, _torch_version()]
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def identity_of(spec: EncoderSpec) -> dict[str, Any]:
    """Everything that decides what the encoder computes, as plain json: for provenance and as a cache's key.

    Keys: library, model, pretrained, revision, args, pos_interp, sha256 (weights), config (sha256 of the json, or
    None).
    """
    return {
        "library": spec.library,
        "model": spec.model,
        "pretrained": spec.pretrained,
        "revision": spec.revision,
        "args": dict(spec.args or {}),
        "pos_interp": spec.pos_interp,
        "sha256": digest_of(spec),
        "config": sha256_of(resolve(spec.config)) if spec.config else None,
    }


def check_digest(path: Path, expected: str | None, said_by: str = "") -> str:
    """The file's sha256; WeightsError naming both if it is not `expected`, which the file `said_by` says."""
    found = sha256_of(path)
    if expected and found != expected.lower():
        raise WeightsError(
            f"{path} has sha256 {found}, but {said_by or 'the manifest'} says {expected.lower()}; "
            "fetch the right file, or correct that entry if the change is meant."
        )
    return found


def sha256_of(path: Path) -> str:
    """The file's sha256, computed once per process for each path, size and modification time."""
    try:
        state = path.stat()
        return _sha256(path, state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise WeightsError(f"{path} could not be read ({error}); check the file and its permissions.") from error


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _torch_version() -> str:
    from importlib.metadata import version

    return version("torch")


# -- which tensors ------------------------------------------------------------------------------------------


def read_tensors(path: Path) -> dict[str, Any]:
    """What a weights file holds: a flat dict of tensors (safetensors), or the checkpoint's own dict.

    Raises WeightsError if the file is truncated, empty, of another kind, or would have to run code.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise WeightsError(f"{path} has no ending that wilss reads; convert it to .safetensors.")
    try:
        content = reader(path)
    except OSError as error:
        raise WeightsError(f"{path} could not be read ({error}); check the file and its permissions.") from error
    if not isinstance(content, dict) or not content:
        raise WeightsError(f"{path} holds no dict of tensors; save the network's state dict as .safetensors.")
    return content


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise WeightsError(f"{path} is no whole safetensors file ({_first_line(error)}); fetch it again.") from error


def _read_pickle(path: Path) -> Any:
    import torch

    try:
        # Namespace: DINO and iBOT keep their training arguments beside the weights; it is a plain container
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about pickle protocols; a failure says enough
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is no plain checkpoint: it is damaged, or holds objects that could run code, which "
            "are never loaded; save its state dict as .safetensors."
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        if isinstance(error, RuntimeError) and "TorchScript" in str(error):
            raise WeightsError(f"{path} is a TorchScript archive, which is a program; save its state dict.") from error
        raise WeightsError(
            f"{path} is no whole checkpoint ({_first_line(error)}); it is truncated or damaged, fetch it."
        ) from error


_READERS: dict[str, Callable[[Path], Any]] = {
    ".safetensors": _read_safetensors,
    ".pt": _read_pickle,
    ".pth": _read_pickle,
    ".bin": _read_pickle,
}


def load_strictly(network: nn.Module, tensors: Mapping[str, Any], source: str | Path) -> None:
    """Copies `tensors` into `network`: every one, each of the right shape, all finite.

    Raises WeightsError naming the first few tensors that are missing, unexpected, misshapen or not finite.
    """
    _check_fit(network.state_dict(), tensors, source)
    _check_finite(tensors, source)
    network.load_state_dict(dict(tensors), strict=True)


def _check_fit(wanted: Mapping[str, Tensor], given: Mapping[str, Any], source: str | Path) -> None:
    import torch

    plain = {name for name, value in given.items() if isinstance(value, torch.Tensor)}
    shared = sorted(plain & set(wanted))
    misshapen = [
        f"{name} is {list(given[name].shape)}, the network has {list(wanted[name].shape)}"
        for name in shared
        if given[name].shape != wanted[name].shape
    ]
    faults = {
        "missing": sorted(set(wanted) - plain),
        "unexpected": sorted(set(given) - set(wanted)),
        "of another shape": misshapen,
    }
    told = [f"{len(names)} {fault} ({_names(names)})" for fault, names in faults.items() if names]
    if told:
        raise WeightsError(f"{source} does not fit the network: {', '.join(told)}; name the model that it belongs to.")


def _check_finite(tensors: Mapping[str, Tensor], source: str | Path) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise WeightsError(f"{source} has NaN or infinite values in {name}; fetch the file again or retrain.")


def _names(names: Iterable[str], most: int = 4) -> str:
    listed = list(names)
    return ", ".join(listed[:most]) + (", ..." if len(listed) > most else "") or "none"


def _first_line(error: Exception | None) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(".")
