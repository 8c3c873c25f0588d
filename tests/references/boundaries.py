"""PAMR and the guided filter once more, slowly: numpy and loops, written from the papers, importing nothing of wilss.

Every function takes and returns numpy arrays and computes in float64.
"""

import math

import numpy as np


def pamr(image, maps, rounds, dilations, share=0.1):
    """[C, h, w], [K, h, w] -> [K, h, w]."""
    image, maps = image.astype(np.float64), maps.astype(np.float64)
    height, width = maps.shape[1:]
    for _ in range(rounds):
        refined = np.zeros_like(maps)
        for row in range(height):
            for column in range(width):
                places = neighbours(row, column, height, width, dilations)
                weights = alike(image, (row, column), places, share)
                for weight, (y, x) in zip(weights, places, strict=True):
                    refined[:, row, column] += weight * maps[:, y, x]
        maps = refined
    return maps


def neighbours(row, column, height, width, dilations):
    """The places around a pixel, those outside moved to the nearest pixel that is there."""
    places = []
    for dilation in dilations:
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                if down or right:
                    y = min(max(row + dilation * down, 0), height - 1)
                    x = min(max(column + dilation * right, 0), width - 1)
                    places.append((y, x))
    return places


def alike(image, pixel, places, share):
    """How much each place looks like the pixel: softmax over the places of minus the scaled contrast."""
    logits = [0.0] * len(places)
    for channel in image:
        colours = [float(channel[place]) for place in places]
        mean = sum(colours) / len(colours)
        std = math.sqrt(sum((colour - mean) ** 2 for colour in colours) / len(colours))
        for j, colour in enumerate(colours):
            logits[j] -= abs(colour - float(channel[pixel])) / (share * std + 1e-8) / len(image)
    highest = max(logits)
    powers = [math.exp(logit - highest) for logit in logits]
    return [power / sum(powers) for power in powers]


def guided(image, maps, radius, eps):
    """[3, h, w], [K, h, w] -> [K, h, w]."""
    image, maps = image.astype(np.float64), maps.astype(np.float64)
    height, width = maps.shape[1:]
    result = np.zeros_like(maps)
    for k, one in enumerate(maps):
        slopes, offsets = np.zeros((height, width, 3)), np.zeros((height, width))
        for row in range(height):
            for column in range(width):
                inside = window(row, column, height, width, radius)
                colours = np.array([image[:, y, x] for y, x in inside])
                values = np.array([one[y, x] for y, x in inside])
                mean, level = colours.mean(axis=0), values.mean()
                spread = (colours - mean).T @ (colours - mean) / len(inside)
                together = (colours - mean).T @ (values - level) / len(inside)
                slopes[row, column] = np.linalg.solve(spread + eps * np.eye(3), together)
                offsets[row, column] = level - slopes[row, column] @ mean
        for row in range(height):
            for column in range(width):
                inside = window(row, column, height, width, radius)
                slope = np.mean([slopes[place] for place in inside], axis=0)
                result[k, row, column] = slope @ image[:, row, column] + np.mean([offsets[p] for p in inside])
    return result


def window(row, column, height, width, radius):
    rows = range(max(row - radius, 0), min(row + radius, height - 1) + 1)
    columns = range(max(column - radius, 0), min(column + radius, width - 1) + 1)
    return [(y, x) for y in rows for x in columns]
