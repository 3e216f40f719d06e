"""Predictions to scores: pure functions, no model.

Arguments are matched by the rules of the Berkeley Function Calling Leaderboard's AST checker
(gorilla/berkeley-function-call-leaderboard, ast_checker.py): strings, also those in lists and objects, are compared without case, spaces and the
marks , . / - _ * ^ and with one kind of quote; a whole number stands for the same float; an optional argument is right where gold has it and missing
where gold has not; lists keep their order; calls of one answer match in any order.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import JsonValue
from sklearn.metrics import f1_score
from statsmodels.stats.proportion import proportion_confint

from toolforge.records import Prediction, ToolCall, class_of

NO_PARSE = "no_parse"


def tools_match(gold: Sequence[ToolCall], predicted: Sequence[ToolCall] | None) -> bool:
    """Whether the tool names are the same, order-free and counted."""
    return predicted is not None and Counter(call.name for call in gold) == Counter(call.name for call in predicted)


Same = Callable[[ToolCall, ToolCall], bool]


def calls_match(gold: Sequence[ToolCall], predicted: Sequence[ToolCall] | None, same: Same | None = None) -> bool:
    """Whether the tools and all their arguments are the same, calls in any order. `same` says it of one call, `call_matches` unless given."""
    if predicted is None or len(gold) != len(predicted):
        return False
    left = list(predicted)
    for call in gold:
        match = next((other for other in left if (same or call_matches)(call, other)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def call_matches(gold: ToolCall, predicted: ToolCall) -> bool:
    """Whether two calls have one name and the same arguments."""
    return (
        gold.name == predicted.name
        and gold.arguments.keys() == predicted.arguments.keys()
        and all(_value_matches(value, predicted.arguments[key]) for key, value in gold.arguments.items())
    )


def _value_matches(gold: JsonValue, predicted: JsonValue) -> bool:
    if isinstance(gold, str) and isinstance(predicted, str):
        return _standard(gold) == _standard(predicted)
    if isinstance(gold, bool) or isinstance(predicted, bool):
        return gold is predicted
    if isinstance(gold, int | float) and isinstance(predicted, int | float):
        return gold == predicted
    if isinstance(gold, list) and isinstance(predicted, list):
        return len(gold) == len(predicted) and all(map(_value_matches, gold, predicted))
    if isinstance(gold, dict) and isinstance(predicted, dict):
        return gold.keys() == predicted.keys() and all(_value_matches(gold[key], predicted[key]) for key in gold)
    return gold is None and predicted is None


def _standard(text: str) -> str:
    return re.sub(r"[ ,./\-_*^]", "", text).lower().replace("'", '"')


def interval(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion (Wilson 1927), 0 and 1 where n is 0."""
    if n == 0:
        return 0.0, 1.0
    low, high = proportion_confint(hits, n, alpha=0.05, method="wilson")
    return float(low), float(high)


def share(flags: Sequence[bool], name: str) -> dict[str, float]:
    """A proportion as metrics: its value, the ends of its interval, and n. The value of no rows is left out."""
    if not flags:
        return {"n": 0}
    low, high = interval(sum(flags), len(flags))
    return {
        name: round(sum(flags) / len(flags), 4),
        f"{name}_low": round(low, 4),
        f"{name}_high": round(high, 4),
        "n": len(flags),
    }


Labelled = tuple[Sequence[ToolCall], Prediction]


def labelled(predictions: Sequence[Prediction]) -> list[Labelled]:
    """The predictions that have gold, each with it."""
    return [(row.calls, row) for row in predictions if row.calls is not None]


def corrects(predictions: Sequence[Prediction]) -> list[bool]:
    """Whether each of the predictions that have gold has the right calls, arguments included."""
    return [calls_match(calls, row.predicted) for calls, row in labelled(predictions)]


def accuracies(predictions: Sequence[Prediction]) -> dict[str, float]:
    """tool_accuracy and call_accuracy of the predictions that have gold, with n and intervals."""
    return _accuracies(labelled(predictions))


def value_accuracy(
    predictions: Sequence[Prediction], same_value: Callable[[ToolCall, ToolCall], bool | None]
) -> dict[str, float]:
    """As call_accuracy, but a call whose gold gives a value is right by that value alone: two spellings of one sum are the same, and
    two sums that only BFCL's rules take for one (it drops the signs `*`, `/` and `-`) are not. With n and interval.
    """

    def same(gold: ToolCall, predicted: ToolCall) -> bool:
        verdict = same_value(gold, predicted)
        return call_matches(gold, predicted) if verdict is None else verdict

    rows = labelled(predictions)
    return share([calls_match(calls, row.predicted, same) for calls, row in rows], "value_accuracy")


def by_argument(predictions: Sequence[Prediction]) -> dict[str, dict[str, float]]:
    """By `tool.argument`, the share of its values that are right, with n and interval. Of the rows whose tools are right, so that it says how well
    arguments are filled and not again which tools are found; calls of one tool are taken in their order. An argument that gold lacks and the
    answer has is wrong.
    """
    flags: dict[str, list[bool]] = {}
    for calls, row in labelled(predictions):
        if row.predicted is None or not tools_match(calls, row.predicted):
            continue
        # Sorting keeps the order of those of one name.
        named = (sorted(part, key=lambda call: call.name) for part in (calls, row.predicted))
        for gold, given in zip(*named, strict=True):
            for key in gold.arguments.keys() | given.arguments.keys():
                both = key in gold.arguments and key in given.arguments
                right = both and _value_matches(gold.arguments[key], given.arguments[key])
                flags.setdefault(f"{gold.name}.{key}", []).append(right)
    return {name: share(flags[name], "accuracy") for name in sorted(flags)}


def scores(predictions: Sequence[Prediction], classes: Sequence[str]) -> dict[str, Any]:
    """The scores of the predictions that have gold, with n and Wilson intervals, over all and by class; macro_f1 is over the classes that occur.

    over_calling is the share of no_tool rows that got a call; over_refusal that of the others that got none.
    Raises ValueError where no prediction has gold.
    """
    rows = labelled(predictions)
    if not rows:
        raise ValueError("no prediction has gold calls to score against")
    gold, predicted = _classes(rows)
    return {
        **_accuracies(rows),
        **share([row.predicted is not None for _, row in rows], "parse_rate"),
        "macro_f1": round(
            float(
                f1_score(
                    gold,
                    predicted,
                    labels=[name for name in classes if name in {*gold, *predicted}],
                    average="macro",
                    zero_division=0,
                )
            ),
            4,
        ),
        "no_tool_recall": _rate(rows, of=lambda c: not c, hit=lambda row: row.predicted == []),
        "over_calling": _rate(rows, of=lambda c: not c, hit=lambda row: bool(row.predicted)),
        "over_refusal": _rate(rows, of=bool, hit=lambda row: row.predicted == []),
        "by_class": {name: _accuracies([row for row in rows if class_of(row[0]) == name]) for name in classes},
    }


def _accuracies(rows: Sequence[Labelled]) -> dict[str, float]:
    return {
        **share([tools_match(calls, row.predicted) for calls, row in rows], "tool_accuracy"),
        **share([calls_match(calls, row.predicted) for calls, row in rows], "call_accuracy"),
    }


def _rate(
    rows: Sequence[Labelled], of: Callable[[Sequence[ToolCall]], bool], hit: Callable[[Prediction], bool]
) -> float | None:
    flags = [hit(row) for calls, row in rows if of(calls)]
    return round(sum(flags) / len(flags), 4) if flags else None


def _classes(rows: Sequence[Labelled]) -> tuple[list[str], list[str]]:
    gold = [class_of(calls) for calls, _ in rows]
    predicted = [NO_PARSE if row.predicted is None else class_of(row.predicted) for _, row in rows]
    return gold, predicted


def confusion(predictions: Sequence[Prediction]) -> list[dict[str, str]]:
    """One {actual, predicted} pair of classes for each prediction with gold, as `dvc plots` counts them."""
    gold, predicted = _classes(labelled(predictions))
    return [{"actual": g, "predicted": p} for g, p in zip(gold, predicted, strict=True)]
