"""Which networks a manifest names; `wilss.models.encoders` opens them."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, ValidationInfo
from pydantic_core import PydanticCustomError

from wilss.data.layouts.spec import Part, Text
from wilss.disk import absolute
from wilss.errors import ParameterError


def _located(text: str, info: ValidationInfo) -> str:
    """Absolute, or a URL, from the manifest's folder where there is one."""
    if info.context is None or text.startswith("builtin:"):
        return text
    try:
        return str(absolute(info.context, text))
    except ParameterError as error:
        raise PydanticCustomError("sentence", "{sentence}", {"sentence": str(error)}) from None


_WeightsPath = Annotated[Text, AfterValidator(_located)]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$"), AfterValidator(str.lower)]


class EncoderSpec(Part):
    """One network.

    library, model, pretrained, revision: names on the hub, `pretrained: random` or `random:SEED` for an
        untrained control.
    config: open_clip's json. file: weights. Both are absolute, URLs in a bucket, or `builtin:NAME` for what ships
        with the package. Beside `file`, `pretrained` names the published weights that it is a copy of: their mean and
        deviation are used, and their activation is required.
    tokenizer: the folder of a tokenizer of transformers, likewise, for a CLIP whose config names one of the hub; beside
        `text` a SentencePiece file, or its folder.
    text: weights of a text tower, likewise, for a vision transformer of timm's that is used as a CLIP (TIPSv2).
    sha256: what the weights must have: the manifest's, or else the lock file's.
    args: for timm.create_model. pos_interp: how a position table is resampled, None as its family's own code does.
    """

    library: Literal["open_clip", "timm"]
    model: str | None = None
    pretrained: str | None = None
    revision: str | None = None
    config: _WeightsPath | None = None
    file: _WeightsPath | None = None
    tokenizer: _WeightsPath | None = None
    text: _WeightsPath | None = None
    sha256: _Sha256 | None = None
    args: dict[str, Any] = Field(default_factory=dict)
    pos_interp: Literal["dino", "size", "timm"] | None = None
    _sha256_from: str = PrivateAttr("")

    @property
    def sha256_from(self) -> str:
        """The file that says what sha256 the weights must have; "" where none does."""
        return self._sha256_from

    def held_to(self, sha256: str, source: str) -> "EncoderSpec":
        """The same network, whose weights must have the sha256 that the file `source` names."""
        held = self.model_copy(update={"sha256": sha256})
        held._sha256_from = source
        return held

    @property
    def title(self) -> str:
        """What it is, in words that a lock file keeps: library, model, pretrained, revision, file."""
        parts = (self.library, self.model, self.pretrained, self.revision, (self.file or "").rpartition("/")[2])
        return " ".join(part for part in parts if part)

    def is_the_network_of(self, other: "EncoderSpec") -> bool:
        """Whether both are one network, so that an image need be encoded only once for both."""
        apart = {"sha256", "tokenizer", "text"}  # a lock file may have two notes of it; the others are not of images
        return self.model_dump(exclude=apart) == other.model_dump(exclude=apart)


#: In a manifest, in the place of `vit`: clip's own image tower says where as well.
SAME = "same"


def _written_out(vit: Any) -> Any:
    if isinstance(vit, str) and vit != SAME:
        sentence = f"is {vit!r}; write `{SAME}` for the network of clip, or another: {{library: timm, model: ...}}."
        raise PydanticCustomError("sentence", "{sentence}", {"sentence": sentence})
    if isinstance(vit, Mapping) and vit.get("model") == SAME:
        sentence = f"names the model {SAME!r}; write `vit: {SAME}` for the network of clip, or another model."
        raise PydanticCustomError("sentence", "{sentence}", {"sentence": sentence})
    return {"library": "open_clip", "model": SAME} if vit == SAME else vit


class Encoders(Part):
    """clip says what (FMWISS Sec. 3.2, M_init), vit says where (M_seeds); `vit: same` is clip once more."""

    clip: EncoderSpec = EncoderSpec(library="open_clip", model="ViT-B-16-quickgelu", pretrained="openai")
    vit: Annotated[EncoderSpec, BeforeValidator(_written_out)] = EncoderSpec(
        library="timm", model="vit_small_patch16_224.dino"
    )

    @property
    def is_one(self) -> bool:
        """Whether one network has both jobs."""
        return self.vit.is_the_network_of(self.clip)
