"""Tools around a manifest: write a first one, check every image that it names, lock what it rests on.

All of them return data; the command line prints it.
"""

from .check import CheckReport, Counts, Finding, check_manifest
from .init import init_manifest, save_manifest
from .lock import LockReport, lock_manifest

__all__ = [
    "CheckReport",
    "Counts",
    "Finding",
    "LockReport",
    "check_manifest",
    "init_manifest",
    "lock_manifest",
    "save_manifest",
]
