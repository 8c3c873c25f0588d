"""Who proposes masks, a frozen dataclass each. `SOURCES` is a plain table, for the command line and `section`."""

from .annotation import AnnotationSource
from .bank import BankSource
from .base import Grids
from .cam import CamSource
from .fmwiss import FmwissSource
from .insid3 import Insid3Source
from .panet import PanetSource
from .pseudoseg import PseudosegSource
from .sam3 import Sam3Source

__all__ = [
    "SOURCES",
    "AnnotationSource",
    "BankSource",
    "CamSource",
    "FmwissSource",
    "Grids",
    "Insid3Source",
    "PanetSource",
    "PseudosegSource",
    "Sam3Source",
]

Source = (
    AnnotationSource | BankSource | CamSource | FmwissSource | Insid3Source | PanetSource | PseudosegSource | Sam3Source
)

SOURCES: dict[str, type[Source]] = {
    "annotation": AnnotationSource,
    "bank": BankSource,
    "cam": CamSource,
    "fmwiss": FmwissSource,
    "insid3": Insid3Source,
    "panet": PanetSource,
    "pseudoseg": PseudosegSource,
    "sam3": Sam3Source,
}
