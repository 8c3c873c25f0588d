"""Who proposes masks, a frozen dataclass each. `SOURCES` is a plain table, for the command line and `section`."""

from .annotation import AnnotationSource
from .base import Grids
from .fmwiss import FmwissSource
from .panet import PanetSource
from .pseudoseg import PseudosegSource
from .sam3 import Sam3Source

__all__ = [
    "SOURCES",
    "AnnotationSource",
    "FmwissSource",
    "Grids",
    "PanetSource",
    "PseudosegSource",
    "Sam3Source",
]

SOURCES: dict[
    str,
    type[FmwissSource] | type[AnnotationSource] | type[PanetSource] | type[PseudosegSource] | type[Sam3Source],
] = {
    "annotation": AnnotationSource,
    "fmwiss": FmwissSource,
    "panet": PanetSource,
    "pseudoseg": PseudosegSource,
    "sam3": Sam3Source,
}
