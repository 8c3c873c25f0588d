"""How a CLIP's prompts become the rows of its text tower: open_clip's own words, or a tokenizer of transformers.

The second kind (SigLIP, MetaCLIP 2, CLIPA, and text towers of transformers) is a folder of files: `tokenizer:` of the
manifest, or a repository of the Hugging Face hub, from its cache where it is there. Nothing in it is run. How text is
cleaned and to which length it is filled up is the model config's.

Nothing here imports torch before a tokenizer is opened.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wilss.data.manifest import EncoderSpec
from wilss.digests import digest_of_json, version_of
from wilss.errors import EncoderError, WeightsError, first_line
from wilss.models.encoders.clip_configs import clip_config, clip_name
from wilss.models.encoders.hub import hub_folder
from wilss.models.encoders.weights import sha256_of
from wilss.models.tensor_files import listed

if TYPE_CHECKING:
    from torch import Tensor

#: Files of a folder that decide what a tokenizer of transformers does; the last is of a text tower.
_FILES = (
    "tokenizer_config.json",
    "tokenizer.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)
_TOWER = "config.json"
_ARGUMENTS = ("clean", "strip_sep_token", "language")
_PROBE = "a photo of a cat."

Tokenizer = Callable[[list[str]], "Tensor"]


def text_folder(spec: EncoderSpec, text: Mapping[str, Any]) -> Path | None:
    """The folder of the tokenizer, and of the text tower's config where that is of transformers; None for neither.

    The manifest's, else the hub's, from the cache or fetched. Raises EncoderError for a folder that is not asked for,
    WeightsError for one that is not there or lacks a file.
    """
    repository = text.get("hf_tokenizer_name") or text.get("hf_model_name")
    if spec.tokenizer is None:
        names = (*_FILES, _TOWER) if text.get("hf_model_name") else _FILES
        return hub_folder(repository, names) if repository else None
    if not repository:
        raise EncoderError(f"{clip_name(spec)} has open_clip's own tokenizer; leave `tokenizer:` out.")
    return _local(Path(spec.tokenizer).expanduser(), text)


def _local(folder: Path, text: Mapping[str, Any]) -> Path:
    folder = folder.parent if folder.is_file() else folder
    if not folder.is_dir():
        raise WeightsError(f"{folder} does not exist; check `tokenizer:` of the encoder in the manifest.")
    needed = [_FILES[0], _TOWER] if text.get("hf_model_name") else [_FILES[0]]
    if missing := [name for name in needed if not (folder / name).is_file()]:
        raise WeightsError(
            f"{folder} has no {listed(missing)}; copy the whole tokenizer of {text.get('hf_tokenizer_name')} there, as "
            "transformers saves it."
        )
    return folder


def text_identity(spec: EncoderSpec) -> dict[str, str]:
    """What decides how a CLIP's prompts become tokens, beside its config: its tokenizer's digest, where it has one.

    Raises what `text_folder` raises.
    """
    text = clip_config(spec)["model_cfg"]["text_cfg"]
    folder = text_folder(spec, text)
    return {"tokenizer": _digest(folder, text)} if folder else {}


def _digest(folder: Path, text: Mapping[str, Any]) -> str:
    """sha256 of all files of a folder that decide what it makes of a text. text: open_clip's text_cfg."""
    names = (*_FILES, _TOWER) if text.get("hf_model_name") else _FILES
    return digest_of_json({name: sha256_of(folder / name) for name in names if (folder / name).is_file()})


def open_tokenizer(text: Mapping[str, Any], folder: Path | None, name: str) -> Tokenizer:
    """Prompts to int64 [len(prompts), context length]. text: open_clip's text_cfg; folder: as `text_folder` says.

    Raises EncoderError for a tokenizer that cannot be read or is not the one that the text tower was trained with.
    """
    length, rows = text.get("context_length", 77), text.get("vocab_size", 49408)
    arguments = dict(text.get("tokenizer_kwargs") or {})
    if folder is None:
        tokenizer = _simple_tokenizer(length, json.dumps(arguments))
        rows_of = "open_clip's tokenizer"
    else:
        tokenizer = _transformers_tokenizer(folder, length, text.get("tokenizer_mode"), arguments)
        rows = _rows(folder) if text.get("hf_model_name") else rows
        rows_of = f"the tokenizer of {folder}"
        _check_fits(tokenizer, text, folder, name)

    def tokens(prompts: list[str]) -> "Tensor":
        ids: Tensor = tokenizer(prompts)
        if int(ids.max()) >= rows:
            raise EncoderError(f"{name} has {rows} tokens and {rows_of} more; fix vocab_size, or name the right one.")
        return ids

    return tokens


def _rows(folder: Path) -> int:
    """How many tokens a text tower of transformers knows."""
    from transformers import AutoConfig

    require_no_code(folder)
    try:
        return int(AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False).vocab_size)
    except Exception as error:  # transformers raises what it likes
        raise EncoderError(
            f"transformers cannot read {folder / _TOWER} ({first_line(error)}); copy it again."
        ) from error


@lru_cache(maxsize=8)
def _simple_tokenizer(length: int, arguments: str) -> Any:
    """Kept, since each takes a tenth of a second to read its words. arguments: as JSON."""
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer(context_length=length, **json.loads(arguments))


def _transformers_tokenizer(folder: Path, length: int, mode: str | None, arguments: Mapping[str, Any]) -> Any:
    from open_clip.tokenizer import HFTokenizer

    if unknown := sorted(set(arguments) - set(_ARGUMENTS)):
        raise EncoderError(f"tokenizer_kwargs {listed(unknown)} are not open_clip's; it has {listed(_ARGUMENTS)}.")
    require_no_code(folder)
    try:
        return HFTokenizer(
            str(folder),
            context_length=length,
            tokenizer_mode=mode,
            local_files_only=True,
            trust_remote_code=False,
            **arguments,
        )
    except Exception as error:  # transformers and tokenizers raise what they like, also their own
        raise EncoderError(
            f"transformers cannot read the tokenizer in {folder} ({first_line(error)}); copy the whole folder again."
        ) from error


def require_no_code(folder: Path) -> None:
    """EncoderError for a folder whose json names Python code to run; transformers would ask at the terminal."""
    for name in (_FILES[0], _TOWER):
        try:
            content = json.loads((folder / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, RecursionError) as error:
            raise WeightsError(
                f"{folder / name} is not a readable json ({first_line(error)}); fetch it again."
            ) from error
        if not isinstance(content, dict) or "auto_map" in content:
            raise EncoderError(f"{folder / name} names Python code to be run (auto_map), which wilss never does.")


def _check_fits(tokenizer: Any, text: Mapping[str, Any], folder: Path, name: str) -> None:
    """EncoderError for a tokenizer that a text tower was not trained with, as far as a prompt shows it."""
    inner = tokenizer.tokenizer
    reasons = ["has no token for filling up"]
    if inner.pad_token_id is not None:
        reasons = _misfits(inner, _ids(tokenizer), text)
    if reasons:
        wanted = text.get("hf_tokenizer_name") or text.get("hf_model_name")
        raise EncoderError(f"the tokenizer in {folder} {reasons[0]}; {name} was trained with that of {wanted}.")


def _ids(tokenizer: Any) -> list[int]:
    """The ids of the probe."""
    try:
        ids: list[int] = tokenizer([_PROBE])[0].tolist()
    except AttributeError as error:  # open_clip 3.2 with transformers 5
        versions = f"open_clip {version_of('open_clip_torch')} and transformers {version_of('transformers')}"
        raise EncoderError(f"{versions} do not fit each other; run `pip install -U 'wilss[text]'`.") from error
    return ids


def _misfits(inner: Any, ids: Sequence[int], text: Mapping[str, Any]) -> list[str]:
    """What is wrong with the ids of the probe, as the ends of sentences."""
    pad, unknown = inner.pad_token_id, inner.unk_token_id
    words = [each for each in ids if each not in (pad, inner.eos_token_id, inner.bos_token_id, inner.sep_token_id)]
    found = []
    if text.get("tokenizer_mode") is None and ids[0] == pad:
        found.append("fills texts up on the left")
    if not words or all(each == unknown for each in words):
        found.append(f"knows no word of {_PROBE!r}")
    if text.get("pool_type") == "eos" and text.get("eos_id", 2) not in ids:
        found.append(f"ends texts without the token {text.get('eos_id', 2)}, at which they are read")
    expected = _siglip_pad(text)
    if expected is not None and (pad, inner.eos_token_id in ids) != (expected, True):
        found.append(f"fills texts up with {pad}, not with {expected} behind an end")
    if expected is not None and inner.bos_token_id is not None and ids[0] == inner.bos_token_id:
        found.append(f"begins texts with {inner.bos_token!r}")
    return found


def _siglip_pad(text: Mapping[str, Any]) -> int | None:
    """What SigLIP's texts are filled up with, on which they depend (open_clip.tokenizer, SigLipTokenizer)."""
    name = str(text.get("hf_tokenizer_name") or "")
    if "SigLIP" not in name or text.get("hf_model_name"):
        return None
    return 0 if "SigLIP2" in name else 1
