"""PseudoSeg Sec. 3.3, offline: what a trained network and its labeller say of every pixel, as soft labels and masks.

Y. Zou et al., "PseudoSeg: Designing Pseudo Labels for Semantic Segmentation", ICLR 2021. The method makes its labels
while it trains; here the same functions make them once, of whole images as they are.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from wilss.data.images import normalise, patch_grid_size, read_image, resize_uint8, to_pixels
from wilss.data.manifest import Manifest
from wilss.data.names import composed
from wilss.disk import data_path
from wilss.errors import CheckpointError, ParameterError
from wilss.models.networks.checkpoint import CheckpointInfo, load_segmenter, read_info, spec_of
from wilss.models.networks.labeller_file import labeller_digest, load_labeller
from wilss.models.networks.spec import SegmenterSpec
from wilss.params import LongerSide, Params, PositiveFloat, Share, ShorterSide
from wilss.store import ImageContent, Status

from .base import Grids, ImageTask
from .presets import params_of

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PseudosegParams(Params):
    """How a trained network's soft labels are made and cut.

    checkpoint: a run of `wilss-train --method pseudoseg`, or its model.safetensors; or one of unimatch.
    kind: `fused` of decoder and attention maps, or `decoder` or `sgc` alone; unimatch has a decoder alone. share: g, of
    the decoder.
    temperature: T of the sharpening. norm: over an `image`, or the `batch` for parity.
    present: how probable the classifier must find a class for it to have an attention map.
    certain: pixels whose likeliest class is less probable than this are void; 0 for none.
    size: shorter side of the input in pixels, 0 for the image's own. longest: the longer side is never more than this.
    """

    checkpoint: str = ""
    kind: Literal["fused", "decoder", "sgc"] = "fused"
    share: Share = 0.5
    temperature: PositiveFloat = 0.5
    norm: Literal["image", "batch"] = "image"
    present: Share = 0.5
    certain: Share = 0.0
    size: ShorterSide = 0
    longest: LongerSide = 1024


@dataclass(frozen=True, kw_only=True)
class PseudosegSource:
    """Masks and soft labels by a network that learnt from few labelled images; nobody's tags are asked.

    info: its checkpoint. labeller_sha256: of the file beside it, None where the decoder speaks alone. category_ids:
    taxonomy ids, in the order of the category axis.
    """

    name: ClassVar[str] = "pseudoseg"
    has_void: ClassVar[bool] = True
    reads_labels: ClassVar[bool] = False
    uses_tags: ClassVar[bool] = False
    seeds_kept: ClassVar[int] = 0
    encoders: ClassVar[tuple[()]] = ()

    params: PseudosegParams
    info: CheckpointInfo
    labeller_sha256: str | None
    category_ids: tuple[int, ...]

    @classmethod
    def from_manifest(
        cls,
        manifest: Manifest,
        step: int,
        values: Mapping[str, Any] = MappingProxyType({}),
        seed: int = 0,
        where: str = "--set",
    ) -> Self:
        """The source for one step: the paper's values, then the manifest's `masks.pseudoseg`, then `values`.

        Nothing is drawn from `seed`. Raises CheckpointError for a checkpoint of other classes or without a labeller.
        """
        params = params_of(PseudosegParams(), manifest, cls.name, values, where=where)
        if not params.checkpoint:
            raise ParameterError(
                "the source 'pseudoseg' labels with a trained network and has been given none; say --checkpoint RUN, "
                "the folder of a `wilss-train --method pseudoseg`."
            )
        info = read_info(data_path(params.checkpoint).expanduser())
        spec_of(info, SegmenterSpec)
        _require_softmax(info, params)
        _require_classes(info, manifest, step)
        digest = None if params.kind == "decoder" else labeller_digest(info)
        return cls(params=params, info=info, labeller_sha256=digest, category_ids=tuple(manifest.protocol.new(step)))

    def identity(self) -> Mapping[str, Any]:
        """Parameters and digests of both networks; not where they lie."""
        parameters = {name: value for name, value in dataclasses.asdict(self.params).items() if name != "checkpoint"}
        models = {"segmenter": {"sha256": self.info.digest, "method": self.info.method}}
        if self.labeller_sha256 is not None:
            models["labeller"] = {"sha256": self.labeller_sha256}
        return {"parameters": parameters, "models": models}

    def grids(self, height: int, width: int) -> Grids:
        """The grid of the network's features for an image of this size."""
        rows, columns = self.input_size(height, width)
        return Grids(score=(rows // self._stride, columns // self._stride))

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Input size (H, W) for an image of this size: multiples of the stride, so that the grid covers it exactly."""
        return patch_grid_size(
            height, width, shorter=self.params.size or None, longest=self.params.longest, patch=self._stride
        )

    def prepare(self, device: str) -> Self:
        """Nothing to prepare."""
        return self

    def open(self, device: str, threads: int) -> "PseudosegProposer":
        """Load both networks on `device`."""
        import torch

        torch.set_num_threads(threads)
        return PseudosegProposer(self, device)

    @property
    def _stride(self) -> int:
        return spec_of(self.info, SegmenterSpec).output_stride


def _require_softmax(info: CheckpointInfo, params: PseudosegParams) -> None:
    """CheckpointError for a network whose outputs are no softmax of all classes, or that has no attention maps."""
    if info.method == "unimatch" and params.kind != "decoder":
        raise CheckpointError(
            f"{info.path} was trained by unimatch, which makes no attention maps; say --set kind=decoder as well."
        )
    if info.method not in ("pseudoseg", "unimatch"):
        raise CheckpointError(
            f"{info.path} was trained by {info.method}, whose outputs are no softmax; pass a run of `wilss-train "
            "--method pseudoseg` or `unimatch`."
        )


def _require_classes(info: CheckpointInfo, manifest: Manifest, step: int) -> None:
    """CheckpointError unless the network has a channel for every class of the step, under the same name."""
    names = {identity: manifest.taxonomy.name_of(identity) for identity in manifest.protocol.new(step)}
    known = dict(zip(info.seen, map(composed, info.channel_names), strict=True))
    if missing := [name for identity, name in names.items() if known.get(identity) != composed(name)]:
        raise CheckpointError(
            f"{info.path} has learnt no {missing[0]}, a class of step {step} of {manifest.path}; pass a checkpoint of "
            "this step, or the manifest that it was trained with."
        )


class PseudosegProposer:
    """`PseudosegSource` with its networks loaded on one device."""

    def __init__(self, source: PseudosegSource, device: str) -> None:
        from wilss.models.networks.attention_cam import SoftLabelParams

        params = source.params
        self.source, self.device = source, device
        self.segmenter = load_segmenter(source.info)
        self.labeller = None if params.kind == "decoder" else load_labeller(source.info, self.segmenter, device)
        self.segmenter.to(device)
        self.how = SoftLabelParams(
            **{name: getattr(params, name) for name in ("kind", "share", "temperature", "norm", "present")}
        )
        self.channels = [source.info.seen.index(identity) for identity in source.category_ids]

    def load(self, task: ImageTask) -> "Tensor":
        """The image as the network's input, uint8 [3, H, W]."""
        import torch

        image = torch.from_numpy(read_image(task.record.path, task.record.bits)).permute(2, 0, 1)
        return resize_uint8(image, self.source.input_size(task.height, task.width))

    def propose(self, tasks: Sequence[ImageTask], loaded: "Sequence[Tensor]") -> list[ImageContent]:
        """One forward pass for the batch, then each image by itself."""
        import torch

        from wilss.models.networks.attention_cam import soft_labels

        info = self.source.info
        with torch.inference_mode():
            images = torch.stack(list(loaded)).to(self.device, non_blocking=True)
            inputs = normalise(images, info.mean, info.std).contiguous()
            soft = soft_labels(self.segmenter, self.labeller, inputs, self.how).half()
            return [self._one(task, soft[row]) for row, task in enumerate(tasks)]

    def _one(self, task: ImageTask, soft: "Tensor") -> ImageContent:
        """soft: float16 [C, h, w], all channels. The mask is the likeliest at the image's own size."""
        from wilss.equations import fmwiss
        from wilss.equations.kernels import first_greatest

        pixels = to_pixels(soft.float(), task.height, task.width)
        label, void = first_greatest(pixels), pixels.amax(dim=0) < self.source.params.certain
        classes = label.new_tensor(self.channels)[:, None, None]
        masks = (label == classes) & ~void
        confidence = fmwiss.confidence(pixels[self.channels], masks).tolist()
        planes = {"mask": masks.cpu().numpy(), "score": soft[self.channels].cpu().numpy()}
        return ImageContent(
            status=Status.DONE,
            planes={
                **{name: dict(zip(task.categories, stack, strict=True)) for name, stack in planes.items()},
                "void": {0: void.cpu().numpy()},
            },
            confidence=dict(zip(task.categories, confidence, strict=True)),
            area=dict(zip(task.categories, masks.sum(dim=(-2, -1)).tolist(), strict=True)),
        )
