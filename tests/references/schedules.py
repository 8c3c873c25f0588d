"""Learning rates and the update of SGD once more, slowly: plain numbers, written from the papers' public code.

WILSON (F. Cermelli et al., CVPR 2022): constant while the localizer learns alone, then poly of the whole run. PANet
(K. Wang et al., ICCV 2019): times 0.1 at every milestone.
"""


def poly_after_warm_up(steps, alone, power):
    """The factor of every optimiser step."""
    factors = []
    for step in range(steps):
        left = (steps - step) / steps
        factors.append(1.0 if step < alone else left**power)
    return factors


def rates_of_wilson(images, batch, epochs, alone, peak):
    """The rate of every iteration over a list: `drop_last`, `alone` epochs constant, poly of 0.9 over all of them."""
    batches = []
    for epoch in range(epochs):
        for last in range(1, images + 1):
            if last % batch == 0:
                batches.append(epoch)
    rates = []
    for number, epoch in enumerate(batches):
        rates.append(peak if epoch < alone else peak * (1 - number / len(batches)) ** 0.9)
    return rates


def at_milestones(steps, milestones, by):
    """The factor of every optimiser step."""
    factors, factor = [], 1.0
    for step in range(steps):
        if step in milestones:
            factor *= by
        factors.append(factor)
    return factors


def linear_growth(factors, alone, warmup):
    """`factors` with growth over `warmup` steps, from the first one, and again from step `alone` on."""
    grown = list(factors)
    for start, end in ((0, alone), (alone, len(factors))):
        for step in range(start, min(end, start + warmup)):
            grown[step] = factors[step] * (step - start + 1) / warmup
    return grown


def descended(weight, gradients, rates, momentum, weight_decay, nesterov):
    """A weight after these gradients at these rates (Sutskever et al., 2013, as torch has it)."""
    velocity = 0.0
    for gradient, rate in zip(gradients, rates, strict=True):
        slope = gradient + weight_decay * weight
        velocity = momentum * velocity + slope
        weight -= rate * (slope + momentum * velocity if nesterov else velocity)
    return weight
