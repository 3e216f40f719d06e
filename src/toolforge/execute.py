"""Runs the calls whose result a label can be checked by: calculator, unit_converter and datetime."""

import ast
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache

import pint
from simpleeval import SimpleEval

from toolforge import clock
from toolforge.records import ToolCall
from toolforge.tools import Catalogue


def _factorial(n: int) -> int:
    # simpleeval bounds powers alone, and the factorial of a hundred million takes hours.
    if n > 10_000:
        raise ValueError("the factorial of more than 10,000")
    return math.factorial(n)


FUNCTIONS: dict[str, Callable[..., float]] = {
    "sqrt": math.sqrt, "factorial": _factorial, "log": math.log, "log10": math.log10, "log2": math.log2,
    "sin": math.sin, "cos": math.cos, "tan": math.tan, "floor": math.floor, "ceil": math.ceil, "gcd": math.gcd,
    "round": round, "abs": abs,
}  # fmt: skip


def calculate(expression: str) -> float:
    """The value of an arithmetic expression: + - * / // ** %, parentheses and FUNCTIONS.

    Raises ValueError with the reason where it does not run or gives no finite number.
    """
    evaluator = SimpleEval(functions=FUNCTIONS, names={"pi": math.pi, "e": math.e})
    # ^ would be a bitwise xor: a label that means a power has to say **.
    evaluator.operators.pop(ast.BitXor, None)
    try:
        value = evaluator.eval(expression)
        finite = isinstance(value, int | float) and math.isfinite(value)
    except Exception as error:  # simpleeval lets whatever the expression raises through
        raise ValueError(f"expression {expression!r} does not run: {error}") from None
    if not finite:
        raise ValueError(f"expression {expression!r} gives no finite number")
    return float(value)


@cache
def _registry() -> pint.UnitRegistry[float]:
    return pint.UnitRegistry(autoconvert_offset_to_baseunit=True)


# How people name a unit where pint's own name is another.
SPOKEN = {"celsius": "degC", "fahrenheit": "degF", "tonnes": "metric_ton", "calories": "calorie"}


def unit(name: str) -> pint.Unit:
    """The pint unit of a spoken name: "miles per hour", "square feet", "celsius". Raises ValueError for none."""
    words = [_word(part.strip()) for part in SPOKEN.get(name, name).split(" per ")]
    try:
        return _registry().parse_units(" / ".join(words))
    except Exception as error:  # pint raises errors of many unrelated types for a bad name
        raise ValueError(f"unit {name!r} is unknown: {error}") from None


def _word(name: str) -> str:
    first, _, rest = name.partition(" ")
    power = {"square": 2, "cubic": 3}.get(first)
    return f"{rest.replace(' ', '_')}**{power}" if power and rest else name.replace(" ", "_")


def convert(value: float, source: str, target: str) -> float:
    """`value` of one unit in another. Raises ValueError where they do not convert."""
    try:
        return float(_registry().Quantity(value, unit(source)).to(unit(target)).magnitude)
    except (pint.DimensionalityError, OverflowError) as error:
        raise ValueError(f"{source} do not convert to {target}: {error}") from None


# What a call has to name to be run here, and what it may: a catalogue of one's own may have a tool of the same name and other arguments.
RUN = {
    "calculator": ({"expression"}, {"expression"}),
    "unit_converter": ({"value", "from", "to"}, {"value", "from", "to"}),
    "datetime": ({"action"}, clock.ARGUMENTS),
}


def run(call: ToolCall, now: datetime | None = None) -> float | str | None:
    """The value of a call that can be run here: a number, or a date or time in ISO 8601.

    `now` is the moment that datetime calls count from: any aware datetime, else the clock's. None for other tools, tools of these names
    with other arguments, and for a date that is left in the user's own words. Raises ValueError where the call does not run.
    """
    arguments = call.arguments
    needed, known = RUN.get(call.name, (set(), set()))
    if not needed <= arguments.keys() <= known or not arguments:
        return None
    if call.name == "calculator":
        return calculate(str(arguments["expression"]))
    if call.name == "unit_converter":
        value = arguments["value"]
        if not isinstance(value, int | float):
            return None
        return convert(value, str(arguments["from"]), str(arguments["to"]))
    return clock.answer(arguments, now or datetime.now(UTC))


# The moment from which both calls of a comparison count, so that the same calls compare alike on any day.
COMPARED_AT = datetime(2026, 7, 1, 12, tzinfo=UTC)


def same_value(gold: ToolCall, predicted: ToolCall) -> bool | None:
    """Whether two calls of one tool give the same value: numbers to a millionth, the same date, or the same time in the same offset.

    None where `gold` has no value here, or does not run. A prediction that does not run gives none. Requires calls that the catalogue allows.
    """
    try:
        wanted = run(gold, COMPARED_AT)
    except ValueError:
        return None
    if wanted is None:
        return None
    try:
        given = run(predicted, COMPARED_AT) if predicted.name == gold.name else None
    except ValueError:
        return False
    if isinstance(wanted, float) and isinstance(given, float):
        return math.isclose(wanted, given, rel_tol=1e-6, abs_tol=1e-9)
    return wanted == given


def fault(calls: Sequence[ToolCall], catalogue: Catalogue) -> str | None:
    """What is wrong with the first of a label's calls that breaks the catalogue or does not run, or None."""
    broken = catalogue.fault(calls)
    if broken:
        return broken
    try:
        for call in calls:
            run(call)
    except ValueError as error:
        return str(error)
    return None
