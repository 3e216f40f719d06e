import pytest

from toolforge import execute
from toolforge.records import Prediction, ToolCall
from toolforge.scoring import by_argument, calls_match, confusion, interval, scores, tools_match, value_accuracy


def call(name="weather", **arguments):
    return ToolCall(name=name, arguments=arguments)


OSLO, ROME = call(location="Oslo"), call(location="Rome")
TWO = call("calculator", expression="1 + 1")


@pytest.mark.parametrize(
    ("gold", "predicted", "same"),
    [
        ([], [], True),
        ([], None, False),
        ([], [OSLO], False),
        ([OSLO], [ROME], True),
        ([OSLO, TWO], [TWO, ROME], True),
        ([OSLO, ROME], [OSLO], False),
        ([OSLO, TWO], [OSLO, ROME], False),
    ],
)
def test_tools_match_by_names_counted_and_order_free(gold, predicted, same):
    assert tools_match(gold, predicted) is same


# Worked by hand from the rules of BFCL's ast_checker.py.
@pytest.mark.parametrize(
    ("gold", "predicted", "same"),
    [
        (call(location="St. John's"), call(location='ST JOHN"S'), True),
        (call(location="New York"), call(location="new-york"), True),
        (call("calculator", expression="0.15 * 240"), call("calculator", expression="0.15*240"), True),
        (call("calculator", expression="240 / 4"), call("calculator", expression="4 / 240"), False),
        (call("unit_converter", value=20), call("unit_converter", value=20.0), True),
        (call("unit_converter", value=20), call("unit_converter", value="20"), False),
        (call("unit_converter", value=1), call("unit_converter", value=True), False),
        (call("datetime", action="now"), call("datetime", action="now", timezone="Rome"), False),
        (call("datetime", action="now", timezone="Rome"), call("datetime", action="now"), False),
        (call(location="Oslo"), call("wikipedia", location="Oslo"), False),
        (call(location="Oslo?"), call(location="Oslo"), False),
        (call(places=["St. Ives", "Rome"]), call(places=["st ives", "rome"]), True),
        (call(places=["Oslo", "Rome"]), call(places=["Rome", "Oslo"]), False),
        (call(places=["Oslo"]), call(places=["Oslo", "Rome"]), False),
        (call(place={"city": "New York"}), call(place={"city": "new york"}), True),
        (call(place={"city": "York"}), call(place={"city": "York", "country": "UK"}), False),
        (call(place=None), call(place=None), True),
        (call(place=None), call(place="Oslo"), False),
    ],
)
def test_calls_match_by_the_published_rules(gold, predicted, same):
    assert calls_match([gold], [predicted]) is same


def test_calls_match_in_any_order_but_each_once():
    assert calls_match([OSLO, ROME], [ROME, OSLO])
    assert not calls_match([OSLO, ROME], [OSLO, OSLO])
    assert not calls_match([OSLO], None)


def test_the_interval_is_wilsons():
    # Newcombe 1998, table I, method 3: 81 of 263 gives 0.2553 to 0.3662; 0 of 20 gives 0 to 0.1611.
    assert interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert interval(0, 0) == (0.0, 1.0)


def prediction(gold, predicted):
    return Prediction(id="1", query="q", calls=gold, predicted=predicted, answer="", confidence=1.0)


ROWS = [
    prediction([], []),
    prediction([], [OSLO]),
    prediction([OSLO], [OSLO]),
    prediction([OSLO], [ROME]),
    prediction([OSLO], []),
    prediction([OSLO, TWO], None),
    prediction(None, [OSLO]),
]
CLASSES = ["weather", "calculator", "no_tool", "multi_tool"]


def test_scores_by_hand():
    found = scores(ROWS, CLASSES)
    assert found["n"] == 6
    assert found["tool_accuracy"] == pytest.approx(3 / 6, abs=1e-4)
    assert found["call_accuracy"] == pytest.approx(2 / 6, abs=1e-4)
    assert found["parse_rate"] == pytest.approx(5 / 6, abs=1e-4)
    assert (found["no_tool_recall"], found["over_calling"]) == (0.5, 0.5)
    assert found["over_refusal"] == pytest.approx(1 / 4)
    assert found["by_class"]["weather"]["tool_accuracy"] == pytest.approx(2 / 3, abs=1e-4)
    assert found["by_class"]["calculator"] == {"n": 0}
    # F1: weather 2 * 2 / (3 + 3), no_tool 2 * 1 / (2 + 2), the third 0; a class that no row has, in gold or answer, does not count.
    assert found["macro_f1"] == pytest.approx((2 / 3 + 1 / 2) / 3, abs=1e-4)
    assert found["tool_accuracy_low"] < 0.5 < found["tool_accuracy_high"]


def test_the_confusion_has_a_pair_for_each_row_with_gold():
    pairs = confusion(ROWS)
    assert len(pairs) == 6
    assert {"actual": "multi_tool", "predicted": "no_parse"} in pairs
    assert {"actual": "weather", "predicted": "no_tool"} in pairs


def test_no_gold_is_no_score():
    with pytest.raises(ValueError, match="no prediction has gold"):
        scores([prediction(None, [])], CLASSES)


def predict(gold, predicted):
    return Prediction(id="1", query="q", calls=gold, predicted=predicted, answer="", confidence=0.5)


def test_the_value_decides_where_there_is_one():
    def total(expression):
        return [call("calculator", expression=expression)]

    rows = [
        predict(total("0.5 * 8"), total("8 * 0.5")),
        # BFCL's rules drop the signs: to them these two are one.
        predict(total("5 - 3"), total("5 * 3")),
        predict([OSLO], [OSLO]),
        predict([OSLO], [ROME]),
    ]
    assert [calls_match(row.calls, row.predicted) for row in rows] == [False, True, True, False]
    assert value_accuracy(rows, execute.same_value)["value_accuracy"] == 0.5
    assert value_accuracy(rows[::2], execute.same_value)["value_accuracy"] == 1


def test_arguments_are_scored_where_the_tools_are_right():
    def convert(**arguments):
        return call("datetime", action="convert", **arguments)

    rows = [
        predict([OSLO, ROME], [OSLO, OSLO]),
        predict([convert(time="18:00", timezone="Rome")], [convert(time="16:00", timezone="Rome", date="2026-01-01")]),
        predict([OSLO], [TWO]),
        predict([OSLO], None),
    ]
    found = by_argument(rows)
    assert {name: (part["accuracy"], part["n"]) for name, part in found.items()} == {
        "datetime.action": (1, 1),
        "datetime.date": (0, 1),
        "datetime.time": (0, 1),
        "datetime.timezone": (1, 1),
        "weather.location": (0.5, 2),
    }
