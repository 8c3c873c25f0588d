"""Which networks a manifest names; how they are opened is wilss_masks' business."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["EncoderSpec", "Encoders"]


@dataclass(frozen=True, kw_only=True)
class EncoderSpec:
    """One network.

    library, model, pretrained, revision: names on the hub, `pretrained: random` or `random:SEED` for an
        untrained control.
    config: open_clip's json. file: local weights. Both are absolute, or `builtin:NAME` for what ships with
        the package.
    sha256: what the weights must have: the manifest's, or else the lock file's.
    sha256_from: the file that says so ("" where sha256 is None).
    args: for timm.create_model. pos_interp: how a position table is resampled, None for the library's habit.
    """

    library: Literal["open_clip", "timm"]
    model: str | None = None
    pretrained: str | None = None
    revision: str | None = None
    config: str | None = None
    file: str | None = None
    sha256: str | None = None
    sha256_from: str = ""
    args: Mapping[str, Any] = field(default_factory=dict)
    pos_interp: Literal["dino", "size", "timm"] | None = None

    @property
    def title(self) -> str:
        """What it is, in words that a lock file keeps: library, model, pretrained, revision, file."""
        parts = (self.library, self.model, self.pretrained, self.revision, (self.file or "").rpartition("/")[2])
        return " ".join(part for part in parts if part)


@dataclass(frozen=True, kw_only=True)
class Encoders:
    """clip says what (FMWISS Sec. 3.2, M_init), vit says where (M_seeds)."""

    clip: EncoderSpec
    vit: EncoderSpec
