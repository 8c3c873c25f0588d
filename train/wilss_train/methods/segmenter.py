"""What every method that teaches a segmenter from masks does: networks, batches, memory and checkpoint."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from wilss.data.manifest import Manifest
from wilss.errors import StoreError
from wilss.models.networks.checkpoint import load_segmenter, write_model
from wilss.models.networks.checkpoint_header import MODEL_FILE
from wilss.models.networks.embedding import EmbeddingNet
from wilss.models.networks.norms import set_batch_norm
from wilss.models.networks.segmenter import Segmenter, build, grown, newest_head, with_head
from wilss.models.networks.spec import SegmenterSpec
from wilss.models.networks.weights import load_backbone
from wilss.params import Params

from .. import run_folder as runs
from ..context import Experiment, RunContext
from ..data.batches import SegBatchSource
from ..data.copy_paste import PasteParams
from ..data.masked_images import MaskedImages
from ..inputs import SOFTMAX, RunInputs, weights_path
from ..memory import MemoryBank, fill
from ..params import TrainParams
from ..results.judge import Judged, RunResults, judge_run, untold
from .base import Method, frozen
from .step_prior import shifts_of


@dataclass(frozen=True, kw_only=True)
class SegmenterMethod(Params):
    """What all methods that teach a segmenter have in common."""

    def origin(self, run: TrainParams) -> tuple[str, str]:
        """The run's backbone."""
        return run.backbone, run.backbone_weights

    def deciding(self, step: int) -> dict[str, Any]:
        """All parameters."""
        return self.as_json()

    def input_digests(self, manifest: Manifest) -> Mapping[str, str]:
        """None beside mask store, parent and backbone."""
        return {}

    def inputs_as_noted_now(self, noted: Mapping[str, Any], manifest: Manifest) -> Mapping[str, Any]:
        """As they are."""
        return noted

    def judge(
        self, inputs: RunInputs, out: Path, *, split: str | None, device: str, progress: Judged = untold
    ) -> RunResults:
        """IoU per class beside the model of the step before, and report.html."""
        return judge_run(inputs, out, split=split, device=device, progress=progress)


@dataclass(frozen=True, kw_only=True)
class MaskMethod(SegmenterMethod, ABC):
    """A method whose objective takes `SegBatch`es of a mask store.

    own_heads: whether the classes of a later step may have a head of their own. by_tags: whether a later step is learnt
    from the tags of its pictures, whatever their masks show.
    """

    name: ClassVar[str]
    own_heads: ClassVar[bool] = True
    by_tags: ClassVar[bool] = False

    @property
    def pasting(self) -> PasteParams | None:
        """How instances from memory are pasted; None for a method that pastes none."""
        return None

    def epochs_alone(self, step: int) -> int:
        """Epochs at the start of a step in which the student is not trained."""
        return 0

    def epochs_constant(self, step: int) -> int:
        """Epochs at the start of a step in which the rates stand still."""
        return self.epochs_alone(step)

    def doubts(self, inputs: RunInputs) -> Iterator[str]:
        """What speaks against learning from this store by this method, as sentences; before anything is set up."""
        return iter(())

    @abstractmethod
    def objective(self, student: Segmenter, old: Segmenter | None, context: RunContext) -> nn.Module:
        """Networks and losses of one step.

        student: the network to train, with a channel for every class seen. old: the network of the step before, None
        at step 0.
        """

    def experiment(self, context: RunContext) -> Experiment:
        """Student, batches and results. Raises a WilssError for a bad store, memory or weights file."""
        student, old = networks_of(context)
        objective = self.objective(student, old, context)

        def write(out: Path, steps: int, facts: Mapping[str, Any]) -> None:
            _write_memory(context, out)
            shifts = shifts_of(context.inputs, context.params, is_softmax=self.name in SOFTMAX)
            _write_student(context, out, student, old, facts, shifts)

        step = context.inputs.step
        alone, constant = self.epochs_alone(step), self.epochs_constant(step)
        batches = _batches(self, context)
        return Experiment(objective=objective, batches=batches, write=write, alone=alone, constant=constant)


def learns_masks(method: Method, step: int) -> bool:
    """Whether a run of this step learns the masks of its store, and not its tags, or episodes of them."""
    return isinstance(method, MaskMethod) and not (step > 0 and method.by_tags)


def networks_of(context: RunContext) -> tuple[Segmenter, Segmenter | None]:
    """The student, and the network of the step before: at step 0 new or from a backbone's weights, later grown.

    Where the step's classes get a head of their own, the student is the newest head, grown, on a backbone that stays.
    """
    inputs, params = context.inputs, context.params
    channels = len(inputs.protocol.seen(inputs.step))
    old = None if inputs.parent is None else load_segmenter(inputs.parent)
    if old is None:
        student = build(spec_of_params(params, channels), seed=context.seed)
        if params.backbone_weights:
            load_backbone(student, weights_path(params.backbone_weights, params.backbone, inputs.manifest))
    else:
        start = newest_head(old) if params.heads == "step" else old
        student = grown(start, channels, rows=params.new_rows, seed=context.seed)
    student = set_batch_norm(student, params.norms)
    if params.freeze == "backbone" or (old is not None and params.heads == "step"):
        frozen(student.backbone)
    for network in (student, old):
        if network is not None:
            network.to(memory_format=torch.channels_last)
    return student, old


def write_network(
    context: RunContext,
    out: Path,
    network: Segmenter | EmbeddingNet,
    facts: Mapping[str, Any],
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """The checkpoint, whose being there says that all other results are. weights: None for the network's own."""
    protocol, kept = context.inputs.protocol, network.state_dict() if weights is None else weights
    with runs.writing_to(out / MODEL_FILE):
        write_model(out / MODEL_FILE, kept, spec=network.spec, protocol=protocol, facts=facts)


def _write_student(
    context: RunContext,
    out: Path,
    student: Segmenter,
    old: Segmenter | None,
    facts: Mapping[str, Any],
    shifts: Mapping[int, float],
) -> None:
    """The checkpoint, a step's own head beside those before it, and its classes' logits adjusted: nobody need know.

    A head of its own lowers them by pictures (`joined_logits`); all else is in their classifier's bias.
    """
    inputs, params, network = context.inputs, context.params, student
    if old is not None and params.heads == "step":
        known = inputs.protocol.new(inputs.step)
        network = with_head(old, student, [min(0.0, shifts.get(identity, 0.0)) for identity in known])
    if not shifts:
        return write_network(context, out, network, facts)
    weights, name = dict(network.state_dict()), f"{network.newest}classifier.bias"
    bias = weights[name] = weights[name].clone()
    for identity, shift in shifts.items():
        bias[inputs.protocol.channel_of(identity, inputs.step)] += max(0.0, shift) if network.later else shift
    told = {inputs.protocol.taxonomy.name_of(identity): shift for identity, shift in shifts.items()}
    return write_network(context, out, network, {**facts, "logit_shifts": told}, weights)


def spec_of_params(params: TrainParams, channels: int) -> SegmenterSpec:
    """The network that parameters describe, of so many outputs. Raises ParameterError."""
    return SegmenterSpec(
        backbone=params.backbone,
        args=dict(params.backbone_args),
        output_stride=params.output_stride,
        head_width=params.head_width,
        rates=params.rates,
        num_channels=channels,
    )


def _batches(method: MaskMethod, context: RunContext) -> SegBatchSource:
    inputs, params = context.inputs, context.params
    return SegBatchSource(
        MaskedImages(inputs.store, inputs.records),
        inputs.protocol,
        inputs.step,
        params,
        seed=context.seed,
        bank=_bank(method, context),
        pasting=method.pasting,
        rank=context.rank,
        world=context.world,
        on_broken=context.on_broken,
    )


def _bank(method: MaskMethod, context: RunContext) -> MemoryBank | None:
    """The parent's memory, where the method pastes from it."""
    inputs = context.inputs
    if inputs.parent is None or method.pasting is None:
        return None
    if inputs.memory is None:
        raise StoreError(
            f"{inputs.parent.path.parent / runs.MEMORY} is not there, and {method.name} pastes old instances from "
            "it; keep it beside the checkpoint, or paste nothing with --set paste_probability=0."
        )
    bank = MemoryBank.open(inputs.memory)
    bank.require_taxonomy(inputs.protocol.taxonomy)
    return bank


def _write_memory(context: RunContext, out: Path) -> None:
    inputs, params = context.inputs, context.params
    fill(
        out / runs.MEMORY,
        store=inputs.store,
        records=inputs.records,
        protocol=inputs.protocol,
        step=inputs.step,
        parent=None if inputs.memory is None else MemoryBank.open(inputs.memory),
        per_class=params.per_class,
        seed=context.seed,
        weak=inputs.is_weak,
        min_area=params.min_area,
        limit=params.limit,
        trust=params.trust,
        least_confidence=params.least_confidence,
        negatives=params.negative_images,
    )
