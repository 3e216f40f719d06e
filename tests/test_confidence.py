"""What a threshold keeps and what confidence is worth, worked by hand."""

import pytest

from toolforge.calibration import Calibration
from toolforge.confidence import ConfidenceParams, risk_coverage, scores

PARAMS = ConfidenceParams(precision=0.99, thresholds=[0.5, 0.85, 1.0])
CONFIDENCES, CORRECT = [0.9, 0.8, 0.6, 0.1], [True, True, False, False]


def test_scores_are_those_worked_by_hand():
    found = scores(CONFIDENCES, CORRECT, Calibration(), 0.8, PARAMS)
    # 0.1^2, 0.2^2, 0.6^2 and 0.1^2, in four.
    assert found["brier"] == pytest.approx(0.105)
    # Each answer has a bin of its own: the same distances, 0.1, 0.2, 0.6 and 0.1, in four.
    assert found["ece"] == found["ece_uncalibrated"] == pytest.approx(0.25)
    assert found["at_threshold"] | {"precision_low": 0, "precision_high": 0} == {
        "coverage": 0.5,
        "escalated": 0.5,
        "n": 2,
        "precision": 1.0,
        "precision_low": 0,
        "precision_high": 0,
    }
    kept = {part["threshold"]: part for part in found["escalation"]}
    assert (kept[0.5]["escalated"], kept[0.5]["call_accuracy"]) == (0.25, 0.6667)
    assert (kept[0.85]["escalated"], kept[0.85]["call_accuracy"]) == (0.75, 1.0)
    # Where everything is escalated there is no accuracy to tell.
    assert kept[1.0] == {"threshold": 1.0, "coverage": 0.0, "escalated": 1.0, "n": 0}


def test_a_calibration_of_others_is_applied_to_what_thresholds_and_scores_see():
    found = scores(CONFIDENCES, CORRECT, Calibration(slope=0.0, intercept=0.0), 0.5, PARAMS)
    assert (found["ece"], found["brier"], found["at_threshold"]["coverage"]) == (0.0, 0.25, 1.0)
    assert found["ece_uncalibrated"] == pytest.approx(0.25)


def test_no_threshold_keeps_nothing_to_be_precise_about():
    assert scores(CONFIDENCES, CORRECT, Calibration(), None, PARAMS)["at_threshold"] is None


def test_the_risk_of_the_surest_comes_first_and_equal_confidences_stand_together():
    assert risk_coverage([0.5, 0.9, 0.5, 0.2], [True, True, False, False]) == [
        (0.25, 0.0, 0.9),
        (0.75, 0.3333, 0.5),
        (1.0, 0.5, 0.2),
    ]
