"""The first verb: images and cheap supervision in, a store of dense masks out.

manifest = wilss.load_manifest("data_manifest.yaml")
source = wilss_masks.FmwissSource.from_manifest(manifest, step=1)
summary = wilss_masks.generate(manifest, step=1, source=source)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .auditing.audit import audit
    from .make.cluster import ClusterOptions
    from .make.generate import generate
    from .make.options import Options
    from .make.summary import Summary
    from .review import Correction, Journal
    from .revision import revise
    from .sources import AnnotationSource, FmwissSource, PanetSource

_HOMES = {
    "AnnotationSource": "sources",
    "ClusterOptions": "make.cluster",
    "Correction": "review",
    "FmwissSource": "sources",
    "Journal": "review",
    "Options": "make.options",
    "PanetSource": "sources",
    "Summary": "make.summary",
    "audit": "auditing.audit",
    "generate": "make.generate",
    "revise": "revision",
}
__all__ = [
    "AnnotationSource",
    "ClusterOptions",
    "Correction",
    "FmwissSource",
    "Journal",
    "Options",
    "PanetSource",
    "Summary",
    "audit",
    "generate",
    "revise",
]


def __getattr__(name: str) -> Any:
    """Load what is asked for, so that the command line's help does not wait for zarr."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """The public names, and no module that happens to be loaded."""
    return __all__
