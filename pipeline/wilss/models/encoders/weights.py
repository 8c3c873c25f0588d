"""Where an encoder's weights lie, whether they are the right ones, and how they get into a network.

Nothing here waits for a network unless a hub file is missing from the cache and `HF_HUB_OFFLINE` is not set.
torch is imported inside the functions that need it: digests do without.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Hashable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wilss.data.manifest import EncoderSpec
from wilss.digests import digest_of_file, digest_of_json, version_of
from wilss.disk import UrlPath, data_path, on_disk, state_now
from wilss.errors import EncoderError, WeightsError
from wilss.models.encoders.hub import cached_file, hub_file
from wilss.models.encoders.look import looks_like
from wilss.models.tensor_files import listed, misfits, told

if TYPE_CHECKING:
    from torch import Tensor, nn

BUILTIN = Path(__file__).parent / "builtin"
CLIP_CONFIG = "open_clip_config.json"
CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
#: Mean and deviation of the channels, in [0, 1], that OpenAI's CLIP and most of open_clip's were trained with.
OPENAI_MEAN, OPENAI_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HUB = "hf-hub:"  # before the name of a repository, as open_clip writes it
TIMM_FILES = ("model.safetensors", "pytorch_model.bin")


# -- which file ---------------------------------------------------------------------------------------------


def resolve(name: str | Path, keys: str = "`file:` and `config:`") -> Path:
    """The file that a manifest names: "builtin:NAME" is one that ships with the package, all else a path or URL.

    keys: of the encoder, one of which names it.

    Raises WeightsError if it is missing or no file, or if a built-in name tries to leave its folder.
    """
    text = str(name)
    if not text.startswith("builtin:"):
        return _existing(data_path(text).expanduser(), f"; check {keys} of the encoder in the manifest")
    plain = text.removeprefix("builtin:")
    if plain != Path(plain).name or plain in ("", ".", ".."):
        raise WeightsError(f"{text} is not a built-in file; name one of {listed(_builtins())}.")
    return _existing(BUILTIN / plain, f"; the built-in files are {listed(_builtins())}")


def _builtins() -> list[str]:
    return sorted(p.name for p in BUILTIN.glob("*") if p.suffix in (".json", ".safetensors"))


def _existing(path: Path, hint: str) -> Path:
    with contextlib.suppress(OSError):
        if path.is_file():
            return path
    raise WeightsError(f"{path} {'is not a file' if path.is_dir() else 'does not exist or may not be read'}{hint}.")


def read_config(name: str | Path) -> dict[str, Any]:
    """An encoder's json config. Raises WeightsError if the file is missing or no json object."""
    path = resolve(name)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
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
    """The weights of `spec`: its file, or the hub's from the cache (fetched if it may be).

    Raises WeightsError if there is none, or EncoderError if the spec names no weights at all.
    """
    if spec.file:
        return resolve(spec.file)
    return hub_file(*hub_place(spec), spec.revision)


def hub_place(spec: EncoderSpec) -> tuple[str, tuple[str, ...]]:
    """The repository of the hub with the weights of `spec`, and names of files, the first of which is taken.

    Raises EncoderError where the library knows of none.
    """
    return _clip_hub_place(spec) if spec.library == "open_clip" else _timm_hub_place(spec)


def _clip_hub_place(spec: EncoderSpec) -> tuple[str, tuple[str, ...]]:
    if spec.model and spec.model.startswith(HUB):
        return spec.model.removeprefix(HUB), CLIP_FILES
    repository, _, name = published_clip(spec).rpartition("/")
    return repository, (name,) if name else CLIP_FILES


def published_clip(spec: EncoderSpec) -> str:
    """Where on the hub the weights lie by open_clip's list. Raises EncoderError where it has none of that name."""
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    known = list_pretrained_tags_by_model(spec.model or "")
    entry = get_pretrained_cfg(spec.model or "", spec.pretrained or "")
    if not entry.get("hf_hub"):
        raise EncoderError(
            f"open_clip has no weights {spec.pretrained!r} for {spec.model!r}; use one of {listed(known)}, "
            "a local `file:`, or `pretrained: random` for an untrained control."
        )
    return str(entry["hf_hub"])


def _timm_hub_place(spec: EncoderSpec) -> tuple[str, tuple[str, ...]]:
    from wilss.models.encoders.tags import pretrained_cfg

    entry = pretrained_cfg(spec)
    if entry is None or not entry.hf_hub_id:
        raise EncoderError(
            f"timm has no hub weights for {spec.model!r}; use a tagged one (vit_small_patch16_224.dino), "
            "a local `file:`, or `pretrained: random` for an untrained control."
        )
    return entry.hf_hub_id, (entry.hf_hub_filename,) if entry.hf_hub_filename else TIMM_FILES


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
    made_from = [spec.library, spec.model, config, dict(spec.args or {}), seed, version_of("torch")]
    return digest_of_json([*made_from, *_text_tower(spec)])


def _text_tower(spec: EncoderSpec) -> list[str]:
    """sha256 of the json of a text tower of transformers that lies beside a tokenizer of one's own."""
    place = data_path(spec.tokenizer or "").expanduser()
    file = (place.parent if place.is_file() else place) / "config.json"
    return [sha256_of(file)] if spec.tokenizer and file.is_file() else []


def config_file(spec: EncoderSpec) -> Path | None:
    """The json config of a CLIP that has one of its own, here or beside its weights on a hub; else None.

    Raises WeightsError where it is named and not there.
    """
    if spec.config:
        return resolve(spec.config)
    name = (spec.model or "") if spec.library == "open_clip" else ""
    if not name.startswith(HUB):
        return None
    return hub_file(name.removeprefix(HUB), (CLIP_CONFIG,), spec.revision, key="config")


def config_is_here(spec: EncoderSpec) -> bool:
    """Whether the json config of a CLIP can be read without a connection."""
    name = spec.model or ""
    return (
        bool(spec.config)
        or not name.startswith(HUB)
        or bool(cached_file(name.removeprefix(HUB), CLIP_CONFIG, spec.revision))
    )


def check_digest(path: Path, expected: str | None, said_by: str = "") -> str:
    """The file's sha256; WeightsError naming both if it is not `expected`, which the file `said_by` says."""
    actual = sha256_of(path)
    if expected and actual != expected.lower():
        raise WeightsError(
            f"{path} has sha256 {actual}, but {said_by or 'the manifest'} says {expected.lower()}; "
            "fetch the right file, or correct that entry if the change is meant."
        )
    return actual


def sha256_of(path: Path) -> str:
    """The file's sha256, computed once per process for each path and what tells that the file is another one."""
    try:
        return _sha256(path, _version(path))
    except OSError as error:
        raise WeightsError(f"{path} could not be read ({error}); check the file and its permissions.") from error


@lru_cache(maxsize=64)
def _sha256(path: Path, version: Hashable) -> str:
    with on_disk(path) as file:
        return digest_of_file(file)


def _version(path: Path) -> Hashable:
    """Size and modification time; in a bucket what the server says of the file. Raises OSError."""
    if isinstance(path, UrlPath):
        return state_now(path)
    state = path.stat()
    return state.st_size, state.st_mtime_ns


# -- into the network ---------------------------------------------------------------------------------------


def load_strictly(network: nn.Module, tensors: Mapping[str, Any], source: str | Path) -> None:
    """Copies `tensors` into `network`: every one, each of the right shape, all finite.

    Raises WeightsError naming the first few tensors that are missing, unexpected, misshapen or not finite, and the
    network that the tensors look like.
    """
    if faults := misfits(network.state_dict(), tensors):
        likely = looks_like(tensors)
        name = f"it looks like {likely}" if likely else "name the model that it belongs to"
        raise WeightsError(f"{source} does not fit the network: {told(faults)}; {name}.")
    _check_finite(tensors, source)
    network.load_state_dict(dict(tensors), strict=True)


def _check_finite(tensors: Mapping[str, Tensor], source: str | Path) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise WeightsError(f"{source} has NaN or infinite values in {name}; fetch the file again or retrain.")
