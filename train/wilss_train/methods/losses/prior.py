"""How often a class is expected where a network is used, in the place of how often its training showed it.

M. Saerens, P. Latinne, C. Decaestecker, "Adjusting the Outputs of a Classifier to New a Priori Probabilities: A Simple
Procedure", Neural Computation 14(1), 2002, Sec. 2; as a shift of logits, A. K. Menon et al., "Long-tail Learning via
Logit Adjustment", ICLR 2021, Sec. 4. Both speak of a softmax; here a class has a sigmoid of its own, and its rival is
all that is not of it.

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


def _logit(share: NDArray[np.float64]) -> NDArray[np.float64]:
    values: NDArray[np.float64] = np.log(share) - np.log1p(-share)
    return values
