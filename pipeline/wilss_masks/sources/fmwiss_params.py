"""Parameters of FMWISS: those that decide what the networks say, and those by which that becomes masks."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from wilss.params import LongerSide, NonNegativeFloat, PositiveFloat, PositiveInt, Rule, Share, ShorterSide, require

from ..stages.params import StageParams

#: Parameters that every store notes; of all others, see `noted`.
ALWAYS_NOTED = (
    *("form", "background", "seeds", "draws", "affinity", "clip_size", "vit_size", "longest", "templates", "precision"),
    *("threshold", "keep", "keep_amount", "fusion"),
)

#: The attribute by which a store says that its confidences are a mean sureness; without it they are a mean score.
CONFIDENCE_OF = "confidence_of"

Cosine = Annotated[float, Rule("between -1 and 1", lambda value: -1 <= value <= 1)]


@dataclass(frozen=True, kw_only=True)
class FusionParams(StageParams):
    """How kept soft maps become masks; changing these, or the stages, needs no forward pass.

    threshold: where M_init is cut, on scores in [0, 1] [D].
    keep, keep_amount: how much of each attention map is kept; the paper's K = 70 %. `mass` keeps the
        smallest set of patches that holds this share of the attention [D], `locations` this share of the
        patches (the letter of the text), `std` what is above mean + keep_amount standard deviations (ours).
    fusion: `union` is the paper's M_refine; `intersection`, `init`, `seeds` are for ablations.
    """

    threshold: Share = 0.5
    keep: Literal["mass", "locations", "std"] = "mass"
    keep_amount: float = 0.7
    fusion: Literal["union", "intersection", "init", "seeds"] = "union"

    def __post_init__(self) -> None:
        """Validate the values."""
        super().__post_init__()
        if self.keep != "std":
            require(0 < self.keep_amount <= 1, "keep_amount", self.keep_amount, "above 0 and at most 1")


@dataclass(frozen=True, kw_only=True)
class FmwissParams(FusionParams):
    """Parameters of FMWISS Sec. 3.2.

    form: CLIP's dense path: `maskclip` (last block with residual and FFN) or `value` (without); `pool_each` for an
        attention pool (SigLIP, PE), `head_each` for convolutions; `neighbour` (NACLIP) and `proxy` (ProxyCLIP, by the
        ViT's patches) mix the values by other attentions; `auto` is the usual one of its tower.
    background: how a class stands out: `softmax` over the image's tags and the background words times the
        model's logit scale, `margin` over the best background word then min-max, or `minmax` alone [D].
    words: which background words: the manifest's `own` (the package's where it has none), the `package`'s, or `both`;
        CLIP-ES's for `voc` or `coco`, or the names of `stuff` for scenes.
    score: `text`, each patch's cosine with the words, or `gradcam`, where the image speaks for a tag (CLIP-ES); ours.
    synonyms: of a class's names the `mean`, one text feature, or the `greatest` of their scores.
    window, window_stride: CLIP sees its input in overlapping windows of so many pixels, so far apart; 0 for none, and
        for a stride of half a window.
    seeds: N = 9 of the paper. draws: averaged draws of N seeds each [D].
    placing: `drawn`, the paper's seeds, or `soft`: all patches, weighed by score^power, nothing drawn; ours.
    passes: how often the map is spread; from the second time on from the map so far times the score, ^power; ours.
    affinity: `qk`, the literal attention, or `kk`, cosine of the last block's keys [D]; `vv` of its values, `outputs`
        of what it puts out; `qq+kk`, the mean of two softmaxes.
    attention_blocks: so many last blocks, averaged. clip_attention: whether CLIP's own blocks say where as well.
    negatives, sharpness: of a cosine (kk, vv, outputs), see `wilss.equations.affinity.without_negatives`.
    balance: the affinity as it is (`none`), `symmetric` or `sinkhorn` (`balance_rounds` times). squared: times itself.
    scope, scope_alike: patches attend to the whole `image`, or inside `regions` alone (CorrCLIP), of which those are
        joined whose mean queries and keys have this cosine at least.
    patches_alike: with `regions: patches`, the cosine of their keys that neighbours need to be joined.
    clip_size, vit_size: shorter side of each encoder's input in pixels, 0 for the image's own size.
    longest: the longer side is never more than this many pixels.
    templates: `openai` (80), `maskclip` (85) or `plain` (the bare name).
    precision: of the forward passes; `auto` is bf16 on CUDA and fp32 elsewhere.
    """

    #: Which of the manifest's encoders look at images.
    opens: ClassVar[tuple[str, ...]] = ("clip", "vit")

    form: Literal["auto", "maskclip", "value", "pool_each", "head_each", "neighbour", "proxy"] = "auto"
    background: Literal["softmax", "margin", "minmax"] = "softmax"
    words: Literal["own", "package", "both", "voc", "coco", "stuff"] = "own"
    score: Literal["text", "gradcam"] = "text"
    synonyms: Literal["mean", "greatest"] = "mean"
    window: ShorterSide = 0
    window_stride: ShorterSide = 0
    seeds: Annotated[int, Rule("between 1 and 10000", lambda value: 1 <= value <= 10_000)] = 9
    draws: Annotated[int, Rule("between 1 and 1000", lambda value: 1 <= value <= 1_000)] = 1
    placing: Literal["drawn", "soft"] = "drawn"
    power: NonNegativeFloat = 2.0
    passes: Annotated[int, Rule("between 1 and 10", lambda value: 1 <= value <= 10)] = 1
    affinity: Literal["qk", "kk", "vv", "outputs", "qq+kk"] = "qk"
    attention_blocks: PositiveInt = 1
    clip_attention: bool = False
    negatives: Literal["zero", "cut"] = "zero"
    sharpness: PositiveFloat = 3.0
    balance: Literal["none", "symmetric", "sinkhorn"] = "none"
    balance_rounds: Annotated[int, Rule("between 1 and 100", lambda value: 1 <= value <= 100)] = 3
    squared: bool = False
    scope: Literal["image", "regions"] = "image"
    scope_alike: Cosine = 0.8
    patches_alike: Cosine = 0.9
    clip_size: ShorterSide = 448
    vit_size: ShorterSide = 448
    longest: LongerSide = 1024
    templates: Literal["openai", "maskclip", "plain"] = "openai"
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    def __post_init__(self) -> None:
        """Validate the values."""
        super().__post_init__()
        within = f"at most the window, {self.window}"
        require(self.window_stride <= self.window, "window_stride", self.window_stride, within)
        if self.scope == "regions":
            require(self.regions != "none", "regions", self.regions, "one of the others with `scope: regions`")
        if self.negatives == "cut":
            cosines = "kk, vv or outputs with `negatives: cut`, since a softmax has no negatives"
            require(self.affinity in ("kk", "vv", "outputs"), "affinity", self.affinity, cosines)
        if self.score == "gradcam":
            require(self.form == "auto", "form", self.form, "auto with `score: gradcam`, which has no dense features")
            rule = "with `score: gradcam`, which has a softmax of its own and sees the image whole"
            require(self.background == "softmax", "background", self.background, f"softmax {rule}")
            require(not self.window, "window", self.window, f"0 {rule}")

    @property
    def idle(self) -> dict[str, str]:
        """Also what belongs to attention inside regions, and to regions of patches."""
        inside = {} if self.scope == "regions" else {"scope_alike": "scope=regions"}
        patches = {} if self.regions == "patches" else {"patches_alike": "regions=patches"}
        return {**super().idle, **inside, **patches}

    @property
    def is_literal(self) -> bool:
        """Whether the attention is the paper's mean over the rows of drawn seeds, and nothing more."""
        plain = (
            not (self.squared or self.clip_attention or self.scope == "regions")
            and self.balance == "none"
            and self.negatives == "zero"
        )
        once = self.passes == 1 and self.attention_blocks == 1
        return plain and once and self.placing == "drawn" and self.affinity in ("qk", "kk")

    @property
    def forward_precision(self) -> Literal["fp32", "bf16"] | None:
        """What the encoders take: None stands for `auto`."""
        return None if self.precision == "auto" else self.precision


def confidence_noted(params: object) -> dict[str, str]:
    """What a store notes of its confidences. params: of any source; others than fmwiss have the mean score."""
    return {CONFIDENCE_OF: "sureness"} if isinstance(params, FusionParams) and params.remakes_masks else {}
