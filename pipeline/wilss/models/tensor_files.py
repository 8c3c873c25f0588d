"""Files of weights: read without running code, and compared with the network that they are for.

safetensors first; `.pt`, `.pth` and `.bin` only through `torch.load(weights_only=True)`, never a fallback; `.npz` see
`npz_files`.
torch is imported inside the functions that need it.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wilss.disk import on_disk
from wilss.errors import WeightsError, first_line
from wilss.models.npz_files import read_npz

if TYPE_CHECKING:
    from torch import Tensor


#: How text begins that stands where weights should be.
_POINTER, _PAGES = b"version https://git-lfs", (b"<!doctype", b"<html", b"<?xml", b"<head", b"<error")


def read_tensors(path: Path) -> dict[str, Any]:
    """What a weights file holds: a flat dict of tensors (safetensors), or the checkpoint's own dict.

    Raises WeightsError if the file is truncated, empty, of another kind, or would have to run code.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise WeightsError(f"{path} has no ending that wilss reads; convert it to .safetensors.")
    if not path.is_file():
        raise WeightsError(f"{path} {'is not a file' if path.exists() else 'is not there'}; name a file of weights.")
    try:
        with on_disk(path) as file:
            _require_no_text(path, file)
            content = reader(path, file)
    except OSError as error:
        raise WeightsError(f"{path} could not be read ({error}); check the file and its permissions.") from error
    except MemoryError as error:
        raise WeightsError(f"{path} asks for more memory than there is; fetch it again.") from error
    if not isinstance(content, dict) or not content:
        raise WeightsError(f"{path} holds no dict of tensors; save the network's state dict as .safetensors.")
    return content


def _require_no_text(path: Path, file: Path) -> None:
    """WeightsError for what a failed download leaves in the place of a file: a web page, or Git LFS's pointer."""
    start = _start(file).lstrip().lower()
    if start.startswith(_POINTER):
        raise WeightsError(f"{path} is a pointer of Git LFS, not the weights; run `git lfs pull` there.")
    if start.startswith(_PAGES):
        raise WeightsError(f"{path} is a web page or XML, not weights; fetch the file behind the page's download link.")


def _start(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(256)


def _read_safetensors(path: Path, file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except SafetensorError as error:
        raise WeightsError(f"{path} is no whole safetensors file ({first_line(error)}); fetch it again.") from error


def _read_pickle(path: Path, file: Path) -> Any:
    import torch

    _require_stored(path, file)
    try:
        # Namespace: DINO and iBOT keep their training arguments beside the weights; it is a plain container
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about pickle protocols; a failure says enough
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is no plain checkpoint: it is damaged, or holds objects that could run code, which "
            "are never loaded; save its state dict as .safetensors."
        ) from error
    except (OSError, MemoryError):
        raise
    except Exception as error:  # an unpickler raises nearly anything on damaged bytes
        if isinstance(error, RuntimeError) and "TorchScript" in str(error):
            raise WeightsError(f"{path} is a TorchScript archive, which is a program; save its state dict.") from error
        raise WeightsError(
            f"{path} is no whole checkpoint ({_first_sentence(error)}); it is truncated or damaged, fetch it again."
        ) from error


def _first_sentence(error: Exception) -> str:
    """Of what torch says, which goes on with advice to its developers."""
    return first_line(error).partition(". ")[0].removesuffix(":")


def _require_stored(path: Path, file: Path) -> None:
    """WeightsError for a zip with compressed parts: torch.save writes none, and a few bytes could become gigabytes."""
    if not zipfile.is_zipfile(file):  # the form before torch 1.6
        if _start(file).startswith(b"PK\x03\x04"):
            raise WeightsError(
                f"{path} is no whole checkpoint (its end is missing); it is truncated or damaged, fetch it again."
            )
        return
    with contextlib.suppress(zipfile.BadZipFile, ValueError, struct.error), zipfile.ZipFile(file) as archive:
        if any(part.compress_type != zipfile.ZIP_STORED or part.file_size != part.compress_size
               for part in archive.infolist()):  # fmt: skip
            raise WeightsError(f"{path} is compressed, which torch.save never does; save its state dict again.")


#: Of what a user calls the file, and where it lies on disk.
_READERS: dict[str, Callable[[Path, Path], Any]] = {
    ".safetensors": _read_safetensors,
    ".pt": _read_pickle,
    ".pth": _read_pickle,
    ".bin": _read_pickle,
    ".npz": read_npz,
}


def loading_args(args: Mapping[str, Any]) -> list[str]:
    """Those of the arguments for timm.create_model that would make it read a file, or fetch one.

    Weights come through `read_tensors` alone, and a checkpoint or manifest of somebody else may say anything.
    """
    return sorted(name for name in args if name.startswith("pretrained") or name in ("checkpoint_path", "cache_dir"))


def digest_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """sha256 of names, types, shapes and bytes, in the order of the names."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def without_prefixes(name: str, prefixes: Sequence[str]) -> str:
    """A tensor's name without those that wrappers and training code have put before it, as often as they did."""
    while prefix := next((one for one in prefixes if name.startswith(one)), None):
        name = name.removeprefix(prefix)
    return name


def misfits(wanted: Mapping[str, Tensor], given: Mapping[str, Any]) -> dict[str, list[str]]:
    """By kind of fault, the tensors in which `given` differs from what a network wants; only kinds that occur."""
    import torch

    plain = {name for name, value in given.items() if isinstance(value, torch.Tensor)}
    faults = {
        "missing": sorted(set(wanted) - plain),
        "unexpected": sorted(set(given) - set(wanted)),
        "of another shape": [
            f"{name} is {list(given[name].shape)}, the network has {list(wanted[name].shape)}"
            for name in sorted(plain & set(wanted))
            if given[name].shape != wanted[name].shape
        ],
    }
    return {fault: names for fault, names in faults.items() if names}


#: How many tensors are named of each kind of fault.
_TOLD = {"missing": 2, "unexpected": 2, "of another shape": 1}


def told(faults: Mapping[str, list[str]]) -> str:
    """As part of a sentence: 2 missing (a, b), 1 unexpected (c)."""
    return ", ".join(f"{len(names)} {fault} ({listed(names, _TOLD.get(fault, 2))})" for fault, names in faults.items())


def listed(names: Iterable[str], most: int = 4) -> str:
    """The first few of `names`, or "none"."""
    shown = list(names)
    return ", ".join(shown[:most]) + (", ..." if len(shown) > most else "") or "none"
