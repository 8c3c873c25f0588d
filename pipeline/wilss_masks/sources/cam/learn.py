"""A classifier learns the tags of a step: the rows of the classes alone, or with the layers below them; then patches.

Everything is drawn by name (seed, step of learning), so that the same images, parameters, device and threads give the
same weights, whether it was stopped and taken up again or not.
"""

import math

import torch
from torch import Tensor

from wilss.equations.cam import positive_weights, tag_loss
from wilss.models.networks.classifier import Classifier

from .descent import Descent
from .looking import Eyes, Teaching, require_seen, tell_of_unseen
from .params import CamParams
from .patches import learn_patches
from .state import forget_state, read_state

_STEPS, _LR = 300, 3e-3  # of the rows alone; their problem is convex, and this is close to its end


def learn(classifier: Classifier, teaching: Teaching) -> None:
    """Teach a classifier that has its backbone's weights, in place; it stays in evaluation mode throughout."""
    classifier.to(teaching.device).eval()
    eyes = Eyes(classifier, teaching)
    if teaching.params.epochs:
        classifier.hold(teaching.params.hold)
        descent = Descent(classifier, teaching)
        done = read_state(teaching.state, classifier, descent.optimiser)
        if not done:
            _learn_rows(eyes)
        descent.go_on(done)
        eyes = Eyes(classifier, teaching)  # what was seen was seen by another network
    else:
        _learn_rows(eyes)
    if teaching.params.patches:
        learn_patches(eyes)
    forget_state(teaching.state)


def _learn_rows(eyes: Eyes) -> None:
    """The rows that tell the classes apart best by the features as they are: a logistic regression, penalised."""
    classifier, teaching = eyes.classifier, eyes.teaching
    pooled = {row: last.float().mean(dim=(-2, -1)) for row, (_, last) in eyes.walk("looking at the images")}
    require_seen(list(pooled), teaching.lessons)
    tell_of_unseen(list(pooled), teaching.lessons)
    features = torch.stack(list(pooled.values())).to(teaching.device)
    tags = torch.from_numpy(teaching.lessons.tags[list(pooled)]).to(features.device)
    middle, spread = features.mean(dim=0), features.std(dim=0, correction=0).clamp_min(1e-6)
    rows, bias = _regression((features - middle) / spread, tags, teaching.params)
    with torch.no_grad():
        classifier.rows.weight.copy_(rows / spread)
        classifier.rows.bias.copy_(bias - (rows / spread) @ middle)


def _regression(features: Tensor, tags: Tensor, params: CamParams) -> tuple[Tensor, Tensor]:
    """Rows [C, D] and bias [C] for standardised features [N, D]."""
    rows = torch.zeros(tags.shape[1], features.shape[1], device=features.device, requires_grad=True)
    bias = torch.zeros(tags.shape[1], device=features.device, requires_grad=True)
    positive = positive_weights(tags, params.positive_power, math.inf)
    optimiser = torch.optim.Adam([rows, bias], lr=_LR)
    for _ in range(_STEPS):
        loss = tag_loss(features @ rows.T + bias, tags, positive) + params.rows_decay * rows.square().sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return rows.detach(), bias.detach()
