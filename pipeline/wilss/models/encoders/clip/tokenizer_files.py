"""The folder of a tokenizer of transformers, and of a text tower's config: where it lies, and what it must hold.

It is `tokenizer:` of the manifest, or of a repository of the Hugging Face hub, from its cache where it is there.
"""

import contextlib
import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wilss.data.manifest import EncoderSpec
from wilss.digests import digest_of_json
from wilss.disk import copied, data_path
from wilss.errors import EncoderError, WeightsError, WilssError, first_line
from wilss.models.encoders.clip.configs import clip_config, clip_name
from wilss.models.encoders.hub import cached_folder, hub_folder
from wilss.models.encoders.weights import read_config, sha256_of
from wilss.models.tensor_files import listed

#: A folder needs one of them; transformers makes a tokenizer without words of one that has none, in silence.
_VOCABULARIES = (
    "tokenizer.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "vocab.txt",
    "vocab.json and merges.txt",
)
#: What transformers reads SentencePiece with: names of packages and of modules.
_READERS = {"sentencepiece": "sentencepiece", "protobuf": "google.protobuf"}
_CONFIG, _TOWER = "tokenizer_config.json", "config.json"
#: Files of a folder that decide what a tokenizer or a text tower of transformers does.
_FILES = (
    _CONFIG,
    *_VOCABULARIES[:-1],
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    _TOWER,
)
#: What transformers writes into a config.json about the copy, not the network.
_OF_THE_COPY = ("transformers_version", "_name_or_path", "architectures", "dtype", "torch_dtype")


def text_folder(spec: EncoderSpec, text: Mapping[str, Any]) -> Path | None:
    """The folder of the tokenizer, and of the text tower's config where that is of transformers; None for neither.

    The manifest's, else the hub's, from the cache or fetched. Raises EncoderError for a folder that is not asked for,
    WeightsError for one that is not there or lacks a file.
    """
    repository = text.get("hf_tokenizer_name") or text.get("hf_model_name")
    if spec.tokenizer is None:
        return hub_folder(repository, _FILES, lambda folder: _lacking(folder, text)) if repository else None
    if not repository:
        raise EncoderError(f"{clip_name(spec)} has open_clip's own tokenizer; leave `tokenizer:` out.")
    return _named(data_path(spec.tokenizer).expanduser(), text)


def _named(folder: Path, text: Mapping[str, Any]) -> Path:
    folder = folder.parent if folder.is_file() else folder
    if not folder.is_dir():
        raise WeightsError(f"{folder} does not exist; check `tokenizer:` of the encoder in the manifest.")
    if missing := _lacking(folder, text):
        raise WeightsError(
            f"{folder} has no {listed(missing)}; copy the whole tokenizer of {text.get('hf_tokenizer_name')} there, as "
            "transformers saves it."
        )
    return folder


def missing_of_text(text: Mapping[str, Any]) -> tuple[str, ...]:
    """What the hub's cache lacks of the tokenizer and text tower of a model. text: open_clip's text_cfg."""
    repository = text.get("hf_tokenizer_name") or text.get("hf_model_name")
    folder = cached_folder(repository, _FILES) if repository else None
    return tuple(_lacking(folder, text) if folder else (_CONFIG,)) if repository else ()


def _lacking(folder: Path, text: Mapping[str, Any]) -> list[str]:
    """Files that a tokenizer, or the text tower beside it, cannot be without."""
    here = {name for name in _FILES if (folder / name).is_file()}
    missing = [] if here & {_CONFIG, _TOWER} else [_CONFIG]
    if _TOWER not in here and (text.get("hf_model_name") or (not missing and not _names_its_class(folder))):
        missing.append(_TOWER)
    if not any(set(each.split(" and ")) <= here for each in _VOCABULARIES):
        missing.append("vocabulary such as tokenizer.json or spiece.model")
    return missing


def _names_its_class(folder: Path) -> bool:
    """Whether a tokenizer's own json says what it is; else config.json does, as in bert-base-uncased."""
    try:
        content = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return True  # it is refused where it is read
    return not isinstance(content, dict) or bool(content.get("tokenizer_class"))


def digests_of_files(folder: Path) -> tuple[tuple[str, str], ...]:
    """Name and sha256 of each file of a folder that may decide what its tokenizer or text tower does."""
    return tuple((name, sha256_of(folder / name)) for name in _FILES if (folder / name).is_file())


def tower_digest(spec: EncoderSpec) -> str | None:
    """sha256 of the config of a text tower of transformers, without what does not decide; None where there is none.

    Raises what `text_folder` raises.
    """
    text = clip_config(spec)["model_cfg"]["text_cfg"]
    folder = text_folder(spec, text) if text.get("hf_model_name") else None
    if folder is None:
        return None
    content = read_config(folder / _TOWER)
    return digest_of_json({key: value for key, value in content.items() if key not in _OF_THE_COPY})


@contextlib.contextmanager
def text_files(folder: Path | None) -> Iterator[Path | None]:
    """The folder as transformers opens it, while the body runs: on disk."""
    if folder is None:
        yield None
        return
    with copied(folder, [name for name in _FILES if (folder / name).is_file()]) as place:
        yield place


def tower_config(folder: Path) -> Any:
    """The config of a text tower of transformers."""
    from transformers import AutoConfig

    require_no_code(folder)
    try:
        with copied(folder, [_TOWER]) as place:
            return AutoConfig.from_pretrained(str(place), local_files_only=True, trust_remote_code=False)
    except WilssError:
        raise
    except Exception as error:  # transformers raises what it likes
        raise EncoderError(
            f"transformers cannot read {folder / _TOWER} ({first_line(error)}); copy it again."
        ) from error


def require_no_code(folder: Path) -> None:
    """EncoderError for a folder whose json names Python code to run; transformers would ask at the terminal."""
    for name in (_CONFIG, _TOWER):
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


def require_sentencepiece(folder: Path) -> None:
    """EncoderError for a folder that has its words as a SentencePiece file alone, without what reads one."""
    here = [name for name in _VOCABULARIES if (folder / name).is_file()]
    needed = [name for name, package in _READERS.items() if not _is_installed(package)]
    if here and needed and all(name.endswith(".model") for name in here) and not (folder / "vocab.json").is_file():
        raise EncoderError(
            f"{folder / here[0]} is read with {listed(needed)}; run `pip install 'wilss[text]'`, or copy a "
            "tokenizer.json beside it, as `save_pretrained` of transformers writes it elsewhere."
        )


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # google, of google.protobuf
        return False
