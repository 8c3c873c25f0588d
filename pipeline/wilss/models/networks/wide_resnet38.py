"""Wide-ResNet-38, model A of Wu et al., "Wider or Deeper", Pattern Recognition 2019 (arXiv:1611.10080).

The backbone of AffinityNet and of FMWISS on COCO, as the weakly supervised field dilates it. Weights bear the
published names (conv1a, b2 .. b7 with bn_branch2a and so on, bn7), so that the published ImageNet file
`ilsvrc-cls_rna-a1_cls1000_ep-0001`, converted to .pth, loads as it is.

Shapes: `B` batch, `H W` pixels, `h w` feature grid.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from wilss.errors import ParameterError

#: Output stride -> what b5 steps by, and the dilations of b5, b6 and b7.
_STRIDES = {8: (1, 2, 4, 4), 16: (2, 1, 2, 2)}


class WideResNet38(nn.Module):
    """Six groups of residual blocks that normalise first; the last two are bottlenecks with dropout.

    output_stride: 8 as the field uses it, or 16.
    """

    feature_dim, previous_dim = 4096, 2048

    def __init__(self, output_stride: int = 8) -> None:
        super().__init__()
        if output_stride not in _STRIDES:
            raise ParameterError(f"Wide-ResNet-38 has no output_stride {output_stride}; use 8 or 16.")
        step, fifth, sixth, seventh = _STRIDES[output_stride]
        self.conv1a = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self._add_group("b2", 3, 64, 128, 128, stride=2)
        self._add_group("b3", 3, 128, 256, 256, stride=2)
        self._add_group("b4", 6, 256, 512, 512, stride=2)
        self._add_group("b5", 3, 512, 512, 1024, stride=step, dilation=fifth)
        self.b6 = _Bottleneck(1024, 2048, dilation=sixth, dropout=0.3)
        self.b7 = _Bottleneck(2048, 4096, dilation=seventh, dropout=0.5)
        self.bn7 = nn.BatchNorm2d(4096)

    def _add_group(
        self, name: str, blocks: int, wide_in: int, middle: int, wide_out: int, *, stride: int, dilation: int = 1
    ) -> None:
        """Blocks `name`, `name_1`, ...; the first steps by `stride` and is not dilated in its first convolution."""
        self.add_module(name, _Residual(wide_in, middle, wide_out, stride=stride, dilation=dilation))
        for block in range(1, blocks):
            later = _Residual(wide_out, middle, wide_out, first_dilation=dilation, dilation=dilation)
            self.add_module(f"{name}_{block}", later)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images: float [B, 3, H, W], normalised. Returns [B, 2048, h, w] of b6, then the last [B, 4096, h, w]."""
        x = previous = images
        for name, block in self.named_children():
            x = F.relu(block(x)) if name == "bn7" else block(x)
            previous = x if name == "b6" else previous
        return previous, x


class _Residual(nn.Module):
    """Two 3 x 3 convolutions, each after a normalisation; the shortcut is convolved where shapes change."""

    def __init__(
        self, wide_in: int, middle: int, wide_out: int, *, stride: int = 1, first_dilation: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        self.bn_branch2a = nn.BatchNorm2d(wide_in)
        self.conv_branch2a = _conv3(wide_in, middle, stride=stride, dilation=first_dilation)
        self.bn_branch2b1 = nn.BatchNorm2d(middle)
        self.conv_branch2b1 = _conv3(middle, wide_out, dilation=dilation)
        if wide_in != wide_out or stride != 1:
            self.conv_branch1 = nn.Conv2d(wide_in, wide_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, wide_in, h, w] to [B, wide_out, h / stride, w / stride]."""
        start = F.relu(self.bn_branch2a(x))
        shortcut = self.conv_branch1(start) if hasattr(self, "conv_branch1") else x
        inner = F.relu(self.bn_branch2b1(self.conv_branch2a(start)))
        total: Tensor = shortcut + self.conv_branch2b1(inner)
        return total


class _Bottleneck(nn.Module):
    """1 x 1, dilated 3 x 3 and 1 x 1 convolution over a quarter and a half of the width; channels drop out."""

    def __init__(self, wide_in: int, wide_out: int, *, dilation: int, dropout: float) -> None:
        super().__init__()
        self.bn_branch2a = nn.BatchNorm2d(wide_in)
        self.conv_branch2a = nn.Conv2d(wide_in, wide_out // 4, 1, bias=False)
        self.bn_branch2b1 = nn.BatchNorm2d(wide_out // 4)
        self.dropout_2b1 = nn.Dropout2d(dropout)
        self.conv_branch2b1 = _conv3(wide_out // 4, wide_out // 2, dilation=dilation)
        self.bn_branch2b2 = nn.BatchNorm2d(wide_out // 2)
        self.dropout_2b2 = nn.Dropout2d(dropout)
        self.conv_branch2b2 = nn.Conv2d(wide_out // 2, wide_out, 1, bias=False)
        self.conv_branch1 = nn.Conv2d(wide_in, wide_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, wide_in, h, w] to [B, wide_out, h, w]."""
        start = F.relu(self.bn_branch2a(x))
        inner = F.relu(self.bn_branch2b1(self.conv_branch2a(start)))
        inner = self.conv_branch2b1(self.dropout_2b1(inner))
        inner = self.dropout_2b2(F.relu(self.bn_branch2b2(inner)))
        total: Tensor = self.conv_branch1(start) + self.conv_branch2b2(inner)
        return total


def _conv3(wide_in: int, wide_out: int, *, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """A 3 x 3 convolution without bias that keeps the size but for its stride."""
    return nn.Conv2d(wide_in, wide_out, 3, stride, padding=dilation, dilation=dilation, bias=False)
