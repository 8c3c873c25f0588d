"""A classifier of image tags: a backbone's last feature map, averaged, and a row of weights per class.

The average is linear, so that the rows also say where in the map a class is (`wilss.equations.cam`).

Shapes: `B` batch, `C` classes, `D` feature width, `H W` pixels, `h w` feature grid.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wilss.disk import write_atomically
from wilss.errors import CheckpointError
from wilss.models.networks.backbones import build_backbone
from wilss.models.networks.spec import SegmenterSpec
from wilss.models.tensor_files import digest_of_tensors
from wilss.randomness import seed_for

FORMAT, FORMAT_VERSION = "wilss-classifier", 1
_KEY = "wilss"  # one key only: safetensors keeps several in no fixed order


class Classifier(nn.Module):
    """A backbone and a linear layer on the average of its last feature map, the tags' `rows`.

    patches: a linear layer on the last two feature maps, side by side, which says of each patch how much it looks like
    the background, which is first, and like every class.

    spec: of the backbone; `num_channels` is the number of classes. The statistics of batch norm are those of the
    backbone's weights and stay so, also while it learns: batches of few images have none of their own.
    """

    def __init__(self, spec: SegmenterSpec, seed: int = 0) -> None:
        super().__init__()
        self.spec = spec
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed_for(seed, "classifier"))
            self.backbone = build_backbone(spec)
            self.rows = nn.Linear(self.backbone.feature_dim, spec.num_channels)
            self.patches = nn.Linear(self.backbone.previous_dim + self.backbone.feature_dim, spec.num_channels + 1)

    def stages(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The feature maps of the last two stages, [B, D', h', w'] and [B, D, h, w]. images: [B, 3, H, W]."""
        return self.backbone.stages(images)

    def pooled(self, images: Tensor) -> Tensor:
        """The average of the last feature map, [B, D]. images: float [B, 3, H, W], normalised."""
        found: Tensor = self.backbone(images).mean(dim=(-2, -1))
        return found

    def forward(self, images: Tensor) -> Tensor:
        """A logit per class, [B, C]."""
        found: Tensor = self.rows(self.pooled(images))
        return found

    def hold(self, share: float) -> None:
        """Let the first `share` of the backbone's tensors, in the order of its layers, learn nothing."""
        tensors = list(self.backbone.parameters())
        for number, tensor in enumerate(tensors):
            tensor.requires_grad_(number >= round(share * len(tensors)))


def write_classifier(path: Path, classifier: Classifier, facts: Mapping[str, Any]) -> None:
    """Write its weights and what it is; equal content gives equal bytes. facts: what else the header says."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in classifier.state_dict().items()}
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "spec": classifier.spec.as_json(),
        "weights_sha256": digest_of_tensors(tensors),
        **facts,
    }
    write_atomically(path, save(tensors, {_KEY: json.dumps(header, sort_keys=True)}))


def read_classifier(path: Path) -> Classifier:
    """The classifier in a file, in evaluation mode, on the CPU.

    Raises CheckpointError where there is none, and for one that is damaged or of another version.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        if header["format"] != FORMAT or header["format_version"] > FORMAT_VERSION:
            raise CheckpointError(f"{path} is no classifier of this version of wilss; remove it, or upgrade wilss.")
        if header["weights_sha256"] != digest_of_tensors(tensors):
            raise CheckpointError(f"{path} is damaged: its weights do not match their digest; remove it.")
        classifier = Classifier(SegmenterSpec.from_json(header["spec"]))
        classifier.load_state_dict(tensors)
    except CheckpointError:
        raise
    except Exception as error:  # safetensors raises its own kind for damage of any sort
        raise CheckpointError(f"{path} cannot be read ({error}); remove it, and it is learnt again.") from error
    return classifier.eval()
