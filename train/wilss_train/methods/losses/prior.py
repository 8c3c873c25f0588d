"""How often a class is expected where a network is used, in the place of how often its training showed it.

M. Saerens, P. Latinne, C. Decaestecker, "Adjusting the Outputs of a Classifier to New a Priori Probabilities: A Simple
Procedure", Neural Computation 14(1), 2002, Sec. 2; as a shift of logits, A. K. Menon et al., "Long-tail Learning via
Logit Adjustment", ICLR 2021, Sec. 4. Both speak of a softmax. Where a class has a sigmoid of its own, its rival is all
that is not of it.

Shapes: `C` classes.
"""

import numpy as np
from numpy.typing import NDArray


def prior_shift(trained: NDArray[np.float64], expected: NDArray[np.float64]) -> NDArray[np.float64]:
    """What is added to a logit that was learnt under the prior `trained`, so that it holds under `expected`.

    Bayes' rule multiplies the odds of a class by the odds of the new prior over those of the old one, whatever the
    input shows: logit(expected) - logit(trained).

    trained, expected: [C], the share of pixels that are of a class, in (0, 1). Returns float64 [C], any sign; 0 where
    the two are the same.
    """
    if not all(bool(((prior > 0) & (prior < 1)).all()) for prior in (trained, expected)):
        raise ValueError("prior_shift needs shares above 0 and below 1.")
    return _logit(expected) - _logit(trained)


def softmax_shift(trained: NDArray[np.float64], expected: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same of classes of one softmax, whose other classes are what is left; their logits stay.

    Bayes' rule multiplies the probability of each class by expected / trained, and that of the rest by what the two
    leave: log(expected / trained) - log((1 - sum of expected) / (1 - sum of trained)). Of one class, `prior_shift`.

    trained, expected: [C], each above 0, with a sum below 1. Returns float64 [C].
    """
    if not all(bool((prior > 0).all() and prior.sum() < 1) for prior in (trained, expected)):
        raise ValueError("softmax_shift needs shares above 0, with a sum below 1.")
    rest = np.log1p(-expected.sum()) - np.log1p(-trained.sum())
    shifts: NDArray[np.float64] = np.log(expected) - np.log(trained) - rest
    return shifts


def _logit(share: NDArray[np.float64]) -> NDArray[np.float64]:
    values: NDArray[np.float64] = np.log(share) - np.log1p(-share)
    return values
