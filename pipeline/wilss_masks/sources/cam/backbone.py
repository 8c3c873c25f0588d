"""Which backbone a classifier has, where its weights lie, and what its input is like; no weights are read."""

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from wilss.data.manifest import Manifest
from wilss.digests import digest_of_json
from wilss.errors import ParameterError, WeightsError
from wilss.models.networks.spec import SegmenterSpec

from .params import CamParams

#: Fields of a manifest's section `train` that stand for ours where no backbone is named.
_OF_TRAIN = {
    "backbone": "backbone",
    "backbone_args": "backbone_args",
    "backbone_weights": "weights",
    "backbone_mean": "mean",
    "backbone_std": "std",
    "output_stride": "stride",
}


@dataclass(frozen=True, kw_only=True)
class Backbone:
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

    @classmethod
    def of(cls, manifest: Manifest, params: CamParams, named: Collection[str] = ()) -> "Backbone":
        """The one that the parameters name, or that the manifest's section `train` does. Raises ParameterError.

        named: the parameters that somebody has set, and which so stand before those of the section `train`.
        """
        said = {name: getattr(params, name) for name in _OF_TRAIN.values()}
        if not params.backbone:
            given = {ours: manifest.train[theirs] for theirs, ours in _OF_TRAIN.items() if theirs in manifest.train}
            said |= {name: value for name, value in given.items() if name not in named}
        if not said["backbone"]:
            raise ParameterError(
                f"{manifest.path}: the source 'cam' needs a network to learn the tags, and neither masks.cam nor the "
                "section train names one; say --set backbone=tf_efficientnet_lite0 --set weights=timm, or another of "
                "timm's."
            )
        return cls(
            name=said["backbone"],
            args=tuple(sorted(dict(said["backbone_args"]).items())),
            stride=int(said["stride"]),
            weights=str(said["weights"] or ""),
            mean=tuple(said["mean"] or ()),
            std=tuple(said["std"] or ()),
            folder=manifest.path.parent,
        )

    def spec(self, classes: int) -> SegmenterSpec:
        """What a classifier of so many classes is."""
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
        from wilss.models.networks.classifier import Classifier
        from wilss.models.networks.pretrained import is_local
        from wilss.models.networks.weights import load_backbone

        self.to_fetch()
        classifier = Classifier(self.spec(1))
        if is_local(self.weights) and self.file is not None:
            load_backbone(classifier, self.file)

    @cached_property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...], str]:
        """Mean and std of the input, and a sentence where they may be others, else ""."""
        from wilss.models.networks.pretrained import input_statistics

        if self.mean and self.std:
            return self.mean, self.std, ""
        known = input_statistics(self.name, self.weights)
        return self.mean or known.mean, self.std or known.std, known.doubt

    @property
    def lack(self) -> str:
        """A sentence about a backbone that has seen nothing yet, else ""."""
        if self.weights:
            return ""
        return (
            f"the backbone {self.name} begins with random weights, by which a classifier of tags sees next to nothing; "
            "name some with --set weights=timm, or a file."
        )

    def identity(self) -> dict[str, Any]:
        """All that decides its features, as JSON values."""
        mean, std, _ = self.statistics
        said = {"backbone": self.name, "args": dict(self.args), "stride": self.stride, "weights_sha256": self.sha256}
        return {**said, "input_sha256": digest_of_json([list(mean), list(std)])}


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
