"""What commands share that make masks: their options, the run, and what they say of it."""

from .options import features_option, making_options
from .run import make_masks

__all__ = ["features_option", "make_masks", "making_options"]
