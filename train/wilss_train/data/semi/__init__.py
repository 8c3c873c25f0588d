"""Few labelled images beside many unlabelled ones: the list, the two views of an image, and the batches of both."""

from .batches import SemiBatch, SemiMaker, Wanted
from .labelled import digest_of, list_path, read_labelled
from .pools import LabelledImages, UnlabelledImages
from .soft import SoftLabels, require_soft_labels
from .views import StrongParams

__all__ = [
    "LabelledImages",
    "SemiBatch",
    "SemiMaker",
    "SoftLabels",
    "StrongParams",
    "UnlabelledImages",
    "Wanted",
    "digest_of",
    "list_path",
    "read_labelled",
    "require_soft_labels",
]
