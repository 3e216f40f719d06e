"""A calibrated probability says how often such an answer is right."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolforge.calibration import Calibration, cross_fitted, expected_error, fit, threshold

PROBABILITIES = st.floats(0, 1)


def test_over_confident_answers_are_brought_down_to_how_often_they_are_right():
    chance = random.Random(0)
    truth = [chance.random() for _ in range(4000)]
    # A model that says the logit three times too large, and 1 too high.
    said = [1 / (1 + math.exp(-(3 * math.log(p / (1 - p)) + 1))) for p in truth]
    found = fit(said, [chance.random() < p for p in truth])
    for p, over in zip(truth, said, strict=True):
        if 1e-6 < over < 1 - 1e-6:
            assert found.apply(over) == pytest.approx(p, abs=0.04)


@given(PROBABILITIES)
def test_without_a_fit_nothing_changes(probability):
    assert Calibration().apply(probability) == pytest.approx(probability, abs=2e-7)


@given(st.floats(0, 5), st.floats(-5, 5), PROBABILITIES, PROBABILITIES)
def test_the_surer_answer_stays_the_surer(slope, intercept, one, other):
    calibration = Calibration(slope=slope, intercept=intercept)
    low, high = sorted((calibration.apply(one), calibration.apply(other)))
    assert 0 <= low <= high <= 1
    assert (calibration.apply(min(one, other)), calibration.apply(max(one, other))) == (low, high)


@pytest.mark.parametrize("right", [True, False])
def test_answers_that_are_all_right_or_all_wrong_have_a_calibration(right):
    found = fit([0.9, 0.99, 0.5], [right] * 3)
    assert all(math.isfinite(value) for value in (found.slope, found.intercept))
    assert (found.apply(0.9) > 0.5) == right


def test_each_answers_cross_fitted_probability_is_of_a_calibration_that_did_not_see_it():
    confidences, correct = [0.6, 0.7, 0.8, 0.9, 0.95, 0.99], [False, True, False, True, True, True]
    found = cross_fitted(confidences, correct, folds=3)
    for n in range(6):
        others = [m for m in range(6) if m % 3 != n % 3]
        expected = fit([confidences[m] for m in others], [correct[m] for m in others]).apply(confidences[n])
        assert found[n] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("probabilities", "correct", "expected"),
    [
        ([1.0, 1.0], [True, True], 0.0),
        ([1.0, 1.0], [True, False], 0.5),
        # Two bins, of three answers and of one: 3/4 x |0.9 - 2/3| + 1/4 x |0.2 - 0|.
        ([0.9, 0.9, 0.9, 0.2], [True, True, False, False], 0.225),
    ],
)
def test_the_expected_calibration_error_is_that_worked_by_hand(probabilities, correct, expected):
    assert expected_error(probabilities, correct) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("probabilities", "correct", "precision", "expected"),
    [
        ([0.9, 0.8, 0.7, 0.6], [True, True, False, True], 0.99, 0.8),
        # Below a wrong answer there may be enough right ones again.
        ([0.9, 0.8, 0.7, 0.6], [True, False, True, True], 0.75, 0.6),
        # Answers of one probability are taken together: one of these is wrong.
        ([0.9, 0.9, 0.5], [True, False, False], 0.99, None),
        ([0.9, 0.8], [False, False], 0.99, None),
        ([0.9, 0.8], [True, True], 0.99, 0.8),
    ],
)
def test_the_threshold_is_the_lowest_probability_from_which_enough_is_right(
    probabilities, correct, precision, expected
):
    assert threshold(probabilities, correct, precision) == expected
