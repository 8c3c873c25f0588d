"""Parameters of class activation maps. torch is not needed to read them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from wilss.params import (
    LongerSide,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Rule,
    Share,
    ShorterSide,
    require,
)

from ...stages.params import Rounds, StageParams

Side = Annotated[int, Rule("from 32 to 4096", lambda value: 32 <= value <= 4096)]

#: Parameters that say how the classifier learns, and so decide its weights; all others only how it is used.
_LEARNING = (
    "backbone", "backbone_args", "stride", "negatives", "hold", "epochs", "batch_size", "lr", "rows_lr", "decay",
    "rows_decay", "crop", "area", "colour", "draw_power", "positive_power", "positive_most", "learn_size", "longest",
)  # fmt: skip
#: Those that say how patches are learnt from the maps of the tags.
_PATCHES = (
    "patches", "patch_cut", "patch_decay", "patch_power", "affinity_from", "temperature", "passes", "power", "rounds",
)  # fmt: skip
#: Those of learning them again, which decide nothing where it is done once.
_AGAIN = ("patch_rounds", "patch_again", "patch_temperature")


@dataclass(frozen=True, kw_only=True)
class CutParams(StageParams):
    """How kept maps become masks; changing these needs no forward pass.

    cut: where a mask is cut: a share of the map's maximum, or with `patches` of class against background.
    """

    cut: Share = 0.35

    def __post_init__(self) -> None:
        """Validate the values."""
        super().__post_init__()
        require(self.cut > 0, "cut", self.cut, "above 0")


@dataclass(frozen=True, kw_only=True)
class CamParams(CutParams):
    """How the classifier learns, and what is done to its maps before they are cut.

    backbone: a timm model, or "" for that of the manifest's section `train`, with its weights, arguments, stride, mean
        and std, in the place of each of which stands what is set here. weights: `timm`, `timm:TAG`, a file beside the
        manifest, `builtin:backbone.safetensors`, or "" for random ones. backbone_args: for timm.create_model. mean,
        std: of its input; () is what timm notes of it.
    stride: pixels per feature, 8 or 16; later stages are dilated to it.
    negatives: images on which the step's classes count as absent: of the `step` alone, or of `earlier` steps as well.
    hold: share of the backbone's tensors, the first ones, that learn nothing. epochs: of everything else; 0 learns the
        rows of the classes alone, on features as they are.
    batch_size, lr, rows_lr (factor for the classes' rows), decay (of weights), rows_decay (penalty on the rows' squares
        where they learn alone).
    crop: side of the square that is learnt from. area: share of an image's area that a crop has at least. colour:
        strength of random brightness, contrast and saturation.
    draw_power: images are drawn by n^-power of their rarest class of n images; 0 draws all alike. positive_power,
        positive_most: weight of a class where it is present, (absent / present)^power and at most so much.
    learn_size: shorter side of the input in pixels while whole images are learnt from, 0 for the image's own. size: of
        the input where masks are made. scales: of which maps are averaged, times `size`. longest: the longer side is
        never more than this at scale 1.
    patches: learn from the maps of all images what patches of every class, and of the background, look like, and
        make the masks from that. patch_cut: at which share of its maximum a map makes a patch one of its class.
        patch_decay: penalty on the squares of what is learnt. patch_power: of the weight of rare classes.
        patch_temperature: as `temperature`, for spreading what is learnt. patch_rounds: how often they are learnt; from
        the second time on by what was learnt before, where a patch is one of the tag whose share against the background
        is `patch_again` at least.
    affinity_from: whose features say which patches belong together: the classifier's `own`, the manifest's `vit`, or
        `none`. temperature: of the softmax over their cosines. passes: how often maps are spread along it. power: of
        the map before each time. rounds: of Sinkhorn's normalisation, 0 for none.
    """

    backbone: str = ""
    backbone_args: Mapping[str, Any] = field(default_factory=dict)
    weights: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    stride: int = 16
    negatives: Literal["step", "earlier"] = "step"
    hold: Share = 0.3
    epochs: NonNegativeInt = 0
    batch_size: PositiveInt = 16
    lr: PositiveFloat = 0.003
    rows_lr: PositiveFloat = 10.0
    decay: NonNegativeFloat = 1e-4
    rows_decay: NonNegativeFloat = 1e-3
    crop: Side = 256
    area: Share = 0.3
    colour: Share = 0.3
    draw_power: NonNegativeFloat = 0.5
    positive_power: NonNegativeFloat = 0.5
    positive_most: PositiveFloat = 3.0
    learn_size: ShorterSide = 352
    size: ShorterSide = 448
    scales: tuple[float, ...] = (1.0,)
    longest: LongerSide = 1024
    patches: bool = False
    patch_cut: Share = 0.55
    patch_decay: NonNegativeFloat = 0.03
    patch_power: NonNegativeFloat = 0.5
    patch_temperature: PositiveFloat = 0.1
    patch_rounds: Rounds = 1
    patch_again: Share = 0.7
    affinity_from: Literal["own", "vit", "none"] = "none"
    temperature: PositiveFloat = 0.2
    passes: PositiveInt = 1
    power: PositiveFloat = 1.0
    rounds: NonNegativeInt = 3

    def __post_init__(self) -> None:
        """Validate the values."""
        super().__post_init__()
        require(self.stride in (8, 16), "stride", self.stride, "8 or 16")
        require(self.area > 0, "area", self.area, "above 0")
        fit = bool(self.scales) and all(0.1 <= scale <= 4 for scale in self.scales)
        require(fit, "scales", self.scales, "numbers from 0.1 to 4")
        for name in ("mean", "std"):
            require(len(getattr(self, name)) in (0, 3), name, getattr(self, name), "three numbers, or none")
        require(all(value > 0 for value in self.std), "std", self.std, "three numbers above 0, or none")

    @property
    def decisive(self) -> tuple[str, ...]:
        """The parameters that decide what the classifier learns."""
        again = _AGAIN if self.patches and self.patch_rounds > 1 else ()
        return (*_LEARNING, *(_PATCHES if self.patches else ()), *again)
