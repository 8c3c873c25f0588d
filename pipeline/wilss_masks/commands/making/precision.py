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
    "in the manifest (workflows/benchmark/README.md has figures)"
)


def precision_note(source: Any, options: "Options") -> str:
    """A sentence where another precision is faster on this processor, "" where none is or others compute.

    source: of masks; one that computes in no precision of its own choice has nothing to be told.
    """
    from wilss.models.devices import has_bf16, resolve_device

    precision = getattr(getattr(source, "params", None), "precision", None)
    elsewhere = options.cluster.is_elsewhere or options.cluster.devices
    if precision not in ("auto", "bf16") or elsewhere or resolve_device(options.device) != "cpu":
        return ""
    if has_bf16("cpu"):
        return _FASTER if precision == "auto" else ""
    return _SLOW if precision == "bf16" else ""
