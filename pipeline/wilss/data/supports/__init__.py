"""Supports: a few images of a class, annotated by masks, boxes or scribbles; every kind becomes one map."""

from wilss.data.supports.maps import BACKGROUND, FOREGROUND, UNKNOWN, SupportMap
from wilss.data.supports.reading import SUPPORTS_FILE, Support, SupportSet, problems_of, read_supports
from wilss.data.supports.spec import SupportSpec

__all__ = [
    "BACKGROUND",
    "FOREGROUND",
    "SUPPORTS_FILE",
    "UNKNOWN",
    "Support",
    "SupportMap",
    "SupportSet",
    "SupportSpec",
    "problems_of",
    "read_supports",
]
