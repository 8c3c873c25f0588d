"""Who proposes masks, a frozen dataclass each. `SOURCES` is a plain table; only the command line reads it."""

from .annotation import AnnotationSource
from .base import Grids, MaskSource, Proposer
from .fmwiss import FmwissSource

__all__ = ["SOURCES", "AnnotationSource", "FmwissSource", "Grids", "MaskSource", "Proposer"]

SOURCES: dict[str, type[FmwissSource] | type[AnnotationSource]] = {
    "annotation": AnnotationSource,
    "fmwiss": FmwissSource,
}
