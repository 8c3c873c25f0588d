"""Other libraries' names of a network's tensors as timm's: those of `efficientnet_pytorch` and what stands on it."""

import re
from collections.abc import Mapping

from torch import Tensor, nn

_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_EXCITATION = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
#: A block that widens first, and one that does not.
_WIDENING = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
    "_project_conv": "conv_pwl", "_bn2": "bn3", **_EXCITATION,
}  # fmt: skip
_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2", **_EXCITATION}
_BLOCK = re.compile(r"_blocks\.(\d+)\.(\w+)\.(\w+)")


def by_timms_names(tensors: Mapping[str, Tensor], whole: nn.Module) -> dict[str, Tensor]:
    """`tensors` by the names that timm's `whole` network has for them; as they are where they are nobody else's.

    efficientnet_pytorch counts blocks through (`_blocks.4`), timm by stages (`blocks.2.1`).
    """
    if "_conv_stem.weight" not in tensors:
        return dict(tensors)
    places = {name.rsplit(".", maxsplit=name.count(".") - 2)[0] for name in whole.state_dict() if name[:7] == "blocks."}
    blocks = sorted(places, key=lambda place: [int(number) for number in place.split(".")[1:]])
    return {_timms(name, tensors, blocks): tensor for name, tensor in tensors.items()}


def _timms(name: str, tensors: Mapping[str, Tensor], blocks: list[str]) -> str:
    if (match := _BLOCK.fullmatch(name)) is None:
        layer, _, kind = name.partition(".")
        return f"{_OUTSIDE.get(layer, layer)}.{kind}"
    number, layer, kind = match.groups()
    names = _WIDENING if f"_blocks.{number}._expand_conv.weight" in tensors else _PLAIN
    return f"{blocks[int(number)]}.{names[layer]}.{kind}" if int(number) < len(blocks) and layer in names else name
