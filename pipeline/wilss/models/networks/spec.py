"""What a segmenter is, as plain data: all that a checkpoint needs to build it again. torch is not imported."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from wilss.errors import ParameterError
from wilss.params import Params, PositiveInt, ShareBelowOne, require

#: The one backbone that is not timm's.
WIDE_RESNET38 = "wide_resnet38"
#: DeepLabV3's dilation rates by output stride (Chen et al. 2017, Sec. 4.1).
_PUBLISHED_RATES = {8: (12, 24, 36), 16: (6, 12, 18)}


@dataclass(frozen=True, kw_only=True)
class SegmenterSpec(Params):
    """A DeepLabV3 head on a backbone.

    backbone: a timm model name, or "wide_resnet38". args: what timm.create_model is given besides, e.g.
        {"channels": [32, 64, 128, 192]} for a narrow resnet18.
    output_stride: image pixels per feature, 8 or 16; of a vision transformer it is the patch size.
    head_width: channels inside the head. rates: of its dilated branches; () is the published rates of the stride.
    dropout: after the head's projection. Torchvision has 0.5, the field's incremental code none; 0 is ours [D],
        so that a step's result never depends on how often something was drawn before it.
    num_channels: outputs, as many as classes seen, background included.
    heads: where later classes have heads of their own, the channels that were known when each head but the newest was
        learnt, the first head's first; () is one head for all channels.
    shifts: of each of these later classes, what its log odds lose for a picture in which it may not be
        (`wilss.equations.joining.joined_logits`), at most 0; () is 0 for all of them.
    """

    backbone: str = "resnet101"
    args: Mapping[str, Any] = field(default_factory=dict)
    output_stride: int = 16
    head_width: PositiveInt = 256
    rates: tuple[int, ...] = ()
    dropout: ShareBelowOne = 0.0
    num_channels: PositiveInt
    heads: tuple[int, ...] = ()
    shifts: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Validate the values."""
        super().__post_init__()
        require(self.output_stride in _PUBLISHED_RATES, "output_stride", self.output_stride, "8 or 16")
        require(all(rate >= 1 for rate in self.rates), "rates", self.rates, "whole numbers of at least 1")
        grows = all(few < more for few, more in zip((0, *self.heads), (*self.heads, self.num_channels), strict=True))
        require(grows, "heads", self.heads, f"growing numbers of channels below {self.num_channels}")
        later = self.num_channels - self.channels_of_heads[0]
        fit = len(self.shifts) in (0, later) and all(-math.inf < shift <= 0 for shift in self.shifts)
        require(fit, "shifts", self.shifts, f"none, or {later} numbers of at most 0")

    def as_json(self) -> dict[str, Any]:
        """Every value by its name; `heads` and `shifts` where there are any: other networks say what they did."""
        rare = [name for name in ("heads", "shifts") if not getattr(self, name)]
        return {name: value for name, value in super().as_json().items() if name not in rare}

    @property
    def channels_of_heads(self) -> tuple[int, ...]:
        """How many channels each head has, in the order in which they were learnt."""
        return (*self.heads, self.num_channels)

    @property
    def shifts_of_heads(self) -> tuple[tuple[float, ...], ...]:
        """`shifts`, those of each later head's own classes together."""
        first, bounds = self.channels_of_heads[0], self.channels_of_heads
        return tuple(self.shifts[few - first : more - first] for few, more in itertools.pairwise(bounds))

    @property
    def head_rates(self) -> tuple[int, ...]:
        """`rates`, or the published ones of the output stride."""
        return self.rates or _PUBLISHED_RATES[self.output_stride]

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> "SegmenterSpec":
        """The spec that `as_json` wrote. Raises ParameterError for a field that no spec has, or a wrong value."""
        known = {one.name for one in fields(cls)}
        if unknown := sorted(set(said) - known):
            raise ParameterError(f"a segmenter has no {', '.join(unknown)}; upgrade wilss, or leave that out.")
        if "num_channels" not in said:
            raise ParameterError("a segmenter needs num_channels, the number of its outputs; write it.")
        tuples = {name: tuple(said.get(name, ())) for name in ("rates", "heads", "shifts")}
        return cls(**{**said, "args": dict(said.get("args", {})), **tuples})
