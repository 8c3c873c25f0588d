"""What a command says of the precision that networks compute in on a processor: slower or faster than it could be."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...make.options import Options

_SLOW = (
    "SLOW: this processor has no instructions for precision=bf16, so that an image takes many times as long as with "
    "--set precision=fp32"
)
_FASTER = (
    "This processor computes faster in bf16, and masks are nearly the same: --set precision=bf16, or `precision: bf16` "
    "in the manifest"
)


def slow_precision(source: Any, options: "Options") -> str:
    """A sentence where masks would take many times as long as they have to, else ""."""
    return _SLOW if _of_this_processor(source, options) == "bf16" and not _has_bf16() else ""


def faster_precision(source: Any, options: "Options") -> str:
    """A sentence where another precision than the default one is faster on this processor, else ""."""
    return _FASTER if _of_this_processor(source, options) == "auto" and _has_bf16() else ""


def _of_this_processor(source: Any, options: "Options") -> str | None:
    """The precision that a source of masks asks for, if it asks for one and this processor is what computes in it."""
    precision: str | None = getattr(getattr(source, "params", None), "precision", None)
    if precision is None or options.cluster.is_elsewhere or options.cluster.devices:
        return None  # before torch is asked, for which a source without networks does not wait
    from wilss.models.devices import resolve_device

    return precision if resolve_device(options.device) == "cpu" else None


def _has_bf16() -> bool:
    from wilss.models.devices import has_bf16

    return has_bf16("cpu")
