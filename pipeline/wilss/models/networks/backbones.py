"""Backbones: a timm model or the Wide-ResNet-38, cut off after its last feature map. timm is imported late.

Nothing below the last feature map's layers is kept: a classifier that never gets a gradient would stop
several processes from training together.
"""

import difflib
import functools
import sys
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from wilss.errors import ParameterError, first_line
from wilss.models.networks.spec import WIDE_RESNET38, SegmenterSpec
from wilss.models.shapes_only import shapes_only
from wilss.models.tensor_files import listed, loading_args

#: timm's modules of plain vision transformers: one stride, the patch; any size of image if told so.
_TRANSFORMERS = ("timm.models.vision_transformer", "timm.models.deit", "timm.models.eva")
#: timm's modules of networks whose attention is cut into blocks or positions of one size of image.
_ONE_SIZE = ("timm.models.byoanet",)
_EXAMPLES = "resnet50, tf_efficientnet_lite0, mobilenetv3_large_100, convnext_tiny or vit_small_patch16_224"


class Backbone(nn.Module):
    """Images to their last feature map. feature_dim: D. previous_dim: D', of the stage before.

    network: images to the feature maps of its last two stages.

    multiple: image sides are brought to multiples of it, 1 for convolutional networks. A vision transformer
    wants whole patches: other images are enlarged to the next multiple, so that the grid covers the image
    exactly [D]; padding would shift it.
    """

    def __init__(self, network: nn.Module, *, feature_dim: int, previous_dim: int, multiple: int = 1) -> None:
        super().__init__()
        self.network = network
        self.feature_dim = feature_dim
        self.previous_dim = previous_dim
        self.multiple = multiple

    def forward(self, images: Tensor) -> Tensor:
        """images: float [B, 3, H, W]. Returns [B, D, h, w]."""
        return self.stages(images)[1]

    def stages(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The feature maps of the last two stages, [B, D', h', w'] and [B, D, h, w]; the first may be finer."""
        previous, last = self.network(_enlarged(images, self.multiple))
        return previous, last


def _enlarged(images: Tensor, multiple: int) -> Tensor:
    """images with sides that are the next multiples of `multiple`; themselves where they are already."""
    height, width = images.shape[-2:]
    size = (-(-height // multiple) * multiple, -(-width // multiple) * multiple)
    if size == (height, width):
        return images
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False)


def build_backbone(spec: SegmenterSpec) -> Backbone:
    """The backbone of `spec` with random weights.

    Raises ParameterError for a name that timm does not have, arguments that it refuses, or a network whose
    last feature map has another stride.
    """
    if spec.backbone == WIDE_RESNET38:
        return _wide_resnet38(spec)
    network = _timm_network(spec)
    stride = network.feature_info.reduction()[-1]
    if stride != spec.output_stride:
        raise ParameterError(
            f"{spec.backbone} has a feature every {stride} pixels, not every {spec.output_stride}; "
            "set output_stride or, for a vision transformer, args: {patch_size: ...} so that they agree."
        )
    multiple = stride if _is_transformer(spec.backbone) else 1
    previous_dim, feature_dim = network.feature_info.channels()
    return Backbone(network, feature_dim=feature_dim, previous_dim=previous_dim, multiple=multiple)


def _wide_resnet38(spec: SegmenterSpec) -> Backbone:
    from wilss.models.networks.wide_resnet38 import WideResNet38

    if spec.args:
        raise ParameterError(f"{WIDE_RESNET38} takes no args, but has {', '.join(spec.args)}; leave them out.")
    network = WideResNet38(spec.output_stride)
    return Backbone(network, feature_dim=network.feature_dim, previous_dim=network.previous_dim)


def whole_network(spec: SegmenterSpec) -> nn.Module | None:
    """timm's whole network of the backbone, classifier included, on torch's meta device; None for what is not timm's.

    Its names are those of timm's own weights files.
    """
    if spec.backbone == WIDE_RESNET38:
        return None
    import timm

    with shapes_only():
        network: nn.Module = timm.create_model(spec.backbone, pretrained=False, **spec.args)
    return network


def filter_of(backbone: str) -> Callable[..., Any] | None:
    """What timm applies to published weights of this network, whose names may be older or another library's."""
    return getattr(sys.modules[_module_of(backbone)], "checkpoint_filter_fn", None)


def _timm_network(spec: SegmenterSpec) -> Any:
    """timm's network, wrapped so that it returns the feature maps of its last two stages."""
    import timm

    if not timm.is_model(spec.backbone):
        raise ParameterError(f"timm has no model {spec.backbone!r}{_closest(spec.backbone)}.")
    if names := loading_args(spec.args):
        raise ParameterError(f"the backbone's args {listed(names)} would load a file; name it as backbone_weights.")
    if _module_of(spec.backbone) in _ONE_SIZE:
        raise ParameterError(
            f"{spec.backbone} attends within blocks that fit one size of image only, and photographs have many; take "
            f"another backbone, such as {_EXAMPLES}."
        )
    how = _for_transformers() if _is_transformer(spec.backbone) else {"output_stride": spec.output_stride}
    try:
        return _with_features(spec.backbone, **how, **spec.args)
    except Exception as error:  # timm raises nearly anything on arguments that it was not written for
        raise ParameterError(_why_not(spec, error)) from error


def _with_features(backbone: str, **how: Any) -> Any:
    import timm

    return timm.create_model(backbone, pretrained=False, features_only=True, out_indices=(-2, -1), **how)


def _why_not(spec: SegmenterSpec, error: Exception) -> str:
    """Why timm cannot build the backbone, as far as building it otherwise tells."""
    try:
        with shapes_only():
            stride = _with_features(spec.backbone, **spec.args).feature_info.reduction()[-1]
    except Exception as other:  # not a matter of the stride
        if not spec.args:
            return (
                f"timm gives no feature maps of {spec.backbone} ({first_line(other) or type(other).__name__}); take "
                f"another backbone, such as {_EXAMPLES}."
            )
        return f"timm cannot build {spec.backbone} ({first_line(error)}); fix the backbone or its args."
    if stride == spec.output_stride:
        return (
            f"timm builds {spec.backbone} only as it is, with no word on strides or sizes ({first_line(error)}); take "
            f"another backbone, such as {_EXAMPLES}."
        )
    return (
        f"{spec.backbone} has a feature every {stride} pixels, and timm cannot dilate it to one every "
        f"{spec.output_stride}, as a segmenter needs; take a backbone that it can, such as {_EXAMPLES}."
    )


def _for_transformers() -> dict[str, Any]:
    """Any size of image, and the last block's tokens after the final normalisation, as they were pretrained."""
    from timm.models._features import FeatureGetterNet

    return {"dynamic_img_size": True, "feature_cls": functools.partial(FeatureGetterNet, norm=True)}


def _is_transformer(name: str) -> bool:
    return _module_of(name) in _TRANSFORMERS


def _module_of(name: str) -> str:
    """timm's module that has the network."""
    from timm.models import model_entrypoint

    module: str = model_entrypoint(name.split(".")[0]).__module__
    return module


def _closest(name: str) -> str:
    import timm

    near = difflib.get_close_matches(name, [*timm.list_models(), WIDE_RESNET38], n=3)
    return f"; did you mean {' or '.join(near)}" if near else "; timm.list_models() names those that it has"
