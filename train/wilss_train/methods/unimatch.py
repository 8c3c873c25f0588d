"""`unimatch`: few labelled images; strong views of the others learn what a moving average of the student is sure of.

L. Yang et al., "UniMatch V2: Pushing the Limit of Semi-Supervised Semantic Segmentation", TPAMI 2025
(arXiv:2410.10777).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from wilss.data.manifest import Manifest
from wilss.params import NonNegativeFloat, NonNegativeInt, Share, ShareBelowOne, require

from ..context import Experiment, RunContext
from ..data.masked_images import MaskedImages
from ..data.semi.labelled import digest_of, list_path
from ..data.semi.pairs import PairBatchSource, PairParams, PairParts
from .few_labels import chosen_images, labelled_batch, require_first_step
from .mean_teacher import UnimatchObjective
from .segmenter import SegmenterMethod, networks_of, write_network


@dataclass(frozen=True, kw_only=True)
class Unimatch(SegmenterMethod):
    """Parameters of UniMatch V2; the published values.

    labelled: the list of labelled images.
    threshold: how probable the teacher must find a pixel's class for it to be learnt.
    average: how much of the teacher stays at every optimiser step, at most; the rest is the student's.
    dropped: part of the images whose strong views lack a half of the channels each, complementary ones.
    unlabelled: weight of the consistency loss, which is the mean of both strong views'.
    supervised_epochs: so many first epochs learn from labelled images alone; 0 as published.
    labelled_batch: labelled images of an optimiser step, 0 for as many as unlabelled ones (batch_size).
    kept: which of the two networks is the result, `teacher` or `student` [D].
    jitter: of brightness, contrast, saturation and hue. jittered, greyed, blurred: how probable another light, no
        colours and a blur are. blur: its standard deviation in pixels, least and greatest.
    cutmix: how probable a box of another picture in a view is. cutmix_area: its share of the view.
    """

    name: ClassVar[str] = "unimatch"

    labelled: str = ""
    threshold: Share = 0.95
    average: ShareBelowOne = 0.996
    dropped: Share = 0.5
    unlabelled: NonNegativeFloat = 1.0
    supervised_epochs: NonNegativeInt = 0
    labelled_batch: NonNegativeInt = 0
    kept: Literal["teacher", "student"] = "teacher"
    jitter: tuple[float, ...] = (0.5, 0.5, 0.5, 0.25)
    jittered: Share = 0.8
    greyed: Share = 0.2
    blurred: Share = 0.5
    blur: tuple[float, ...] = (0.1, 2.0)
    cutmix: Share = 0.5
    cutmix_area: tuple[float, ...] = (0.02, 0.4)

    def __post_init__(self) -> None:
        """Validate every value."""
        super().__post_init__()
        require(len(self.jitter) == 4, "jitter", self.jitter, "four numbers: brightness, contrast, saturation, hue")
        ordered = len(self.blur) == 2 and 0 <= self.blur[0] <= self.blur[1] <= 1000
        require(ordered, "blur", self.blur, "two numbers from 0 to 1000, the smaller first")
        fits = len(self.cutmix_area) == 2 and 0 <= self.cutmix_area[0] <= self.cutmix_area[1] <= 0.5
        require(fits, "cutmix_area", self.cutmix_area, "two numbers from 0 to 0.5, the smaller first")
        _ = self.strong  # it refuses what is its own

    @property
    def strong(self) -> PairParams:
        """How strong views are made."""
        brightness, contrast, saturation, hue = self.jitter
        return PairParams(
            brightness=brightness, contrast=contrast, saturation=saturation, hue=hue, jitter=self.jittered,
            grey=self.greyed, blur=self.blurred, sigma=(self.blur[0], self.blur[1]), cutmix=self.cutmix,
            area=(self.cutmix_area[0], self.cutmix_area[1]),
        )  # fmt: skip

    def input_digests(self, manifest: Manifest) -> Mapping[str, str]:
        """Digest of the list, which is compared with its own."""
        return {"labelled": digest_of(list_path(self.labelled, manifest))}

    def experiment(self, context: RunContext) -> Experiment:
        """Student and teacher, batches of both kinds of images, and the checkpoint."""
        require_first_step(self.name, context.inputs)
        student, _ = networks_of(context)
        objective = UnimatchObjective(self, student, context.params)

        def write(out: Path, steps: int, facts: Mapping[str, Any]) -> None:
            write_network(context, out, getattr(objective, self.kept), facts)

        return Experiment(objective=objective, batches=self._batches(context), write=write, after=objective.follow)

    def _batches(self, context: RunContext) -> PairBatchSource:
        inputs, params = context.inputs, context.params
        return PairBatchSource(
            MaskedImages(inputs.store, inputs.records),
            chosen_images(self.labelled, inputs, lone="train it with --method finetune"),
            inputs.protocol,
            inputs.step,
            params,
            PairParts(
                labelled=labelled_batch(self.labelled_batch, context), unlabelled=True, weak=True, strong=self.strong
            ),
            seed=context.seed,
            rank=context.rank,
            world=context.world,
            on_broken=context.on_broken,
        )
