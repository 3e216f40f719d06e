"""What eval makes of answers, on rows laid out by hand."""

import pytest

from toolforge.errors import InputError
from toolforge.records import Prediction, Question, ToolCall
from toolforge.stages.eval import confidences, load_questions, score


def weather(*places):
    return [ToolCall(name="weather", arguments={"location": place}) for place in places]


def product(expression):
    return [ToolCall(name="calculator", arguments={"expression": expression})]


# A row's question, and what was answered to it.
ROWS = [
    (Question(id="a", query="a", calls=weather("Oslo"), source="authored", unseen_entities=True), weather("Oslo")),
    (Question(id="b", query="b", calls=weather("Rome"), source="authored"), weather("Roma")),
    (Question(id="c", query="c", calls=weather("Oslo", "Rome"), source="hand", suite="lists"), weather("Oslo")),
    (Question(id="d", query="d", calls=[], source="hand", suite="traps"), []),
    (Question(id="e", query="e", calls=product("2*3"), source="hand"), product("3 * 2")),
    (Question(id="f", query="f"), weather("Bonn")),
]


def answered(rows):
    return [
        Prediction(id=q.id, query=q.query, calls=q.calls, predicted=calls, answer="", confidence=0.5)
        for q, calls in rows
    ]


def found(rows=ROWS):
    return score([question for question, _ in rows], answered(rows), ["weather", "calculator", "no_tool", "multi_tool"])


def test_rows_are_told_apart_by_what_they_say_of_themselves():
    scores = found()
    # The row without gold is answered and not scored.
    assert scores["n"] == 5
    assert {
        name: {key: (part["n"], part["tool_accuracy"], part["call_accuracy"]) for key, part in scores[name].items()}
        for name in ("by_suite", "by_source", "by_number_of_calls", "by_unseen_entities")
    } == {
        "by_suite": {"lists": (1, 0, 0), "traps": (1, 1, 1)},
        "by_source": {"authored": (2, 1, 0.5), "hand": (3, pytest.approx(2 / 3, abs=1e-4), pytest.approx(1 / 3, abs=1e-4))},
        "by_number_of_calls": {"0": (1, 1, 1), "1": (3, 1, pytest.approx(1 / 3, abs=1e-4)), "2": (1, 0, 0)},
        "by_unseen_entities": {"unseen": (1, 1, 1)},
    }  # fmt: skip


def test_what_gives_the_same_value_counts_as_right_by_value():
    scores = found()
    assert scores["by_class"]["calculator"]["call_accuracy"] == 0
    assert scores["by_class"]["calculator"]["value_accuracy"] == 1


def test_rows_without_gold_are_only_counted():
    assert found(ROWS[-1:]) == {"rows": 1}


def test_a_slice_that_no_row_is_in_is_left_out():
    assert "by_suite" not in found(ROWS[:2])
    assert "by_unseen_entities" not in found(ROWS[1:2])


def test_a_row_without_gold_has_no_confidence_to_calibrate():
    said = [
        Prediction(id="a", query="weather", calls=[], predicted=[], answer="[]", confidence=0.5),
        Prediction(id="b", query="hi", calls=None, predicted=[], answer="[]", confidence=0.25),
        Prediction(id="c", query="hi", calls=[], predicted=[], answer="[]", confidence=0.75),
    ]
    assert confidences(said) == [0.5, 0.75]


def test_a_file_without_a_row_is_refused(tmp_path):
    path = tmp_path / "empty.jsonl"
    path.write_text("")
    with pytest.raises(InputError, match=r"empty\.jsonl: no row to answer"):
        load_questions(path)
