"""Masks from a classifier's activation maps: the field's baseline, and the way where no CLIP is at hand.

The classifier learns the tags of the step's training images once, in the coordinator, and is kept in the cache folder
under a digest of all that it came from; workers read it there.
"""

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from wilss.data.manifest import EncoderSpec, Manifest
from wilss.digests import digest_of_json
from wilss.disk import cache_folder, make_folder, require_writable
from wilss.errors import CheckpointError, WeightsError, counted

from ...stages.params import noted
from ...stages.regions import regions_identity
from ..base import Grids
from ..presets import named_values, params_of
from .backbone import Backbone
from .lessons import Lessons, lessons_of
from .params import CamParams
from .views import input_sizes

if TYPE_CHECKING:
    from wilss.models.networks.classifier import Classifier

    from .proposer import CamProposer

log = logging.getLogger(__name__)

FORM = 1  # raise it when the same key would mean another classifier
_ALWAYS = ("cut", "affinity_from", "size", "scales")


@dataclass(frozen=True, kw_only=True)
class CamSource:
    """Masks where a classifier of the step's tags looks.

    learns_from_all: whether masks are of all images, so that another image makes others. lessons: what the classifier
    learns from; None once it has. key: digest of all that it learns from and how.
    """

    name: ClassVar[str] = "cam"
    reads_labels: ClassVar[bool] = False
    uses_tags: ClassVar[bool] = True
    seeds_kept: ClassVar[int] = 0
    learns_from_all: ClassVar[bool] = True

    params: CamParams
    backbone: Backbone
    vit: EncoderSpec
    seed: int
    classes: tuple[str, ...]
    untaught: tuple[str, ...] = ()
    lessons: Lessons | None = field(default=None, repr=False, compare=False)
    learnt: str = ""

    @classmethod
    def from_manifest(
        cls,
        manifest: Manifest,
        step: int,
        values: Mapping[str, Any] = MappingProxyType({}),
        seed: int = 0,
        where: str = "--set",
    ) -> Self:
        """The source for one step: the defaults, then the manifest's `masks.cam`, then `values`.

        Raises ManifestError where the step's images do not show what its classes look like.
        """
        params = params_of(CamParams(), manifest, cls.name, values, where=where)
        lessons = lessons_of(manifest, step, params.negatives)
        counts = zip(lessons.names, lessons.counts.tolist(), strict=True)
        return cls(
            params=params,
            backbone=Backbone.of(manifest, params, named_values(manifest, cls.name, values)),
            vit=manifest.encoders.vit,
            seed=seed,
            classes=lessons.names,
            untaught=tuple(name for name, count in counts if not count),
            lessons=lessons,
        )

    @property
    def has_void(self) -> bool:
        """Whether pixels of which nobody is sure are void."""
        return self.params.has_void

    @property
    def encoders(self) -> tuple[tuple[str, EncoderSpec], ...]:
        """The ViT, where it says which patches belong together."""
        return (("vit", self.vit),) if self.params.affinity_from == "vit" else ()

    def to_fetch(self) -> tuple[str, ...]:
        """What of the classifier's backbone will be fetched. Raises WeightsError where it is not there."""
        return self.backbone.to_fetch()

    @cached_property
    def key(self) -> str:
        """sha256 of all that decides the classifier, but for the device and threads it learns on."""
        if self.learnt:
            return self.learnt
        from wilss.models.encoders.identity import identity_of

        assert self.lessons is not None
        how = {name: value for name, value in self.params.as_json().items() if name in self.params.decisive}
        beside = [identity_of(self.vit)] if self.learns_by_vit else []  # so that all others keep their names
        return digest_of_json([FORM, self.backbone.identity(), how, self.seed, self.lessons.digest, *beside])

    @property
    def learns_by_vit(self) -> bool:
        """Whether the ViT says which patches of the training images belong together."""
        return self.params.patches and bool(self.encoders)

    def identity(self) -> Mapping[str, Any]:
        """Parameters, seed, and digests of the networks; of the classifier it is that of all it learns from."""
        from wilss.models.encoders.identity import identity_of

        placed = ("backbone", "backbone_args", "weights", "mean", "std", "stride")
        parameters = {name: value for name, value in noted(self.params, _ALWAYS).items() if name not in placed}
        vit = {"vit": identity_of(self.vit)} if self.encoders else {}
        return {
            "parameters": parameters,
            "seed": self.seed,
            **regions_identity(self.params),
            "models": {"classifier": {"sha256": self.key, **self.backbone.identity()}, **vit},
        }

    def grids(self, height: int, width: int) -> Grids:
        """The grid of the classifier's features at scale 1, on which maps are averaged and spread."""
        rows, columns = (side // self.backbone.stride for side in self.input_sizes(height, width)[0])
        return Grids(score=(rows, columns), attention=(rows, columns))

    def input_sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Input sizes (H, W) for an image of this size: at scale 1, then at each of the scales."""
        params = self.params
        return input_sizes(
            height,
            width,
            shorter=params.size,
            longest=params.longest,
            scales=params.scales,
            stride=self.backbone.stride,
        )

    def prepare(self, device: str) -> Self:
        """Let the classifier learn, or find it in the cache; a source that is prepared already is returned as it is."""
        if self.lessons is None:
            return self
        path = self.file
        if not path.is_file():
            self._learn(path, device)
        self.read_classifier()  # a damaged one is told here, and not by every worker
        return dataclasses.replace(self, lessons=None, learnt=self.key)

    def _learn(self, path: Path, device: str) -> None:
        from wilss.models.encoders.vit.encoder import open_vit
        from wilss.models.networks.classifier import Classifier, write_classifier
        from wilss.models.networks.weights import load_backbone

        from .learn import learn
        from .looking import Teaching

        assert self.lessons is not None
        mean, std, doubt = self.backbone.statistics
        for sentence in (*self.lessons.doubts(), *filter(None, (doubt, self.backbone.lack))):
            log.warning("Warning: %s", sentence)
        classifier = Classifier(self.backbone.spec(len(self.classes)), self.seed)
        if self.backbone.file is not None:
            load_backbone(classifier, self.backbone.file)
        _require_room(path.parent, classifier)
        tags, images = counted(len(self.classes), "tag"), counted(len(self.lessons.records), "image")
        log.info("a classifier learns %s from %s", tags, images)
        how = Teaching(
            lessons=self.lessons,
            stride=self.backbone.stride,
            params=self.params,
            mean=mean,
            std=std,
            seed=self.seed,
            device=device,
            state=path.with_suffix(".state"),
            vit=open_vit(self.vit, device, precision=None) if self.learns_by_vit else None,
        )
        learn(classifier, how)
        write_classifier(path, classifier.cpu(), {"key": self.key, "classes": list(self.classes)})

    @property
    def file(self) -> Path:
        """Where the classifier is kept. Raises WeightsError without a folder for it."""
        folder = cache_folder("cam")
        if folder is None:
            raise WeightsError(
                "there is no home folder to keep the classifier in; set WILSS_CACHE to a folder that all workers see."
            )
        return folder / f"{self.key}.safetensors"

    def read_classifier(self) -> "Classifier":
        """The classifier that was learnt. Raises CheckpointError where it is not there, or is damaged."""
        from wilss.models.networks.classifier import read_classifier

        if not self.file.is_file():
            raise CheckpointError(
                f"{self.file} is not there: the classifier was learnt on another machine, or its cache was emptied; "
                "set WILSS_CACHE to a folder that all workers see, and run the same command again."
            )
        return read_classifier(self.file)

    def open(self, device: str, threads: int) -> "CamProposer":
        """Load the classifier on `device`, and the ViT where it is asked for."""
        import torch

        from .proposer import CamProposer

        torch.set_num_threads(threads)
        return CamProposer(self.prepare(device), device)


def _require_room(folder: Path, classifier: "Classifier") -> None:
    """Refuse a cache that cannot hold the classifier, before it learns for half an hour.

    Raises WeightsError for a folder that cannot be written, and for one without the room.
    """
    try:
        make_folder(folder)
        require_writable(folder, sum(tensor.nbytes for tensor in classifier.state_dict().values()))
    except OSError as error:
        raise WeightsError(
            f"{folder} cannot hold the classifier ({error.strerror}); set WILSS_CACHE to a folder that can be written, "
            "has room for it, and is seen by all workers."
        ) from None
