"""Parameters of the second pass over a store: how its bank is made, and how it votes. torch is not needed here."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from wilss.params import LongerSide, PositiveFloat, PositiveInt, Rule, Share, ShareBelowOne, ShorterSide

from ..stages.params import StageParams, noted

_Many = Annotated[int, Rule("between 1 and 100000", lambda value: 1 <= value <= 100_000)]
_Rim = Annotated[float, Rule("at least 0 and at most 0.5", lambda value: 0 <= value <= 0.5)]

#: What decides what is in a bank; the others decide how it votes.
_OF_THE_BANK = (
    *("features", "entries", "erode", "min_area", "drop", "per_class", "per_mask"),
    *("form", "clip_size", "vit_size", "longest", "precision"),
)
_OF_THE_VOTE = ("vote", "neighbours", "temperature", "first", "spread", "sharpness", "classes")


@dataclass(frozen=True, kw_only=True)
class BankParams(StageParams):
    """How a second pass over a store makes its bank, and how the bank votes.

    store: the first pass, a complete mask store of the same step, images and classes.
    features: what a patch is known by: `tokens` or `keys` of the manifest's ViT, or `clip`, the dense features of its
        CLIP (`form` as for fmwiss).
    entries: a mask gives the bank its `patches`, those that lie wholly inside, at most `per_mask` of them, drawn by
        name; or one pooled feature (`masks`). A mask without such a patch gives its pooled feature.
    erode: rim that is taken off masks first, as a share of the image's longer side. min_area: parts of less than this
        share of the image are left out then. drop: the share of a class that lies farthest from its centroid is left
        out. per_class: features of a class that are kept, drawn by name.
    vote: every class is asked for its own nearest (`each`), or all together (`nearest`, ModuSeg's). neighbours: how
        many. temperature: of the cosines; smaller is more decided.
    first: how much an image's own first masks count beside the vote; 0 for the vote alone, as in ModuSeg.
    spread: patches take the mean over those that the ViT's last block says belong together: `qk` its attention, `kk`
        the cosine of its keys times `sharpness`, above what is usual in the image; `none`.
    clip_size, vit_size, longest, precision: as for fmwiss.
    """

    places: ClassVar[tuple[str, ...]] = (*StageParams.places, "store")

    store: str = ""
    features: Literal["tokens", "keys", "clip"] = "tokens"
    entries: Literal["patches", "masks"] = "patches"
    erode: _Rim = 0.01
    min_area: ShareBelowOne = 0.002
    drop: ShareBelowOne = 0.25
    per_class: _Many = 2000
    per_mask: _Many = 20
    vote: Literal["each", "nearest"] = "each"
    neighbours: PositiveInt = 25
    temperature: PositiveFloat = 0.2
    first: Share = 0.6
    spread: Literal["none", "qk", "kk"] = "kk"
    sharpness: PositiveFloat = 20.0
    form: Literal["auto", "maskclip", "value", "pool_each", "head_each"] = "auto"
    clip_size: ShorterSide = 448
    vit_size: ShorterSide = 448
    longest: LongerSide = 1024
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    classes: Literal["overlap", "compete"] = "compete"

    @property
    def forward_precision(self) -> Literal["fp32", "bf16"] | None:
        """What the encoders take: None stands for `auto`."""
        return None if self.precision == "auto" else self.precision

    @property
    def uses_vit(self) -> bool:
        """Whether the ViT looks at images."""
        return self.features != "clip" or self.spread != "none"

    @property
    def opens(self) -> tuple[str, ...]:
        """Which of the manifest's encoders look at images."""
        return (*(("clip",) if self.features == "clip" else ()), *(("vit",) if self.uses_vit else ()))

    def noted(self) -> dict[str, Any]:
        """As a store notes them; not where the first store lies."""
        return noted(self, (*_OF_THE_BANK, *_OF_THE_VOTE))

    def of_the_bank(self) -> dict[str, Any]:
        """Those that decide what is in the bank."""
        values = self.as_json()
        return {name: values[name] for name in _OF_THE_BANK}
