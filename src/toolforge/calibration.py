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


def fit_with_threshold(
    confidences: Sequence[float], correct: Sequence[bool], precision: float
) -> tuple[Calibration, float | None]:
    """The calibration, and the calibrated probability from which on at least a share of `precision` of these answers is right."""
    found = fit(confidences, correct)
    return found, threshold([found.apply(confidence) for confidence in confidences], correct, precision)


def cross_fitted(confidences: Sequence[float], correct: Sequence[bool], folds: int = 10) -> list[float]:
    """The calibrated probability of each answer, by a calibration that was fitted on the other folds: every `folds`-th answer is one.

    Requires two answers or more.
    """
    rows = range(len(confidences))
    found = [0.0] * len(confidences)
    for fold in range(min(folds, len(confidences))):
        others = [n for n in rows if n % folds != fold]
        calibration = fit([confidences[n] for n in others], [correct[n] for n in others])
        for n in rows[fold::folds]:
            found[n] = calibration.apply(confidences[n])
    return found


def expected_error(probabilities: Sequence[float], correct: Sequence[bool], bins: int = 15) -> float:
    """The expected calibration error, 0 to 1 (Guo et al. 2017, "On calibration of modern neural networks"): over bins of equal
    width, the mean distance between the mean probability and the share that is right, weighed by answers.
    """
    gaps = [0.0] * bins
    for probability, is_right in zip(probabilities, correct, strict=True):
        gaps[min(int(probability * bins), bins - 1)] += probability - is_right
    return sum(abs(gap) for gap in gaps) / len(probabilities)


def threshold(probabilities: Sequence[float], correct: Sequence[bool], precision: float) -> float | None:
    """The lowest of the probabilities from which on at least a share of `precision` of the answers is right, or None."""
    lowest, right = None, 0
    ranked = sorted(zip(probabilities, correct, strict=True), reverse=True)
    for count, (probability, is_right) in enumerate(ranked, 1):
        right += is_right
        # Answers of one probability are taken or left together.
        if count < len(ranked) and ranked[count][0] == probability:
            continue
        if right >= precision * count:
            lowest = probability
    return lowest
