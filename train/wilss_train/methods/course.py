"""The course of every method that teaches a segmenter from masks: its networks, batches, memory and checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from torch import nn

from wilss.errors import StoreError
from wilss.models.networks.checkpoint import MODEL_FILE, load_segmenter, write_model
from wilss.models.networks.segmenter import Segmenter, SegmenterSpec, build, grown, load_backbone, set_batch_norm

from .. import run_folder as runs
from ..context import Course, Ground
from ..data.batches import BatchMaker
from ..data.copy_paste import PasteParams
from ..data.masked_images import MaskedImages
from ..memory import MemoryBank, fill
from ..params import TrainParams
from .backbone_weights import weights_path
from .base import Conclusion, Setup

if TYPE_CHECKING:
    from wilss.data.manifest import Manifest

    from ..inputs import Beginning

__all__ = ["MaskMethod", "SegmenterMethod", "course_of", "networks_of", "write_segmenter"]


class MaskMethod(Protocol):
    """A method whose objective takes `SegBatch`es of a mask store."""

    name: ClassVar[str]

    @property
    def pasting(self) -> PasteParams | None:
        """How instances from memory are pasted; None for a method that pastes none."""

    def objective(self, setup: Setup) -> nn.Module:
        """Networks and losses of one step."""


class SegmenterMethod:
    """What all methods that teach a segmenter do alike."""

    def inputs(self, manifest: "Manifest") -> Mapping[str, str]:
        """None beside mask store, parent and backbone."""
        return {}

    def conclude(self, beginning: "Beginning", out: Path, *, split: str | None, device: str) -> Conclusion:
        """IoU per class beside the model of the step before, and report.html."""
        from ..results.conclusion import conclude

        return conclude(beginning, out, split=split, device=device)


def course_of(method: MaskMethod, ground: Ground) -> Course:
    """Student, batches and results of `method`. Raises what a bad store, memory or weights file deserves."""
    student, old = networks_of(ground)
    setup = Setup(
        protocol=ground.beginning.protocol,
        step=ground.beginning.step,
        student=student,
        old=old,
        seed=ground.seed,
        epochs=ground.params.epochs,
        gather=ground.gather,
    )

    def write(out: Path, steps: int, facts: Mapping[str, Any]) -> None:
        _write_memory(ground, out)
        write_segmenter(ground, out, student, facts)

    return Course(objective=method.objective(setup), maker=_maker(method, ground), write=write)


def networks_of(ground: Ground) -> tuple[Segmenter, Segmenter | None]:
    """The student, and the network of the step before: at step 0 anew or from a backbone's weights, later grown."""
    beginning, params = ground.beginning, ground.params
    channels = len(beginning.protocol.seen(beginning.step))
    old = None if beginning.parent is None else load_segmenter(beginning.parent)
    if old is None:
        student = build(_spec(params, channels), seed=ground.seed)
        if params.backbone_weights:
            load_backbone(student, weights_path(params.backbone_weights, beginning.manifest))
    else:
        student = grown(old, channels, rows=params.new_rows, seed=ground.seed)
    student = set_batch_norm(student, params.batch_norm)
    for network in (student, old):
        if network is not None:
            network.to(memory_format=torch.channels_last)
    return student, old


def write_segmenter(ground: Ground, out: Path, student: Segmenter, facts: Mapping[str, Any]) -> None:
    """The checkpoint, whose being there says that all other results are."""
    protocol = ground.beginning.protocol
    with runs.writing_to(out / MODEL_FILE):
        write_model(out / MODEL_FILE, student.state_dict(), spec=student.spec, protocol=protocol, facts=facts)


def _spec(params: TrainParams, channels: int) -> SegmenterSpec:
    return SegmenterSpec(
        backbone=params.backbone,
        args=dict(params.backbone_args),
        output_stride=params.output_stride,
        head_width=params.head_width,
        rates=params.rates,
        num_channels=channels,
    )


def _maker(method: MaskMethod, ground: Ground) -> BatchMaker:
    beginning, params = ground.beginning, ground.params
    images = MaskedImages(
        beginning.store, beginning.records, beginning.protocol, beginning.step, cache_mib=params.cache_mib
    )
    return BatchMaker(
        images,
        beginning.protocol,
        beginning.step,
        params,
        seed=ground.seed,
        bank=_bank(method, ground),
        pasting=method.pasting,
        rank=ground.rank,
        world=ground.world,
        on_broken=ground.on_broken,
    )


def _bank(method: MaskMethod, ground: Ground) -> MemoryBank | None:
    """The parent's memory, where the method pastes from it."""
    beginning = ground.beginning
    if beginning.parent is None or method.pasting is None:
        return None
    if beginning.memory is None:
        raise StoreError(
            f"{beginning.parent.path.parent / runs.MEMORY} is not there, and {method.name} pastes old instances from "
            "it; keep it beside the checkpoint, or paste nothing with --set paste_probability=0."
        )
    bank = MemoryBank.open(beginning.memory)
    bank.require_taxonomy(beginning.protocol.taxonomy)
    return bank


def _write_memory(ground: Ground, out: Path) -> None:
    beginning, params = ground.beginning, ground.params
    fill(
        out / runs.MEMORY,
        store=beginning.store,
        images={image: record.path for image, record in beginning.records.items()},
        protocol=beginning.protocol,
        step=beginning.step,
        parent=None if beginning.memory is None else MemoryBank.open(beginning.memory),
        per_class=params.per_class,
        seed=ground.seed,
        weak=beginning.is_weak,
        min_area=params.min_area,
    )
