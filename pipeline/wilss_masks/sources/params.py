"""Parameters of mask making, with the paper's values where it names them; wrong ones are refused in a sentence."""

from dataclasses import dataclass
from typing import Literal

from wilss.models.networks.embedding_spec import FROZEN_SIZE
from wilss.params import refuse_unknown_choices, require

__all__ = ["FmwissParams", "FusionParams", "PanetParams"]


@dataclass(frozen=True, kw_only=True)
class FusionParams:
    """How kept soft maps become masks; changing these needs no forward pass.

    threshold: where M_init is cut, on scores in [0, 1] [D].
    keep, keep_amount: how much of each attention map is kept; the paper's K = 70 %. `mass` keeps the
        smallest set of patches that holds this share of the attention [D], `locations` this share of the
        patches (the letter of the text), `std` what is above mean + keep_amount standard deviations (ours).
    fusion: `union` is the paper's M_refine; `intersection`, `init`, `seeds` are for ablations.
    """

    threshold: float = 0.5
    keep: Literal["mass", "locations", "std"] = "mass"
    keep_amount: float = 0.7
    fusion: Literal["union", "intersection", "init", "seeds"] = "union"

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        refuse_unknown_choices(self)
        require(0 <= self.threshold <= 1, "threshold", self.threshold, "between 0 and 1")
        if self.keep != "std":
            require(0 < self.keep_amount <= 1, "keep_amount", self.keep_amount, "above 0 and at most 1")


@dataclass(frozen=True, kw_only=True)
class FmwissParams(FusionParams):
    """Parameters of FMWISS Sec. 3.2.

    form: CLIP's dense path, `maskclip` (last block with residual and FFN) or `value` (without).
    background: how a class stands out: `softmax` over the image's tags and the background words times the
        model's logit scale, `margin` over the best background word then min-max, or `minmax` alone [D].
    seeds: N = 9 of the paper. draws: averaged draws of N seeds each [D].
    affinity: `qk`, the literal attention, or `kk`, cosine of the last block's keys [D].
    clip_size, vit_size: shorter side of each encoder's input in pixels, 0 for the image's own size.
    longest: the longer side is never more than this many pixels.
    templates: `openai` (80), `maskclip` (85) or `plain` (the bare name).
    precision: of the forward passes; `auto` is bf16 on CUDA and fp32 elsewhere.
    """

    form: Literal["maskclip", "value"] = "maskclip"
    background: Literal["softmax", "margin", "minmax"] = "softmax"
    seeds: int = 9
    draws: int = 1
    affinity: Literal["qk", "kk"] = "qk"
    clip_size: int = 448
    vit_size: int = 448
    longest: int = 1024
    templates: Literal["openai", "maskclip", "plain"] = "openai"
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        super().__post_init__()
        require(1 <= self.seeds <= 10_000, "seeds", self.seeds, "between 1 and 10000")
        require(1 <= self.draws <= 1_000, "draws", self.draws, "between 1 and 1000")
        for name in ("clip_size", "vit_size"):
            size = getattr(self, name)
            require(size == 0 or 16 <= size <= 4096, name, size, "0 (the image's own) or from 16 to 4096")
        require(16 <= self.longest <= 16384, "longest", self.longest, "between 16 and 16384")

    @property
    def forward_precision(self) -> Literal["fp32", "bf16"] | None:
        """What the encoders take: None stands for `auto`."""
        return None if self.precision == "auto" else self.precision


@dataclass(frozen=True, kw_only=True)
class PanetParams:
    """Parameters of PANet's masks from a few supports (Sec. 3).

    shots: supports of each class, drawn by name; 0 for all there are. alpha: what multiplies the cosines before the
        softmax, 20 in the paper.
    supports: a YAML file or a folder with supports.yaml, in the place of the manifest's. embedding: a checkpoint of a
        trained embedding, in the place of the frozen ViT.
    features: what a patch of the frozen ViT is known by, its token after the last block (`tokens`) or its keys there.
    vit_size: shorter side of the input in pixels, 0 for the image's own size. longest: as for FMWISS.
    tags: an image's tags say which classes may win on it; without them all classes of the step compete.
    keep_masks: an image that is a support by its whole mask keeps that mask, instead of being guessed at [D].

    An embedding's checkpoint says itself on which features and at which size it is to be used.
    """

    shots: int = 0
    alpha: float = 20.0
    supports: str = ""
    embedding: str = ""
    features: Literal["tokens", "keys"] = "tokens"
    vit_size: int = FROZEN_SIZE
    longest: int = 1024
    tags: bool = True
    keep_masks: bool = True

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        refuse_unknown_choices(self)
        require(0 <= self.shots <= 100_000, "shots", self.shots, "0 (all there are) or more")
        require(0 < self.alpha <= 10_000, "alpha", self.alpha, "above 0")
        require(self.vit_size == 0 or 16 <= self.vit_size <= 4096, "vit_size", self.vit_size,
                "0 (the image's own) or from 16 to 4096")  # fmt: skip
        require(16 <= self.longest <= 16384, "longest", self.longest, "between 16 and 16384")
