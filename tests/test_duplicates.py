"""Which queries count as the same."""

import pytest

from toolforge.duplicates import near_pairs, normal


def test_near_pairs_finds_rewordings_and_not_different_queries():
    queries = ["weather in Oslo tomorrow", "weather in oslo tomorrow?", "define laconic", "what is 15% of 240"]
    assert [(i, j) for i, j, _ in near_pairs(queries, 0.8)] == [(0, 1)]
    assert near_pairs(queries[:1], 0.8) == []


@pytest.mark.parametrize(("one", "other"), [("Hi!", "hi"), ("is it 5?", "is it 5"), ("a  b.", "A b")])
def test_exact_duplicates_differ_only_in_case_marks_and_spaces(one, other):
    assert normal(one) == normal(other)
    assert normal("1.5 + 2") != normal("15 + 2")
