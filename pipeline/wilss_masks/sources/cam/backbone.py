"""Which backbone a classifier has: the one that its parameters name, or that of the manifest's section `train`."""

from collections.abc import Collection
from typing import Self

from wilss.data.manifest import Manifest
from wilss.errors import ParameterError
from wilss.models.networks.named_backbone import NamedBackbone

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


class Backbone(NamedBackbone):
    """The backbone of a classifier of tags."""

    @classmethod
    def of(cls, manifest: Manifest, params: CamParams, named: Collection[str] = ()) -> Self:
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

    @property
    def lack(self) -> str:
        """A sentence about a backbone that has seen nothing yet, else ""."""
        if self.weights:
            return ""
        return (
            f"the backbone {self.name} begins with random weights, by which a classifier of tags sees next to nothing; "
            "name some with --set weights=timm, or a file."
        )
