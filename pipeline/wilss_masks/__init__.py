"""The first verb: images and cheap supervision in, a store of dense masks out.

manifest = wilss.load_manifest("data_manifest.yaml")
source = wilss_masks.FmwissSource.from_manifest(manifest, step=1)
summary = wilss_masks.generate(manifest, step=1, source=source)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cluster import ClusterOptions
    from .generation import Options, Summary, generate
    from .sources import AnnotationSource, FmwissSource

__all__ = ["AnnotationSource", "ClusterOptions", "FmwissSource", "Options", "Summary", "generate"]


def __getattr__(name: str) -> Any:
    """Load what is asked for, so that the command line's help does not wait for zarr."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import cluster, generation, sources

    for module in (generation, sources, cluster):
        if name in module.__all__:
            return getattr(module, name)
    raise AttributeError(name)
