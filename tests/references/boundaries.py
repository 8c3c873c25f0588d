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
    lines = lines_of(image, maps, radius, eps)
    return np.stack([(line[:3] * image).sum(axis=0) + line[3] for line in lines])


def fast_guided(image, maps, radius, eps, step):
    """The same by lines of a picture `step` times smaller, which divides its sides."""
    image, maps = image.astype(np.float64), maps.astype(np.float64)
    lines = lines_of(averaged(image, step), averaged(maps, step), round(radius / step), eps)
    return np.stack([(large[:3] * image).sum(axis=0) + large[3] for large in (enlarged(one, step) for one in lines)])


def averaged(planes, step):
    """[C, h, w] -> [C, h / step, w / step], means of areas."""
    _, height, width = planes.shape
    small = np.zeros((len(planes), height // step, width // step))
    for row in range(height // step):
        for column in range(width // step):
            area = planes[:, row * step : (row + 1) * step, column * step : (column + 1) * step]
            small[:, row, column] = area.mean(axis=(1, 2))
    return small


def enlarged(planes, step):
    """[C, h, w] -> [C, h step, w step], bilinear between pixel centres, the outermost going on."""
    _, height, width = planes.shape
    large = np.zeros((len(planes), height * step, width * step))
    for row in range(height * step):
        for column in range(width * step):
            y, x = (max((place + 0.5) / step - 0.5, 0.0) for place in (row, column))
            top, left = int(y), int(x)
            below, right = min(top + 1, height - 1), min(left + 1, width - 1)
            down, over = y - top, x - left
            upper = planes[:, top, left] * (1 - over) + planes[:, top, right] * over
            lower = planes[:, below, left] * (1 - over) + planes[:, below, right] * over
            large[:, row, column] = upper * (1 - down) + lower * down
    return large


def lines_of(image, maps, radius, eps):
    """[K, 4, h, w]: the mean slope of the three channels, then the mean offset."""
    height, width = maps.shape[1:]
    result = np.zeros((len(maps), 4, height, width))
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
                result[k, :3, row, column] = np.mean([slopes[place] for place in inside], axis=0)
                result[k, 3, row, column] = np.mean([offsets[place] for place in inside])
    return result


def window(row, column, height, width, radius):
    rows = range(max(row - radius, 0), min(row + radius, height - 1) + 1)
    columns = range(max(column - radius, 0), min(column + radius, width - 1) + 1)
    return [(y, x) for y in rows for x in columns]
