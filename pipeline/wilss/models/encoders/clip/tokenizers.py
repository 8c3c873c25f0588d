"""How a CLIP's prompts become the rows of its text tower: open_clip's own words, or a tokenizer of transformers.

The second kind (SigLIP, MetaCLIP 2, CLIPA, and text towers of transformers) is a folder, see `tokenizer_files`; nothing
in it is run. How text is cleaned and to which length it is filled up is the model config's.

Nothing here imports torch before a tokenizer is opened.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from wilss.data.manifest import EncoderSpec
from wilss.digests import digest_of_json, version_of
from wilss.errors import EncoderError, WilssError, first_line
from wilss.models.encoders.clip.configs import clip_config, open_clip_models
from wilss.models.encoders.clip.preprocessing import say_once
from wilss.models.encoders.clip.tips_files import tips_identity
from wilss.models.encoders.clip.tokenizer_files import (
    digests_of_files,
    require_no_code,
    require_sentencepiece,
    text_files,
    text_folder,
    tower_config,
    tower_digest,
)
from wilss.models.tensor_files import listed

if TYPE_CHECKING:
    from torch import Tensor

_ARGUMENTS = ("clean", "strip_sep_token", "language")
#: What a tokenizer makes of them is a part of its digest; the first two differ in a word.
_PROBES = (
    "a cat, a photo.",
    "a dog, a photo.",
    "itap of the Potted-Plant (or a TV_monitor), 3 x 5!",
    "a low resolution caf\u00e9 cr\u00e8me, na\u00efve \u72ac \u2603",
    "many " * 100,
    "",
)

#: Words of a tokenizer to rows of the text table, by whether the model is published: of those it is 0.95 (CLIPA) to
#: 1.003 (SigLIP); tables of own models may be wider.
_FEWEST = {True: 0.9, False: 0.1}
_MOST = 1.02

Tokenizer = Callable[[list[str]], "Tensor"]


def text_identity(spec: EncoderSpec) -> dict[str, str]:
    """What decides how a CLIP's prompts become features, beside its config and weights: nothing, or digests.

    tokenizer: of its words and of what it makes of some texts, whichever files say so. text_tower: of the config of a
    text tower of transformers. For TIPSv2 see `tips_files`. Raises what `text_folder` and `open_tokenizer` raise.
    """
    if spec.library == "timm":
        return tips_identity(spec)
    text = clip_config(spec)["model_cfg"]["text_cfg"]
    folder = text_folder(spec, text)
    if folder is None:
        return {}
    tower = tower_digest(spec)
    return {"tokenizer": _digest(_source(folder, text))} | ({"text_tower": tower} if tower else {})


def open_tokenizer(text: Mapping[str, Any], folder: Path | None, name: str) -> Tokenizer:
    """Prompts to int64 [len(prompts), context length]. text: open_clip's text_cfg; folder: as `text_folder` says.

    Raises EncoderError for a tokenizer that cannot be read or is not the one that the text tower was trained with.
    """
    if folder is None:
        arguments = json.dumps(text.get("tokenizer_kwargs") or {})
        tokenizer = _simple_tokenizer(text.get("context_length", 77), arguments)
        rows_of = "open_clip's tokenizer"
    else:
        tokenizer = _transformers_tokenizer(_source(folder, text))
        rows_of = f"the tokenizer of {folder}"
        _check_fits(tokenizer, text, folder, name)
    rows = _rows(text, folder)

    def tokens(prompts: list[str]) -> "Tensor":
        ids: Tensor = tokenizer(prompts)
        if int(ids.max()) >= rows:
            raise EncoderError(f"{name} has {rows} tokens and {rows_of} more; fix vocab_size, or name the right one.")
        return ids

    return tokens


@lru_cache(maxsize=8)
def _simple_tokenizer(length: int, arguments: str) -> Any:
    """Kept, since each takes a tenth of a second to read its words. arguments: as JSON."""
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer(context_length=length, **json.loads(arguments))


class _Source(NamedTuple):
    """All that decides what a tokenizer of transformers does. files: names and sha256. arguments: as JSON."""

    folder: Path
    files: tuple[tuple[str, str], ...]
    length: int
    mode: str | None
    arguments: str


def _source(folder: Path, text: Mapping[str, Any]) -> _Source:
    return _Source(
        folder=folder,
        files=digests_of_files(folder),
        length=text.get("context_length", 77),
        mode=text.get("tokenizer_mode"),
        arguments=json.dumps(text.get("tokenizer_kwargs") or {}),
    )


@lru_cache(maxsize=4)
def _transformers_tokenizer(source: _Source) -> Any:
    """Kept, since it is asked for its digest and for texts, and hundreds of thousands of words take seconds to read."""
    from open_clip.tokenizer import HFTokenizer

    arguments = json.loads(source.arguments)
    if unknown := sorted(set(arguments) - set(_ARGUMENTS)):
        raise EncoderError(f"tokenizer_kwargs {listed(unknown)} are not open_clip's; it has {listed(_ARGUMENTS)}.")
    require_no_code(source.folder)
    require_sentencepiece(source.folder)
    try:
        with text_files(source.folder) as place:
            return HFTokenizer(
                str(place),
                context_length=source.length,
                tokenizer_mode=source.mode,
                local_files_only=True,
                trust_remote_code=False,
                **arguments,
            )
    except WilssError:
        raise
    except Exception as error:  # transformers and tokenizers raise what they like, also their own
        raise EncoderError(
            f"transformers cannot read the tokenizer in {source.folder} ({first_line(error)}); copy the whole folder "
            "again."
        ) from error


@lru_cache(maxsize=4)
def _digest(source: _Source) -> str:
    """sha256 of a tokenizer's words and of what it makes of some texts: the same for every copy that does the same."""
    tokenizer = _transformers_tokenizer(source)
    _require_special(tokenizer, json.loads(source.arguments), source.folder)
    inner = tokenizer.tokenizer
    words: Any = sorted(inner.get_vocab().items())
    if hasattr(inner, "backend_tokenizer"):  # it knows in which order words are put together, or their scores
        model = json.loads(inner.backend_tokenizer.to_str())["model"]
        words = [words, model.get("vocab"), model.get("merges")]
    return digest_of_json([words, _ids(tokenizer, _PROBES)])


def _check_fits(tokenizer: Any, text: Mapping[str, Any], folder: Path, name: str) -> None:
    """EncoderError for a tokenizer that a text tower was not trained with, as far as prompts show it."""
    _require_special(tokenizer, text.get("tokenizer_kwargs") or {}, folder)
    inner = tokenizer.tokenizer
    cat, dog = _ids(tokenizer, _PROBES[:2])
    wanted = text.get("hf_tokenizer_name") or text.get("hf_model_name")
    reasons = _misfits(inner, cat, dog, text)
    if text.get("hf_model_name") and (expected := tower_config(folder).pad_token_id) != inner.pad_token_id:
        reasons.append(f"fills texts up with {inner.pad_token_id}, and the text tower looks past {expected}")
    is_published, words, rows = name in open_clip_models(), len(inner), _rows(text, folder)
    odd = f"has {words:,} words, and the text table {rows:,} rows"
    is_odd = not _FEWEST[is_published] * rows <= words <= _MOST * rows
    if is_odd and is_published:
        reasons.append(odd)
    if reasons:
        raise EncoderError(
            f"the tokenizer in {folder} {reasons[0]}; {name} was trained with that of {wanted}, copy its whole folder."
        )
    if is_odd:
        say_once(f"the tokenizer in {folder} {odd}; is it the one that {name} was trained with?")


def _rows(text: Mapping[str, Any], folder: Path | None) -> int:
    """Of the text tower's table of words."""
    rows: int = (
        tower_config(folder).vocab_size if folder and text.get("hf_model_name") else text.get("vocab_size", 49408)
    )
    return rows


def _ids(tokenizer: Any, prompts: Sequence[str]) -> list[list[int]]:
    try:
        ids: list[list[int]] = tokenizer(list(prompts)).tolist()
    except AttributeError as error:  # open_clip 3.2 with transformers 5
        versions = f"open_clip {version_of('open_clip_torch')} and transformers {version_of('transformers')}"
        raise EncoderError(f"{versions} do not fit each other; run `pip install -U 'wilss[text]'`.") from error
    return ids


def _require_special(tokenizer: Any, arguments: Mapping[str, Any], folder: Path) -> None:
    """EncoderError for a tokenizer without a special token that open_clip asks it for."""
    needed = ["pad"]
    needed += ["sep"] if arguments.get("strip_sep_token") else []
    needed += ["bos", "eos", "cls"] if tokenizer.tokenizer_mode == "clips" else []
    if missing := [f"{each}_token" for each in needed if getattr(tokenizer.tokenizer, f"{each}_token_id") is None]:
        raise EncoderError(
            f"the tokenizer in {folder} has no {listed(missing)}, which this model's texts need; copy the one that it "
            "was trained with."
        )


def _misfits(inner: Any, cat: Sequence[int], dog: Sequence[int], text: Mapping[str, Any]) -> list[str]:
    """What is wrong with the ids of two texts that differ in a word, as the ends of sentences."""
    pad = inner.pad_token_id
    found = []
    if text.get("tokenizer_mode") is None and cat[0] == pad:
        found.append("fills texts up on the left")
    if set(cat) <= set(inner.all_special_ids):
        found.append(f"knows no word of {_PROBES[0]!r}")
    elif cat == dog:
        found.append(f"makes the same of {_PROBES[0]!r} and {_PROBES[1]!r}")
    if text.get("pool_type") == "eos" and text.get("eos_id", 2) not in cat:
        found.append(f"ends texts without the token {text.get('eos_id', 2)}, at which they are read")
    expected = _siglip_pad(text)
    if expected is not None and pad != expected:
        found.append(f"fills texts up with {pad}, not with {expected}")
    if expected is not None and inner.eos_token_id not in cat:
        found.append("writes no end token after a text")
    if expected is not None and inner.bos_token_id is not None and cat[0] == inner.bos_token_id:
        found.append(f"begins texts with {inner.bos_token!r}")
    return found


def _siglip_pad(text: Mapping[str, Any]) -> int | None:
    """What SigLIP's texts are filled up with, on which they depend (open_clip.tokenizer, SigLipTokenizer)."""
    name = str(text.get("hf_tokenizer_name") or "")
    if "SigLIP" not in name or text.get("hf_model_name"):
        return None
    return 0 if "SigLIP2" in name else 1
