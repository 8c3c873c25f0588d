"""`pseudoseg`: few labelled images; of the others, strong views learn what is made of weak ones while training.

Y. Zou et al., "PseudoSeg: Designing Pseudo Labels for Semantic Segmentation", ICLR 2021 (arXiv:2010.09713).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from wilss.data.manifest import Manifest
from wilss.data.names import Names
from wilss.models.networks.attention_cam import Labeller, MappingNorm, SoftLabelParams
from wilss.models.networks.labeller_file import LABELLER_FILE, write_labeller
from wilss.models.networks.norms import set_batch_norm
from wilss.models.networks.segmenter import Segmenter
from wilss.params import NonNegativeFloat, NonNegativeInt, PositiveInt, Share, require
from wilss.store import MaskStore

from .. import run_folder as runs
from ..context import Experiment, RunContext
from ..data.masked_images import MaskedImages
from ..data.semi.batches import SemiBatchSource, SemiParts
from ..data.semi.labelled import digest_of, list_path
from ..data.semi.soft import SoftLabels, require_soft_labels
from ..data.semi.views import StrongParams
from .alignment import Alignment
from .consistency import PseudosegObjective
from .few_labels import chosen_images, labelled_batch, require_first_step
from .segmenter import SegmenterMethod, networks_of, write_network


@dataclass(frozen=True, kw_only=True)
class Pseudoseg(SegmenterMethod):
    """Parameters of PseudoSeg; the published values.

    labelled: the list of labelled images. targets: a store of soft labels to learn from, "" to make them on the way.
    target: what is made of a weak view: `fused` (the method), `decoder` or `sgc` alone, `fixmatch` (the decoder's hard
        labels where it is surer than `threshold`), `none` for labelled images only.
    share: g, of the decoder in the fusion. temperature: T of the sharpening. norm: over an `image`, or the `batch`.
    present: how probable the classifier must find a class for it to have an attention map.
    align: how far the shares of the classes in soft labels are brought to those of the labelled images (ReMixMatch's
        distribution alignment [D]), 1 all the way; 0, as published, leaves them.
    unlabelled: weight of the consistency loss. classes, attention: weights of the classifier's and the SGC loss.
    supervised_epochs: so many first epochs learn from labelled images alone; 0 as published.
    labelled_batch: labelled images of an optimiser step, 0 for as many as unlabelled ones (batch_size).
    strong_norm: strong views are normalised by the statistics that they and the labelled images have together, which
        are kept (`shared`), or by their `own`, which are not [D].
    attention_norm: the batch norm after the attention maps, `torch`'s, or `published`: no factor, eps 1e-3 and decay
        0.999, which takes thousands of steps to know the statistics that labels are made with.
    width: of queries and keys. jitter: of brightness, contrast, saturation and hue. cutout: side of the square, in
        views.
    """

    name: ClassVar[str] = "pseudoseg"

    labelled: str = ""
    targets: str = ""
    target: Literal["fused", "decoder", "sgc", "fixmatch", "none"] = "fused"
    share: float = 0.5
    temperature: float = 0.5
    norm: Literal["image", "batch"] = "image"
    present: float = 0.5
    threshold: Share = 0.95
    align: Share = 0.0
    unlabelled: NonNegativeFloat = 1.0
    classes: NonNegativeFloat = 1.0
    attention: NonNegativeFloat = 1.0
    supervised_epochs: NonNegativeInt = 0
    labelled_batch: NonNegativeInt = 0
    strong_norm: Literal["shared", "own"] = "shared"
    attention_norm: MappingNorm = "torch"
    width: PositiveInt = 128
    jitter: tuple[float, ...] = (0.5, 0.5, 0.5, 0.25)
    cutout: float = 0.2

    def __post_init__(self) -> None:
        """Validate every value."""
        super().__post_init__()
        require(len(self.jitter) == 4, "jitter", self.jitter, "four numbers: brightness, contrast, saturation, hue")
        stored = not self.targets or self.target != "none"
        require(stored, "target", self.target, "something else where --targets are given: `none` learns from none")
        learns = not self.align or self.target != "none"
        require(learns, "align", self.align, "0 with target=none, which makes no soft labels")
        _ = self.strong, self.labels  # they refuse what is theirs

    @property
    def strong(self) -> StrongParams:
        """How strong views are made."""
        brightness, contrast, saturation, hue = self.jitter
        return StrongParams(
            brightness=brightness, contrast=contrast, saturation=saturation, hue=hue, cutout=self.cutout
        )

    @property
    def labels(self) -> SoftLabelParams:
        """How soft labels are made."""
        kind = self.target if self.target in ("fused", "sgc") else "decoder"
        sharp = 1.0 if self.target == "fixmatch" else self.temperature
        return SoftLabelParams(kind=kind, share=self.share, temperature=sharp, norm=self.norm, present=self.present)

    def input_digests(self, manifest: Manifest) -> Mapping[str, str]:
        """Digests of the list and of the stored targets, which are compared with their own."""
        digests = {"labelled": digest_of(list_path(self.labelled, manifest))}
        if self.targets:
            store = MaskStore.open(self.targets)
            require_soft_labels(store, manifest)
            digests["targets"] = store.digest
        return digests

    def experiment(self, context: RunContext) -> Experiment:
        """Student, labeller, batches of both kinds of images, and the two checkpoints."""
        require_first_step(self.name, context.inputs)
        student, _ = networks_of(context)
        labeller = self._labeller(student, context)
        alignment = Alignment(student.spec.num_channels, self.align, context.gather) if self.align else None
        objective = PseudosegObjective(self, student, labeller, context.params, alignment)

        def write(out: Path, steps: int, facts: Mapping[str, Any]) -> None:
            if labeller is not None:
                with runs.writing_to(out / LABELLER_FILE):
                    write_labeller(out / LABELLER_FILE, labeller, student)
            write_network(context, out, student, facts)

        return Experiment(objective=objective, batches=self._batches(context), write=write)

    def _labeller(self, student: Segmenter, context: RunContext) -> Labeller | None:
        """Where labels are the decoder's alone, or stored ones, nobody asks for one."""
        if self.target not in ("fused", "sgc") or self.targets:
            return None
        labeller = Labeller.like(student, width=self.width, norm=self.attention_norm, seed=context.seed)
        return set_batch_norm(labeller, context.params.norms).to(memory_format=torch.channels_last)

    def _batches(self, context: RunContext) -> SemiBatchSource:
        inputs, params = context.inputs, context.params
        store, step = inputs.store, inputs.step
        lone = "say --set target=none" if self.target != "none" else ""
        chosen = chosen_images(self.labelled, inputs, lone=lone)
        soft = None
        if self.targets:
            soft = SoftLabels(MaskStore.open(self.targets), inputs.protocol, step)
            soft.require(Names(store.image_ids[row] for row in chosen.unlabelled.tolist()))
        parts = SemiParts(
            labelled=labelled_batch(self.labelled_batch, context),
            unlabelled=self.target != "none",
            weak=soft is None,
            strong=self.strong,
        )
        return SemiBatchSource(
            MaskedImages(store, inputs.records),
            chosen,
            inputs.protocol,
            step,
            params,
            parts,
            soft=soft,
            seed=context.seed,
            rank=context.rank,
            world=context.world,
            on_broken=context.on_broken,
        )
