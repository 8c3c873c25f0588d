"""What of an encoder is neither in a local file nor in the hub's cache, so that its first use fetches it.

Nothing is fetched here, and torch is not imported.
"""

from collections.abc import Iterator, Sequence

from wilss.data.manifest import EncoderSpec
from wilss.models.encoders.clip.configs import clip_config
from wilss.models.encoders.clip.tokenizer_files import missing_of_text
from wilss.models.encoders.hub import KINDS, Key, cached_file, require_connection
from wilss.models.encoders.weights import CLIP_CONFIG, HUB, config_is_here, hub_place, random_seed


def to_fetch(spec: EncoderSpec, *, with_text: bool) -> tuple[str, ...]:
    """What will be fetched, as in `the weights of timm/vit_small_patch16_224.dino (model.safetensors)`.

    with_text: the text side of a CLIP as well. Raises WeightsError where it cannot be fetched, EncoderError for weights
    that nobody publishes.
    """
    told = []
    for repository, names, key in _absent(spec, with_text):
        require_connection(repository, names, key)
        told.append(f"{KINDS[key]} of {repository} ({names[0]})")
    return tuple(told)


def _absent(spec: EncoderSpec, with_text: bool) -> Iterator[tuple[str, Sequence[str], Key]]:
    """Repository, names of files and key of the manifest."""
    if spec.library == "open_clip" and not config_is_here(spec):
        yield (spec.model or "").removeprefix(HUB), (CLIP_CONFIG,), "config"
    elif spec.library == "open_clip" and with_text and spec.tokenizer is None:
        text = clip_config(spec)["model_cfg"]["text_cfg"]
        if missing := missing_of_text(text):
            yield text.get("hf_tokenizer_name") or text["hf_model_name"], missing, "tokenizer"
    if spec.file is None and random_seed(spec) is None:
        repository, names = hub_place(spec)
        if not any(cached_file(repository, name, spec.revision) for name in names):
            yield repository, names, "file"
