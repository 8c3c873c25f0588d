"""A new sealed store out of an old one and what people said of its masks."""

from .images import Rejected
from .revise import Revised, revise

__all__ = ["Rejected", "Revised", "revise"]
