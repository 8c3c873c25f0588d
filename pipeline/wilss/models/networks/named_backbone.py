"""A backbone by its name, where its weights lie, and what its input is like; they are read when it is opened."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from wilss.digests import digest_of_json
from wilss.errors import WeightsError
from wilss.models.networks.spec import SegmenterSpec
from wilss.params import Params, Rule, names_of, require

if TYPE_CHECKING:
    from wilss.models.networks.frozen_backbone import FrozenBackbone


@dataclass(frozen=True, kw_only=True)
class NamedBackbone:
    """A backbone by its names. weights: a word, see `wilss.models.networks.pretrained`; folder: of relative paths.

    mean, std: of the input, () for what timm notes of these weights.
    """

    name: str
    args: tuple[tuple[str, Any], ...]
    stride: int
    weights: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    folder: Path

    def spec(self, classes: int) -> SegmenterSpec:
        """What a network of so many classes on it is."""
        return SegmenterSpec(backbone=self.name, args=dict(self.args), output_stride=self.stride, num_channels=classes)

    @cached_property
    def file(self) -> Path | None:
        """Its weights, None for random ones. Raises WeightsError where they are not there."""
        from wilss.models.networks.pretrained import pretrained_file

        with _named():
            return pretrained_file(self.weights, self.name, self.folder) if self.weights else None

    @cached_property
    def sha256(self) -> str:
        """Of the weights' content, "" for random ones."""
        from wilss.models.encoders.weights import sha256_of

        file = self.file
        if file is None:
            return ""
        with _named():
            return sha256_of(file)

    def to_fetch(self) -> tuple[str, ...]:
        """What of its weights a first use fetches. Raises WeightsError where they are not there, or cannot be had."""
        from wilss.models.networks.pretrained import to_fetch

        with _named():
            return to_fetch(self.weights, self.name, self.folder) if self.weights else ()

    def check(self) -> None:
        """Build it, and fill it where its weights lie in a file; nothing is fetched.

        Raises ParameterError for one that cannot be built, WeightsError for weights that are not there or do not fit.
        """
        from wilss.models.networks.frozen_backbone import BackboneOnly
        from wilss.models.networks.pretrained import is_local
        from wilss.models.networks.weights import load_backbone

        self.to_fetch()
        network = BackboneOnly(self.spec(1))
        if is_local(self.weights) and self.file is not None:
            load_backbone(network, self.file)

    def open(self, device: str, maps: int) -> "FrozenBackbone":
        """Its features as they are. maps: of how many of the last stages. Raises what `check` raises."""
        from wilss.models.networks.frozen_backbone import open_frozen

        return open_frozen(self, device, maps)

    @cached_property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...], str]:
        """Mean and std of the input, and a sentence where they may be others, else ""."""
        from wilss.models.networks.pretrained import input_statistics

        if self.mean and self.std:
            return self.mean, self.std, ""
        known = input_statistics(self.name, self.weights)
        return self.mean or known.mean, self.std or known.std, known.doubt

    def identity(self) -> dict[str, Any]:
        """All that decides its features, as JSON values."""
        mean, std, _ = self.statistics
        said = {"backbone": self.name, "args": dict(self.args), "stride": self.stride, "weights_sha256": self.sha256}
        return {**said, "input_sha256": digest_of_json([list(mean), list(std)])}


@dataclass(frozen=True, kw_only=True)
class FrozenParams(Params):
    """Parameters that name a backbone whose frozen feature maps are used, in the place of another network [D].

    backbone: a timm model, convolutional or not; "" for none. backbone_args: for timm.create_model. weights: `timm`,
        `timm:TAG`, a file beside the manifest, `package:NAME/FILE`, or "" for random ones. mean, std: of its input; ()
        is what timm notes of it. stride: pixels per feature, 8 or 16; later stages are dilated to it. maps: 2 puts the
        maps of its last two stages side by side, 1 takes the last.
    """

    backbone: str = ""
    backbone_args: Mapping[str, Any] = field(default_factory=dict)
    weights: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    stride: int = 16
    maps: Annotated[int, Rule("1 or 2", lambda value: value in (1, 2))] = 1

    def __post_init__(self) -> None:
        """Validate the values."""
        super().__post_init__()
        require(self.stride in (8, 16), "stride", self.stride, "8 or 16")
        for name in ("mean", "std"):
            require(len(getattr(self, name)) in (0, 3), name, getattr(self, name), "three numbers, or none")
        require(all(value > 0 for value in self.std), "std", self.std, "three numbers above 0, or none")
        defaults = {one.name: one.default for one in fields(self)}
        for name in () if self.backbone else OF_BACKBONE[1:]:
            value = getattr(self, name)
            idle = value == defaults[name] or not value
            require(idle, name, value, "left out where no backbone is named")

    def named(self, folder: Path) -> NamedBackbone | None:
        """The backbone; None where there is none. folder: of relative paths."""
        if not self.backbone:
            return None
        return NamedBackbone(
            name=self.backbone,
            args=tuple(sorted(self.backbone_args.items())),
            stride=self.stride,
            weights=self.weights,
            mean=tuple(self.mean),
            std=tuple(self.std),
            folder=folder,
        )


#: Their names, the backbone's own first.
OF_BACKBONE = names_of(FrozenParams)


@contextlib.contextmanager
def _named() -> Iterator[None]:
    """Errors of weights with the parameter that names them here."""
    try:
        yield
    except WeightsError as error:
        said = str(error).replace("set backbone_weights to", "set weights to")
        raise WeightsError(
            f"{said} A file of weights is named by --set weights=FILE, timm's own by weights=timm."
        ) from None
