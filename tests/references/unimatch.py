"""UniMatch V2 once more, slowly: numpy and loops, written from the text, importing nothing of wilss.

Every function takes and returns numpy arrays and computes in float64.
"""

import math

import numpy as np


def softmax(values):
    highest = max(values)
    powers = [math.exp(v - highest) for v in values]
    return [power / sum(powers) for power in powers]


def sure_labels(logits, threshold):
    """[U, C, H, W] -> whole numbers and bool, [U, H, W] each."""
    u, _, h, w = logits.shape
    labels, sure = np.zeros((u, h, w), int), np.zeros((u, h, w), bool)
    for image, row, column in np.ndindex(u, h, w):
        shares = softmax([float(v) for v in logits[image, :, row, column]])
        labels[image, row, column] = shares.index(max(shares))
        sure[image, row, column] = max(shares) >= threshold
    return labels, sure


def cut_mixed(rows, boxes):
    """[U, ..., H, W], bool [U, H, W] -> [U, ..., H, W]."""
    result = rows.copy()
    for image, row, column in np.ndindex(*boxes.shape):
        if boxes[image, row, column]:
            result[image, ..., row, column] = rows[len(rows) - 1 - image, ..., row, column]
    return result


def complementary(drawn, whole):
    """bool [U, D], bool [U] -> [2, U, D]."""
    result = np.ones((2, *drawn.shape))
    for image, channel in np.ndindex(*drawn.shape):
        if not whole[image]:
            result[0, image, channel] = 2 if drawn[image, channel] else 0
            result[1, image, channel] = 0 if drawn[image, channel] else 2
    return result


def sure_ce(logits, labels, sure, valid):
    """[U, C, H, W], whole numbers and two bools [U, H, W] -> a number."""
    losses = []
    for image in range(len(logits)):
        total, count = 0.0, 0
        for row, column in np.ndindex(*labels.shape[1:]):
            if valid[image, row, column]:
                count += 1
                if sure[image, row, column]:
                    shares = softmax([float(v) for v in logits[image, :, row, column]])
                    total -= math.log(shares[labels[image, row, column]])
        losses.append(total / count if count else 0.0)
    return sum(losses) / len(losses)


def teacher_after(students, most):
    """Weights of the student after each step, a list of numbers -> the teacher's after the last."""
    teacher = 0.0
    for number, student in enumerate(students):
        kept = min(1 - 1 / (number + 1), most)
        teacher = teacher * kept + student * (1 - kept)
    return teacher
