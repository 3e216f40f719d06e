"""A calibrated probability says how often such an answer is right."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolforge.calibration import Calibration, fit

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
