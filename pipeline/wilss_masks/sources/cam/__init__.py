"""Class activation maps: a classifier learns the step's tags, and its maps say where they are. No CLIP is needed."""

from .params import CamParams, CutParams
from .source import CamSource

__all__ = ["CamParams", "CamSource", "CutParams"]
