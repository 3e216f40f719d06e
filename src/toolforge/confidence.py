"""How far calibrated probabilities of being right can be trusted, and what a threshold on them keeps: pure functions."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field
from sklearn.metrics import brier_score_loss

from toolforge import calibration
from toolforge.calibration import Calibration
from toolforge.params import Params
from toolforge.scoring import share


class ConfidenceParams(Params):
    """The share of answers that have to be right above the threshold, and the thresholds that are looked at beside it (each 0 to 1)."""

    precision: float = Field(gt=0, le=1)
    thresholds: list[Annotated[float, Field(ge=0, le=1)]]


def scores(
    confidences: Sequence[float],
    correct: Sequence[bool],
    fitted: Calibration,
    threshold: float | None,
    params: ConfidenceParams,
) -> dict[str, Any]:
    """How well a calibration that was fitted on other answers does on these, and what is kept and what escalated at the thresholds.

    The Brier score is the mean squared distance of the probability from what happened, 1 or 0 (Brier 1950). Requires one answer or more.
    """
    probabilities = [fitted.apply(confidence) for confidence in confidences]
    return {
        "ece": round(calibration.expected_error(probabilities, correct), 4),
        "ece_uncalibrated": round(calibration.expected_error(confidences, correct), 4),
        "brier": round(float(brier_score_loss(correct, probabilities)), 4),
        "precision_asked": params.precision,
        "threshold": threshold,
        "at_threshold": None if threshold is None else _kept(probabilities, correct, threshold, "precision"),
        "escalation": [
            {"threshold": one, **_kept(probabilities, correct, one, "call_accuracy")} for one in params.thresholds
        ],
    }


def _kept(probabilities: Sequence[float], correct: Sequence[bool], threshold: float, name: str) -> dict[str, float]:
    kept = [right for probability, right in zip(probabilities, correct, strict=True) if probability >= threshold]
    coverage = len(kept) / len(correct)
    return {"coverage": round(coverage, 4), "escalated": round(1 - coverage, 4), **share(kept, name)}


def risk_coverage(confidences: Sequence[float], correct: Sequence[bool]) -> list[tuple[float, float, float]]:
    """The risk-coverage curve (El-Yaniv and Wiener 2010): for each confidence, highest first, the share of answers that have it or more,
    the share of those that is wrong, and the confidence.
    """
    points, wrong = list[tuple[float, float, float]](), 0
    ranked = sorted(zip(confidences, correct, strict=True), reverse=True)
    for count, (confidence, is_right) in enumerate(ranked, 1):
        wrong += not is_right
        # Answers of one confidence are taken or left together.
        if count == len(ranked) or ranked[count][0] != confidence:
            points.append((round(count / len(ranked), 4), round(wrong / count, 4), confidence))
    return points
