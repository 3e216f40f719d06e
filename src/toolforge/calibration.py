"""From the probability that a model gives its answer to the probability that the answer is right."""

import math
from collections.abc import Sequence

from toolforge.records import Row

# The furthest from 0 and 1 that a probability is told from certainty: float32's own precision.
_CLOSEST = 1e-7


class Calibration(Row):
    """Platt scaling of a probability's logit. As it is made without arguments it changes nothing."""

    slope: float = 1.0
    intercept: float = 0.0

    def apply(self, confidence: float) -> float:
        """The calibrated probability, 0 to 1."""
        return 1 / (1 + math.exp(-(self.slope * _logit(confidence) + self.intercept)))


def _logit(probability: float) -> float:
    clipped = min(max(probability, _CLOSEST), 1 - _CLOSEST)
    return math.log(clipped / (1 - clipped))


def fit(confidences: Sequence[float], correct: Sequence[bool]) -> Calibration:
    """The calibration of the highest likelihood, with Platt's smoothed targets (Platt 1999, "Probabilistic outputs for
    support vector machines", eq. 14), so that answers that are all right, or all wrong, have one too. Requires at least one answer.
    """
    # Imported here: a router applies a calibration and never fits one.
    from sklearn.linear_model import LogisticRegression

    right = sum(correct)
    high, low = (right + 1) / (right + 2), 1 / (len(correct) - right + 2)
    targets = [high if is_right else low for is_right in correct]
    # A target between 0 and 1 is the same row said twice, right with its weight and wrong with the rest.
    logits = [[_logit(confidence)] for confidence in confidences] * 2
    labels = [1] * len(targets) + [0] * len(targets)
    weights = [*targets, *(1 - target for target in targets)]
    model = LogisticRegression(C=math.inf).fit(logits, labels, sample_weight=weights)
    return Calibration(slope=float(model.coef_[0, 0]), intercept=float(model.intercept_[0]))
