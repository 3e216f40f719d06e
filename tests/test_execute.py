from datetime import UTC, datetime

import pytest

from toolforge.execute import calculate, convert, run, same_value
from toolforge.records import ToolCall


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("0.15 * 240", 36),
        ("80 * (1 - 0.2)", 64),
        ("91 % 7", 0),
        ("2 ** 10", 1024),
        ("sqrt(144)", 12),
        ("round(2 / 3, 2)", 0.67),
        ("factorial(5)", 120),
        ("-3 + 4.5", 1.5),
    ],
)
def test_expressions_give_their_value(expression, value):
    assert calculate(expression) == pytest.approx(value)


@pytest.mark.parametrize(
    "expression",
    ["15% of 240", "1 / 0", "2 ^ 3", "__import__('os')", "'a' * 3", "9 ** 9 ** 9", "", "x + 1", "1 < 2 and [1]"],
)
def test_what_does_not_run_is_a_value_error(expression):
    with pytest.raises(ValueError, match="expression"):
        calculate(expression)


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        (1, "miles", "feet", 5280),
        (20, "celsius", "fahrenheit", 68),
        (1, "stone", "pounds", 14),
        (3, "square feet", "square inches", 432),
        (36, "kilometers per hour", "meters per second", 10),
        (2, "fluid ounces", "tablespoons", 4),
        (1, "weeks", "hours", 168),
        (1, "gigabytes", "megabytes", 1000),
        (1, "metric tons", "kilograms", 1000),
    ],
)
def test_units_convert_by_their_spoken_names(value, source, target, expected):
    assert convert(value, source, target) == pytest.approx(expected)


def test_units_that_do_not_convert_or_exist_are_value_errors():
    with pytest.raises(ValueError, match="miles do not convert to kilograms"):
        convert(1, "miles", "kilograms")
    with pytest.raises(ValueError, match="unit 'blorps' is unknown"):
        convert(1, "blorps", "miles")


def test_datetime_calls_count_from_the_moment_given_or_from_the_clock():
    call = ToolCall(name="datetime", arguments={"action": "now", "timezone": "Tokyo"})
    assert run(call, datetime(2026, 6, 15, 12, tzinfo=UTC)) == "2026-06-15T21:00:00+09:00"
    before = datetime.now(UTC).replace(microsecond=0)
    assert before <= datetime.fromisoformat(run(call)) <= datetime.now(UTC)
    with pytest.raises(ValueError, match="'Blorp, Japan' is unknown"):
        run(ToolCall(name="datetime", arguments={"action": "now", "timezone": "Blorp, Japan"}))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("calculator", {"a": 2, "b": 3}),
        ("unit_converter", {"amount": 2, "unit": "miles"}),
        ("unit_converter", {"value": "two", "from": "miles", "to": "feet"}),
        ("datetime", {"zone": "Oslo"}),
        ("datetime", {"action": "alarm", "at": "12:00"}),
    ],
)
def test_ones_own_tool_of_a_known_name_is_not_run(name, arguments):
    assert run(ToolCall(name=name, arguments=arguments)) is None


def test_other_tools_are_not_run():
    assert run(ToolCall(name="weather", arguments={"location": "Oslo"})) is None
    assert run(ToolCall(name="calculator", arguments={"expression": "2 + 2"})) == 4


@pytest.mark.parametrize(
    ("gold", "predicted", "same"),
    [
        ("0.15 * 240", "240 * 0.15", True),
        ("1 / 3", "2 / 6", True),
        ("5 - 3", "5 * 3", False),
        ("8 / 2", "8 / 0", False),
    ],
)
def test_two_sums_are_the_same_by_their_value(gold, predicted, same):
    calls = [ToolCall(name="calculator", arguments={"expression": text}) for text in (gold, predicted)]
    assert same_value(*calls) is same


def test_conversions_and_times_are_the_same_by_their_value():
    def unit(value, source):
        return ToolCall(name="unit_converter", arguments={"value": value, "from": source, "to": "meters"})

    def now(place):
        return ToolCall(name="datetime", arguments={"action": "now", "timezone": place})

    assert same_value(unit(2, "kilometers"), unit(2000, "meters"))
    assert not same_value(unit(2, "kilometers"), unit(2, "miles"))
    assert same_value(now("Tokyo"), now("Osaka"))
    assert not same_value(now("Tokyo"), now("Oslo"))
    assert not same_value(now("Tokyo"), unit(2, "miles"))


def test_a_call_that_has_no_value_here_is_not_compared():
    oslo = ToolCall(name="weather", arguments={"location": "Oslo"})
    assert same_value(oslo, oslo) is None


def test_gold_that_does_not_run_has_no_value_to_compare_with():
    gold, predicted = (ToolCall(name="calculator", arguments={"expression": one}) for one in ("15% of 240", "36"))
    assert same_value(gold, predicted) is None
