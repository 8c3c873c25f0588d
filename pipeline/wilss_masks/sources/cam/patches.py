"""What patches of every class and of the background look like, learnt from the maps of all images; ours.

One image's map says too little of its background; those of all images say what grass, sky and water are.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from wilss.data.images import patch_grid_size, resize_uint8
from wilss.equations import cam
from wilss.equations.affinity import Affinity
from wilss.randomness import generator_for

from .looking import Eyes, Teaching, require_seen
from .params import CamParams
from .views import opened

#: Patches that are learnt from together, and of one image at most.
_MOST, _OF_IMAGE = 100_000, 512
_STEPS, _LR, _BATCH = 250, 3e-3, 4096
#: Numbers of the affinity that stand in memory at a time, 64 MiB.
_BLOCK = 2**24


def along(compared: list[Tensor], grid: tuple[int, int], temperature: float, rounds: int) -> Callable[[Tensor], Tensor]:
    """The product with the affinity of an image's patches. compared: feature maps [D, h, w], see `patch_features`."""
    features = cam.patch_features(compared, grid)
    length = len(features)
    return Affinity(
        rows=cam.feature_rows(features, temperature),
        length=length,
        step=max(1, min(length, _BLOCK // length)),
        balance="sinkhorn" if rounds else "none",
        rounds=rounds,
    ).spread


def spread_score(score: Tensor, compared: list[Tensor], params: CamParams) -> Tensor:
    """Maps [T, h, w] in [0, 1] spread along the affinity; as they are where nothing is compared."""
    if not compared:
        return score
    spread = along(compared, (score.shape[-2], score.shape[-1]), params.temperature, params.rounds)
    return cam.spread_often(score, spread, passes=params.passes, power=params.power)


def learn_patches(eyes: Eyes) -> None:
    """The linear layer that tells the patches of the training images apart, put into the classifier."""
    features, labels = _lessons(eyes)
    values = features.float()
    middle, spread = values.mean(dim=0), values.std(dim=0, correction=0).clamp_min(1e-6)
    del values
    rows, bias = _regression(eyes, features, labels, middle, spread)
    layer = eyes.classifier.patches
    with torch.no_grad():
        layer.weight.copy_(rows / spread)
        layer.bias.copy_(bias - (rows / spread) @ middle)


def _lessons(eyes: Eyes) -> tuple[Tensor, Tensor]:
    """Patches float16 [M, D' + D], drawn of every image by its name, and what its maps say they are, int64 [M]."""
    lessons, params = eyes.teaching.lessons, eyes.teaching.params
    most = max(1, min(_OF_IMAGE, _MOST // len(lessons.records)))
    drawn: dict[int, tuple[Tensor, Tensor]] = {}
    for row, stages in eyes.walk("looking at patches"):
        shown = torch.from_numpy(lessons.tags[row]).nonzero().flatten()
        if not len(shown):
            continue
        previous, last = (stage.float().to(eyes.teaching.device) for stage in stages)
        with torch.no_grad():
            score = cam.over_maximum(cam.activation_maps(last, eyes.classifier.rows.weight[shown.to(last.device)]))
            maps = spread_score(score, _compared(eyes.teaching, row, [previous, last]), params)
            said = cam.patch_labels(maps.flatten(1), params.patch_cut).cpu()
        labels = torch.where(said > 0, shown[(said - 1).clamp_min(0)] + 1, 0)
        generator = generator_for(eyes.teaching.seed, lessons.records[row].image_id, "patches")
        places = torch.randperm(len(labels), generator=generator)[:most]
        features = cam.stacked_features([previous, last], (last.shape[-2], last.shape[-1])).cpu()
        drawn[row] = features[places].half(), labels[places]
    require_seen(list(drawn), lessons)
    return torch.cat([features for features, _ in drawn.values()]), torch.cat([said for _, said in drawn.values()])


def _compared(teaching: Teaching, row: int, stages: list[Tensor]) -> list[Tensor]:
    """What the patches of a training image are compared by, each [D, h, w]. stages: its own feature maps."""
    params = teaching.params
    if params.affinity_from == "own":
        return stages
    image = None if teaching.vit is None else opened(teaching.lessons.records[row])
    if teaching.vit is None or image is None:
        return []
    size = patch_grid_size(
        *image.shape[-2:], shorter=params.learn_size or None, longest=params.longest, patch=teaching.vit.patch
    )
    return [teaching.vit.features(resize_uint8(image, size)[None].to(teaching.device), "keys")[0]]


def _regression(eyes: Eyes, features: Tensor, labels: Tensor, middle: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [C + 1, D' + D] and bias [C + 1] on standardised features: a penalised logistic regression, in batches."""
    params, classes = eyes.teaching.params, len(eyes.teaching.lessons.names) + 1
    weights = cam.balanced_weights(labels, classes, params.patch_power)
    rows = torch.zeros(classes, features.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimiser = torch.optim.Adam([rows, bias], lr=_LR)
    for step in range(_STEPS):
        generator = generator_for(eyes.teaching.seed, "cam-patches", step)
        some = torch.randint(len(labels), (min(_BATCH, len(labels)),), generator=generator)
        logits = (features[some].float() - middle) / spread @ rows.T + bias
        losses = F.cross_entropy(logits, labels[some], reduction="none") * weights[some]
        loss = losses.mean() + params.patch_decay * rows.square().sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return rows.detach(), bias.detach()
