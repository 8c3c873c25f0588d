"""Parameters of the stages between evidence and masks. torch is not needed to read them."""

import dataclasses
import itertools
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from wilss.errors import ParameterError
from wilss.params import Params, PositiveFloat, PositiveInt, Rule, Share, ShareBelowOne, require

Side = Annotated[int, Rule("between 16 and 16384", lambda value: 16 <= value <= 16384)]
Rounds = Annotated[int, Rule("between 1 and 1000", lambda value: 1 <= value <= 1000)]
Radius = Annotated[int, Rule("between 1 and 1000 pixels", lambda value: 1 <= value <= 1000)]
Points = Annotated[int, Rule("between 1 and 256", lambda value: 1 <= value <= 256)]
Dilations = Annotated[
    tuple[int, ...],
    Rule("one or more from 1 to 256", lambda value: bool(value) and min(value) > 0 and max(value) <= 256),
]

P = TypeVar("P", bound="StageParams")


@dataclass(frozen=True, kw_only=True)
class StageParams(Params):
    """Which stages there are; each is off by default, as in the papers.

    classes: `overlap`, every tag for itself against the background, or `compete`: a pixel goes to the strongest.
    regions: pieces without a class, each of which takes the label that most of its pixels have: superpixels of
        scikit-image (`felzenszwalb`, `slic`, of `region_size` pixels, about), `patches` that fmwiss' ViT takes for
        alike (see `patches_alike`), or proposals of a `file`, the COCO json
        `regions_file`, of those with a score of `regions_score` at least. Or masks of a network in the local folder
        `regions_model`: `sam2` by a grid of `regions_points` x `regions_points` points, `eomt` by its queries, `sam3`
        of all that is a `regions_word`; a `regions_score` of 0 stands for 0.8, of sam3 for 0.3.
    boundaries: labels moved to the edges of the picture: `pamr`, averaged `pamr_rounds` times over the neighbours at
        `pamr_dilations` pixels that look alike, or `guided`, the guided filter over windows of 2 guided_radius + 1
        pixels, with edges whose variance is above `guided_eps` (colours from 0 to 1); the cheaper one, and more so
        where it works on a picture `guided_step` times smaller, at most the radius.
    stage_size: longer side in pixels at which regions and boundaries are looked for; no image is made larger.
    unsure: pixels that are less sure of their label than this are void; 0 for none.
    calibration: what share is right by how sure a label is, knots (sureness, share); without it sureness as it is.
    """

    places: ClassVar[tuple[str, ...]] = ("regions_file", "regions_model")

    classes: Literal["overlap", "compete"] = "overlap"
    regions: Literal["none", "felzenszwalb", "slic", "patches", "file", "sam2", "eomt", "sam3"] = "none"
    region_size: PositiveInt = 50
    regions_file: str = ""
    regions_score: Share = 0.0
    regions_model: str = ""
    regions_points: Points = 32
    regions_word: str = "object"
    boundaries: Literal["none", "pamr", "guided"] = "none"
    pamr_rounds: Rounds = 10
    pamr_dilations: Dilations = (1, 2, 4, 8)
    guided_radius: Radius = 8
    guided_eps: PositiveFloat = 1e-3
    guided_step: Radius = 1
    stage_size: Side = 512
    unsure: ShareBelowOne = 0.0
    calibration: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        """Validate the values."""
        super().__post_init__()
        _require_curve(self.calibration)
        if self.boundaries == "guided":
            radius = self.guided_radius
            require(self.guided_step <= radius, "guided_step", self.guided_step, f"at most guided_radius, {radius}")
        if self.calibration and self.unsure > self.calibration[-1][1]:
            raise ParameterError(
                f"unsure is {self.unsure:g} and `calibration` ends at {self.calibration[-1][1]:g}, so that all pixels "
                "would be void; choose a lower one."
            )

    @property
    def idle(self) -> dict[str, str]:
        """The parameters that change nothing as the others are, and what each belongs to, in words."""
        belong = {
            ("region_size",): ("regions", ("felzenszwalb", "slic")),
            ("regions_file",): ("regions", ("file",)),
            ("regions_score",): ("regions", ("file", "sam2", "eomt", "sam3")),
            ("regions_model",): ("regions", ("sam2", "eomt", "sam3")),
            ("regions_points",): ("regions", ("sam2",)),
            ("regions_word",): ("regions", ("sam3",)),
            ("pamr_rounds", "pamr_dilations"): ("boundaries", ("pamr",)),
            ("guided_radius", "guided_eps", "guided_step"): ("boundaries", ("guided",)),
        }
        idle = {
            name: f"{switch}={' or '.join(words)}"
            for names, (switch, words) in belong.items()
            if getattr(self, switch) not in words
            for name in names
        }
        return idle if self.needs_picture else {**idle, "stage_size": "regions or boundaries"}

    @property
    def has_stages(self) -> bool:
        """Whether anything but the method's own masks is asked for."""
        return self.remakes_masks or self.has_void

    @property
    def remakes_masks(self) -> bool:
        """Whether a stage decides where masks are: not the cut of the method's maps alone, and not void alone."""
        return self.classes != "overlap" or self.needs_picture

    @property
    def has_void(self) -> bool:
        """Whether pixels may become void."""
        return self.unsure > 0

    @property
    def needs_picture(self) -> bool:
        """Whether a stage looks at the image itself."""
        return self.regions != "none" or self.boundaries != "none"


def refuse_idle(params: object, names: Collection[str], where: str) -> None:
    """ParameterError for parameters that somebody has set and that change nothing as the others are.

    names: of those; one that is at its default says nothing. params: of any source. where: what to blame.
    """
    if not isinstance(params, StageParams):
        return
    defaults = type(params)()
    for name, needed in params.idle.items():
        if name in names and (value := getattr(params, name)) != getattr(defaults, name):
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
            raise ParameterError(
                f"{where}: {name}={shown} changes nothing without {needed}; say that as well, or leave {name} out."
            )


def without_stages(params: P) -> P:
    """The same parameters with every stage off, so that no image is looked at."""
    return dataclasses.replace(params, classes="overlap", regions="none", boundaries="none", unsure=0.0, calibration=())


def noted(params: Params, always: Collection[str]) -> dict[str, Any]:
    """Parameters as a store notes them: those of `always`, and of the others what is not at its default.

    So a store that was made before there was a parameter says what one says today that leaves it off. Where a file
    or a network lies is not noted; its digest is (`regions_identity`).
    """
    defaults = type(params)().as_json()
    values = {name: value for name, value in params.as_json().items() if name not in params.places}
    return {name: value for name, value in values.items() if name in always or value != defaults[name]}


def _require_curve(curve: tuple[tuple[float, float], ...]) -> None:
    """ParameterError for knots that are no rising curve within [0, 1]."""
    within = all(len(knot) == 2 and all(0 <= one <= 1 for one in knot) for knot in curve)
    rises = within and all(a[0] < b[0] and a[1] <= b[1] for a, b in itertools.pairwise(curve))
    require(rises, "calibration", curve, "pairs of numbers from 0 to 1, the first rising, the second never falling")
