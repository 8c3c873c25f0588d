"""TIPSv2 as a CLIP: its vision transformer is timm's, its text tower and tokenizer are local files beside it.

K.-K. Maninis et al., "TIPS: Text-Image Pretraining with Spatial Awareness", ICLR 2025; B. Cao et al., "TIPSv2:
Advancing Vision-Language Pretraining with Enhanced Patch-Text Alignment", CVPR 2026. google-deepmind/tips has the files
as `tips_v2_oss_*_text.npz` and `tokenizer.model`.

Nothing here imports torch: a plan, a check and a refusal need only this.
"""

import importlib.util
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from wilss.data.manifest import EncoderSpec
from wilss.disk import data_path
from wilss.errors import EncoderError, WeightsError, first_line
from wilss.models.encoders.weights import resolve, sha256_of

#: Ids of a text, those behind its end among them, and what these are.
LENGTH, PADDING = 64, 0
_MODELS = r"^vit_.*_tipsv2(\.|$)"
_FORMER = "tips_oss_"  # of the same shapes as TIPSv2's, so that the name alone tells them apart
_WORDS = ("tokenizer.model", "spiece.model")
_MOST_BYTES = 1 << 26
#: What to write in the manifest.
HOW = (
    "write `text:` (tips_v2_oss_*_text.npz of its size) and `tokenizer:` (tokenizer.model), as google-deepmind/tips "
    "publishes them"
)


def is_tips(model: str) -> bool:
    """Whether a model of timm's, with or without a tag, is TIPSv2."""
    return re.search(_MODELS, model) is not None


def require_tips(spec: EncoderSpec) -> None:
    """EncoderError for a vision transformer of timm's whose text side is not known or not named, by names alone.

    WeightsError for a file that is named and not there.
    """
    if not is_tips(spec.model or ""):
        raise EncoderError(
            f"{spec.model or 'a network of your own'} of timm has no text side; of timm's models wilss knows that of "
            "TIPSv2 alone (vit_*_patch14_reg1_tipsv2). Take a CLIP of open_clip for `clip`."
        )
    if missing := [key for key in ("text", "tokenizer") if getattr(spec, key) is None]:
        raise EncoderError(f"{spec.model} has its {' and '.join(missing)} in files of its own; {HOW}.")
    words_file(spec)
    for path in (text_file(spec), Path(spec.file or "")):
        if path.name.startswith(_FORMER):
            raise EncoderError(f"{path} is of TIPS, whose texts and images are not those of TIPSv2; {HOW}.")


def tips_identity(spec: EncoderSpec) -> dict[str, str]:
    """text, tokenizer: sha256 of both files. Raises what `require_tips` raises."""
    require_tips(spec)
    return {"text": sha256_of(text_file(spec)), "tokenizer": sha256_of(words_file(spec))}


def text_file(spec: EncoderSpec) -> Path:
    """The weights of the text tower. Raises WeightsError if they are not there."""
    return resolve(str(spec.text), "`text:`")


def words_file(spec: EncoderSpec) -> Path:
    """The SentencePiece file of the words. Raises WeightsError if it is not there."""
    path = data_path(str(spec.tokenizer)).expanduser()
    if not path.is_dir():
        return resolve(path, "`tokenizer:`")
    for name in _WORDS:
        if (path / name).is_file():
            return path / name
    raise WeightsError(f"{path} has no {' or '.join(_WORDS)}; name TIPS' SentencePiece file as `tokenizer:`.")


def open_words(path: Path, rows: int) -> Any:
    """SentencePiece's processor of a file. rows: how many words the text tower knows.

    Raises EncoderError without the package, WeightsError for a file that is no such thing or another model's.
    """
    if importlib.util.find_spec("sentencepiece") is None:
        raise EncoderError(f"{path} is read with sentencepiece; run `pip install 'wilss[text]'`.")
    words = _processor(path, sha256_of(path))
    if words.get_piece_size() != rows:
        raise WeightsError(
            f"{path} has {words.get_piece_size()} words and the text tower {rows}; name the tokenizer that it was "
            "trained with."
        )
    return words


@lru_cache(maxsize=2)
def _processor(path: Path, sha256: str) -> Any:
    from sentencepiece import SentencePieceProcessor

    if path.stat().st_size > _MOST_BYTES:
        raise WeightsError(f"{path} is larger than any SentencePiece file; name TIPS' tokenizer.model.")
    try:
        return SentencePieceProcessor(model_proto=path.read_bytes())
    except (RuntimeError, OSError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} is no SentencePiece file ({first_line(error)}); fetch it again.") from error
