"""wilss: every cheap form of supervision becomes a store of dense masks, from which a segmenter learns.

This package holds the nouns (taxonomy, protocol, manifest, images, mask store) and the equations that turn
scores into masks. `wilss_masks` makes stores, `wilss_train` learns from them; neither imports the other.

Shapes, in every docstring: `N` images of a step, `B` batch, `C` categories, `T` categories that an image is
tagged with, `H W` pixels, `h w` patch grid, `D` feature width, `n` attention heads, `S` seeds. Row before
column. Ids are taxonomy ids, 0 is background, 255 is void; *channels* are positions in `protocol.seen(step)`.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data.manifest import load_manifest
    from .store import open_masks

__version__ = version("wilss")
__all__ = ["__version__", "load_manifest", "open_masks"]


def __getattr__(name: str) -> Any:
    """Load a function when it is first asked for, so that importing wilss costs nothing."""
    homes = {"load_manifest": "data.manifest", "open_masks": "store"}
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{homes[name]}"), name)


def __dir__() -> list[str]:
    """The public names, and no module that happens to be loaded."""
    return __all__
