"""UniMatch V2, learning: hard labels of a teacher where it is sure, CutMix, complementary dropout, moving averages.

L. Yang et al., "UniMatch V2: Pushing the Limit of Semi-Supervised Semantic Segmentation", TPAMI 2025
(arXiv:2410.10777). What follows its public code is marked [C], our own decisions [D]. Losses are computed in float32 at
least, whatever autocast says.

Shapes: `U` unlabelled images, `C` channels, background first; `D` feature width, `H W` pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from wilss.equations.kernels import exact, first_greatest
from wilss_train.methods.losses.kernels import mean_inside


def sure_labels(logits: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """The likeliest channel of every pixel, and where it is as probable as `threshold` or more (softmax).

    logits: [U, C, H, W], C <= 255. Returns long [U, H, W], the first among equals, and bool [U, H, W]; of logits that
    are no numbers, which nobody may have noticed yet, the last channel, unsure.
    """
    probabilities = exact(logits).softmax(dim=1)
    labels = first_greatest(probabilities).long().clamp_max(logits.shape[1] - 1)
    return labels, probabilities.amax(dim=1) >= threshold


def cut_mixed(rows: Tensor, boxes: Tensor) -> Tensor:
    """CutMix: inside its box an image shows what the batch's image at the same place from the end shows there [C].

    With an odd number of images the one in the middle shows itself. What is mixed alike, pictures, labels and where
    they are valid, stays one thing.

    rows: [U, ..., H, W], any kind; boxes: bool [U, H, W]. Returns the shape and kind of `rows`.
    """
    inside = boxes.reshape(len(boxes), *[1] * (rows.ndim - 3), *boxes.shape[-2:])
    return torch.where(inside, rows.flip(0), rows)


def complementary(drawn: Tensor, whole: Tensor) -> Tensor:
    """Factors on the channels of two views' features, of which one has what the other lacks.

    A channel that is drawn counts twice in the first view and is 0 in the second; one that is not, the other way
    round. Their mean is 1, and an image that stays whole has 1 everywhere (Sec. 3.3; half of them do [C]).

    drawn: bool [U, D]; whole: bool [U]. Returns float32 [2, U, D] of values 0, 1 and 2.
    """
    first = torch.where(whole[:, None], 1.0, 2.0 * drawn.float())
    return torch.stack([first, 2.0 - first])


def sure_ce(logits: Tensor, labels: Tensor, sure: Tensor, valid: Tensor) -> Tensor:
    """Cross-entropy with hard labels where they are sure, averaged over all valid pixels of an image, then over images.

    So a picture counts by how much of it is sure. The public code averages over the valid pixels of a batch, which is
    the same where images have as many of them; taken per image no part of a batch depends on the others [D].

    logits: [U, C, H, W]; labels: long [U, H, W], channels; sure, valid: bool [U, H, W]. Returns a scalar >= 0.
    """
    per_pixel = F.cross_entropy(exact(logits), labels, reduction="none")
    return mean_inside(torch.where(sure, per_pixel, 0.0), valid)


def share_kept(taken: int, most: float) -> float:
    """How much of the moving average stays after `taken` optimiser steps, from 1: min(1 - 1 / taken, most) [C].

    After the first step the teacher is the student; until 1 / (1 - most) steps it is the mean over all of them.
    Returns a number in [0, most].
    """
    return min(1.0 - 1.0 / taken, most)


def averaged(teacher: Tensor, student: Tensor, kept: float) -> Tensor:
    """kept * teacher + (1 - kept) * student; whole numbers, which count batches, are the student's [D].

    Where both are one number it stays to the bit, as in a frozen backbone, of which no state is saved.

    teacher, student: of one shape; kept: in [0, 1]. Returns that shape.
    """
    if not teacher.is_floating_point():
        return student
    return teacher.lerp(student, 1.0 - kept)
