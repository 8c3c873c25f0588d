"""What patches of every class and of the background look like, learnt from the maps of all images; ours.

One image's map says too little of its background; those of all images say what grass, sky and water are.
"""

import logging
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from wilss.data.images import patch_grid_size, resize_uint8
from wilss.equations import cam
from wilss.equations.affinity import Affinity
from wilss.equations.competition import against_background
from wilss.randomness import generator_for

from .looking import SECONDS_BETWEEN_LINES, Eyes, Teaching, line, require_seen
from .params import CamParams
from .views import opened

log = logging.getLogger(__name__)

#: Patches that are learnt from together, and of one image at most.
_MOST, _OF_IMAGE = 100_000, 512
_STEPS, _LR, _BATCH = 250, 3e-3, 4096
#: Numbers of the affinity that stand in memory at a time, 64 MiB.
_BLOCK = 2**24
#: What is said that the patches of a training image are: of the row of the image, its feature maps and its tags.
Said = Callable[[Eyes, int, list[Tensor], Tensor], Tensor]


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


def patch_odds(logits: Tensor, compared: list[Tensor], params: CamParams) -> Tensor:
    """Odds [T, h, w] in [0, 1] of an image's tags against the background, by what patches look like.

    logits: [T + 1, h, w], the background first. compared: along whose affinity they are spread, see `patch_features`.
    """
    probabilities = logits.softmax(dim=0)
    if compared:
        grid = probabilities.shape[-2], probabilities.shape[-1]
        spread = along(compared, grid, params.patch_temperature, params.rounds)
        probabilities = spread(probabilities.flatten(1)).reshape(probabilities.shape)
    return against_background(probabilities)


def learn_patches(eyes: Eyes) -> None:
    """The linear layer that tells the patches of the training images apart, put into the classifier.

    It is learnt `patch_rounds` times: from the maps of the tags, and then from what the layer before says of the tags.
    """
    rounds, started, told = eyes.teaching.params.patch_rounds, time.monotonic(), time.monotonic()
    for number in range(rounds):
        walk = f"looking at patches, round {number + 1} of {rounds}"
        _learn_once(eyes, walk, _said_by_layer if number else _said_by_maps)
        if time.monotonic() - told > SECONDS_BETWEEN_LINES:
            told = time.monotonic()
            log.info("%s", line("rounds of learning patches", number + 1, rounds, started))


def _said_by_maps(eyes: Eyes, row: int, stages: list[Tensor], shown: Tensor) -> Tensor:
    """Labels int64 [L] of an image's patches by the spread maps of its tags: 0, or 1 + the place in `shown`."""
    params = eyes.teaching.params
    score = cam.over_maximum(cam.activation_maps(stages[1], eyes.classifier.rows.weight[shown]))
    maps = spread_score(score, _compared(eyes.teaching, row, stages), params)
    return cam.patch_labels(maps.flatten(1), params.patch_cut)


def _said_by_layer(eyes: Eyes, row: int, stages: list[Tensor], shown: Tensor) -> Tensor:
    """The same by the layer that was learnt before."""
    params, grid = eyes.teaching.params, (stages[1].shape[-2], stages[1].shape[-1])
    layer = eyes.classifier.patches
    chosen = torch.cat([shown.new_zeros(1), shown + 1])
    logits = (cam.stacked_features(stages, grid) @ layer.weight[chosen].T + layer.bias[chosen]).T
    odds = patch_odds(logits.reshape(-1, *grid), _compared(eyes.teaching, row, stages), params)
    return cam.patch_labels(odds.flatten(1), params.patch_again)


def _learn_once(eyes: Eyes, walk: str, said: Said) -> None:
    features, labels = _lessons(eyes, walk, said)
    values = features.float()
    middle, spread = values.mean(dim=0), values.std(dim=0, correction=0).clamp_min(1e-6)
    del values
    rows, bias = _regression(eyes, features, labels, middle, spread)
    layer = eyes.classifier.patches
    with torch.no_grad():
        layer.weight.copy_(rows / spread)
        layer.bias.copy_(bias - (rows / spread) @ middle)


def _lessons(eyes: Eyes, walk: str, said: Said) -> tuple[Tensor, Tensor]:
    """Patches float16 [M, D' + D], drawn of every image by its name, and what is said that they are, int64 [M]."""
    lessons, device = eyes.teaching.lessons, eyes.teaching.device
    most = max(1, min(_OF_IMAGE, _MOST // len(lessons.records)))
    drawn: dict[int, tuple[Tensor, Tensor]] = {}
    for row, maps in eyes.walk(walk):
        shown = torch.from_numpy(lessons.tags[row]).nonzero().flatten()
        if not len(shown):
            continue
        stages = [stage.float().to(device) for stage in maps]
        with torch.no_grad():
            places = said(eyes, row, stages, shown.to(device)).cpu()
        labels = torch.where(places > 0, shown[(places - 1).clamp_min(0)] + 1, 0)
        generator = generator_for(eyes.teaching.seed, lessons.records[row].image_id, "patches")
        some = torch.randperm(len(labels), generator=generator)[:most]
        features = cam.stacked_features(stages, (stages[1].shape[-2], stages[1].shape[-1])).cpu()
        drawn[row] = features[some].half(), labels[some]
    require_seen(list(drawn), lessons)
    return torch.cat([features for features, _ in drawn.values()]), torch.cat([known for _, known in drawn.values()])


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
