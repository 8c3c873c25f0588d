"""Few labelled images beside many unlabelled ones: the list, the two views of an image, and the batches of both."""

from .batches import SemiBatch, SemiBatchSource, SemiParts
from .labelled import Labelled, digest_of, list_path, read_labelled
from .soft import SoftLabels, require_soft_labels
from .views import StrongParams

__all__ = [
    "Labelled",
    "SemiBatch",
    "SemiBatchSource",
    "SemiParts",
    "SoftLabels",
    "StrongParams",
    "digest_of",
    "list_path",
    "read_labelled",
    "require_soft_labels",
]
