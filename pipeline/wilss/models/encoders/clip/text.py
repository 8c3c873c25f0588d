"""Text features of classes, cached on disk: at 477 GFLOP a class they are worth keeping.

A class's features come from its own prompts in batches of their own, so they are the same whichever other
classes were asked for and whichever were in the cache already.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wilss.digests import digest_of_json, version_of
from wilss.disk import cache_folder, sweep_partials_of, write_atomically
from wilss.equations.fmwiss import ensemble
from wilss.errors import EncoderError
from wilss.models.encoders.clip.encoder import DenseClip
from wilss.models.encoders.clip.preprocessing import say_once

FORM = 2  # raise it when the same key would mean other features
_EQUAL = 1e-6  # of cosines: what rounding leaves between equal features; other names are 1e-3 apart and more
_OF_IMAGES = ("family", "form", "positions", "mean", "std")  # of an encoder's identity, and nothing to its text


def text_features(clip: DenseClip, names: Sequence[str], templates: Sequence[str]) -> Tensor:
    """The text feature T of one class: every name in every template, as one ensemble (FMWISS Sec. 3.2).

    names: the class's prompt names (synonyms), at least one.  templates: with `{}` where the name goes.
    Returns float32 [D], unit length, on the CPU.
    """
    wrong = [template for template in templates if "{}" not in template]
    if wrong or not templates or not names:
        raise EncoderError(f"prompts need names and templates with {{}} in them, not {wrong or 'none at all'}.")
    prompts = [template.replace("{}", name) for name in names for template in templates]
    return ensemble(clip.text(prompts)).cpu()


def cached_text_features(
    clip: DenseClip, classes: Sequence[Sequence[str]], templates: Sequence[str], *, folder: Path | None = None
) -> Tensor:
    """Text features of several classes, each read from the cache or made and kept there.

    classes: the prompt names of each class.  folder: the cache, by default `cache_folder("text")`; where nothing
    can be written there is silently no cache, and a broken entry is ignored and written again.
    Returns float32 [C, D] on the CPU, unit length along D.
    """
    place = folder or cache_folder("text")
    features = torch.stack([_one(clip, tuple(names), tuple(templates), place) for names in classes])
    _tell_of_equals(classes, features)
    return features


def _tell_of_equals(classes: Sequence[Sequence[str]], features: Tensor) -> None:
    """A warning where two classes have one feature, as of a tokenizer or weights that are not this CLIP's."""
    cosines = (features @ features.T).triu(diagonal=1)
    for one, other in (cosines > 1 - _EQUAL).nonzero().tolist():
        if list(classes[one]) != list(classes[other]):
            say_once(
                f"{' / '.join(classes[one])} and {' / '.join(classes[other])} have the same text feature, so that no "
                "mask can tell them apart; are the weights and the tokenizer those of this CLIP?"
            )
            return


def _one(clip: DenseClip, names: tuple[str, ...], templates: tuple[str, ...], folder: Path | None) -> Tensor:
    entry = folder / f"{_key(clip, names, templates)}.f32" if folder else None
    cached = _read(entry) if entry else None
    if cached is not None:
        return cached
    features = text_features(clip, names, templates)
    if entry:
        _write(entry, features)
    return features


def _key(clip: DenseClip, names: tuple[str, ...], templates: tuple[str, ...]) -> str:
    """All that decides the features, and the libraries and device whose rounding they carry."""
    network = {key: value for key, value in clip.identity.items() if key not in _OF_IMAGES} | {"pos_interp": None}
    libraries = ["open_clip_torch", *(["transformers"] if "tokenizer" in clip.identity else [])]
    versions = [torch.__version__, *map(version_of, libraries)]
    return digest_of_json([FORM, network, names, templates, clip.precision, clip.device.type, versions])


def _read(entry: Path) -> Tensor | None:
    """The features of an entry, or None if there is none or its digest does not fit."""
    try:
        content = entry.read_bytes()
    except OSError:
        return None
    digest, payload = content[:32], content[32:]
    if not payload or len(payload) % 4 or hashlib.sha256(payload).digest() != digest:
        return None
    return torch.from_numpy(np.frombuffer(payload, dtype="<f4").astype(np.float32))


def _write(entry: Path, features: Tensor) -> None:
    """Digest and little-endian float32, written beside the entry and renamed; no error if it cannot be."""
    payload = features.numpy().astype("<f4").tobytes()
    with contextlib.suppress(OSError):
        sweep_partials_of(entry)
        write_atomically(entry, hashlib.sha256(payload).digest() + payload)
