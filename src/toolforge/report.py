"""`make report`: one page on how good the router is and where it is wrong, from what the stages wrote and nothing else."""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from toolforge import charts, scoring
from toolforge.documents import read_documents, written
from toolforge.errors import InputError, run
from toolforge.records import Example, Prediction, ToolCall, class_of, read_rows, write_text

# What a wrong answer does, each one of these.
KINDS = {
    "wrong tool": "another tool than the one that is wanted",
    "missed call": "some of the calls, and not all of them",
    "extra call": "the calls that are wanted, and more",
    "over-calling": "a call where no tool is needed",
    "over-refusal": "no call where a tool is needed",
    "wrong argument": "the right tools, a wrong argument",
    "unparsable": "no list of calls that the catalogue allows",
}
METRICS = {"tool_accuracy": "tools", "call_accuracy": "calls"}
# Who answered fewer rows, where there are as many, stands in the table alone: a point that so few rows put anywhere looks as if it said something.
DRAWN = 30


@dataclass(frozen=True)
class Value:
    """An argument, or with an empty `name` a tool's name, as it is shown; whether the other answer has it too."""

    name: str
    text: str
    shared: bool


@dataclass(frozen=True)
class Mistake:
    """A wrong answer beside its row. `arguments` are the wrong ones as `tool.argument`, where the tools are right."""

    example: Example
    prediction: Prediction
    kind: str
    arguments: Sequence[str]

    @property
    def gold(self) -> list[list[Value]]:
        """The calls that are wanted, each its name and its arguments."""
        return _values(self.example.calls, self.prediction.predicted or [])

    @property
    def predicted(self) -> list[list[Value]]:
        """The calls that were given."""
        return _values(self.prediction.predicted or [], self.example.calls)


def kind_of(gold: Sequence[ToolCall], predicted: Sequence[ToolCall] | None) -> str:
    """Which of KINDS a wrong answer is."""
    if predicted is None:
        return "unparsable"
    if scoring.tools_match(gold, predicted):
        return "wrong argument"
    if not gold:
        return "over-calling"
    if not predicted:
        return "over-refusal"
    wanted, given = (Counter(call.name for call in calls) for calls in (gold, predicted))
    if given < wanted:
        return "missed call"
    return "extra call" if wanted < given else "wrong tool"


def mistakes(examples: Sequence[Example], predictions: Sequence[Prediction]) -> list[Mistake]:
    """The wrong answers, those that the model is surest of first. Raises InputError for a prediction of another row than the examples have."""
    rows, found = {example.id: example for example in examples}, []
    for prediction in predictions:
        example, predicted = rows.get(prediction.id), prediction.predicted
        if example is None or (example.query, example.calls) != (prediction.query, prediction.calls):
            raise InputError(
                f"the prediction of {prediction.id!r} is of another row than the split has; run dvc repro eval"
            )
        if not scoring.calls_match(example.calls, predicted):
            kind = kind_of(example.calls, predicted)
            wrong = scoring.by_argument([prediction]) if kind == "wrong argument" else {}
            arguments = [name for name, part in wrong.items() if part["accuracy"] < 1]
            found.append(Mistake(example, prediction, kind, arguments))
    return sorted(found, key=lambda mistake: -mistake.prediction.confidence)


def by_kind(found: Iterable[Mistake]) -> dict[str, list[Mistake]]:
    """The mistakes of each kind, in the order of KINDS, none included."""
    rows = list(found)
    return {kind: [mistake for mistake in rows if mistake.kind == kind] for kind in KINDS}


def by_argument(found: Iterable[Mistake]) -> dict[str, list[Mistake]]:
    """The mistakes under each `tool.argument` that is wrong, most first. One with two of them stands under both."""
    groups: dict[str, list[Mistake]] = {}
    for mistake in found:
        for name in mistake.arguments:
            groups.setdefault(name, []).append(mistake)
    return dict(sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])))


def _values(calls: Sequence[ToolCall], others: Sequence[ToolCall]) -> list[list[Value]]:
    def shared(call: ToolCall, key: str) -> bool:
        one = ToolCall(name=call.name, arguments={key: call.arguments[key]})
        theirs = (
            ToolCall(name=other.name, arguments={key: other.arguments[key]})
            for other in others
            if key in other.arguments
        )
        return any(scoring.call_matches(one, other) for other in theirs)

    names = {other.name for other in others}
    return [
        [Value("", call.name, call.name in names)]
        + [
            Value(key, json.dumps(value, ensure_ascii=False), shared(call, key))
            for key, value in call.arguments.items()
        ]
        for call in calls
    ]


def intervals(parts: Mapping[str, Mapping[str, Any]], metrics: Mapping[str, str]) -> pd.DataFrame:
    """What charts.bars and charts.dots draw: of each part its metrics, by the names that they are shown under. A part without rows has none."""
    return pd.DataFrame(
        [
            {"name": name, "metric": shown}
            | {key: 100 * part[metric + end] for key, end in (("value", ""), ("low", "_low"), ("high", "_high"))}
            for name, part in parts.items()
            for metric, shown in metrics.items()
            if metric in part
        ],
        columns=["name", "metric", "value", "low", "high"],
    )


def confused(pairs: pd.DataFrame) -> pd.DataFrame:
    """The pairs of actual and predicted class with their count and its share of the actual class."""
    counts = pairs.value_counts(["actual", "predicted"]).reset_index(name="count")
    return counts.assign(share=counts["count"] / counts.groupby("actual")["count"].transform("sum"))


def routers(baselines: Mapping[str, Any]) -> dict[str, Any]:
    """The student and the baselines, the most accurate first."""
    rows = {name: part for name, part in baselines.items() if name != "wins"}
    return dict(sorted(rows.items(), key=lambda item: -item[1]["tool_accuracy"]))


def drawn(
    scores: Mapping[str, Any], compared: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]
) -> dict[str, tuple[charts.Draw, str]]:
    """Each chart with its label: what draws it in a width. That of the suites only where there are any."""
    suites = scores["hard_test"].get("by_suite", {})
    kept = pd.DataFrame(
        [
            {"split": name, "coverage": 100 * at["coverage"], "risk": 100 * (1 - at["precision"])}
            for name, part in (("test", scores), ("hard_test", scores["hard_test"]))
            if (at := part["confidence"]["at_threshold"]) and "precision" in at
        ],
        columns=["split", "coverage", "risk"],
    )
    curve = tables["risk_coverage"]
    curve = curve.assign(coverage=100 * curve["coverage"], risk=100 * curve["risk"])
    timed = pd.DataFrame(
        [{"name": name, **part} for name, part in compared.items() if "p50_ms" in part],
        columns=["name", "p50_ms", "p95_ms"],
    ).sort_values("p50_ms")
    # Right on one row of one is 100 per cent too: who answered fewer rows is shown with their number.
    every = compared[charts.STUDENT]["n"]
    counted = {
        name if part["n"] == every else f"{name} (n = {part['n']})": part
        for name, part in compared.items()
        if part["n"] >= min(DRAWN, every)
    }
    pairs = confused(tables["confusion"])
    classes = list(dict.fromkeys([*scores["by_class"], *pairs["predicted"]]))
    found: dict[str, tuple[charts.Draw, str]] = {
        "loss": (partial(charts.loss, tables["loss"]), "Loss by step, train and val"),
        "confusion": (partial(charts.confusion, pairs, classes), "Wanted and answered classes of test, in rows"),
        "classes": (partial(charts.bars, intervals(scores["by_class"], METRICS)), "test by class, with 95 % intervals"),
        "arguments": (
            partial(charts.dots, intervals(scores["by_argument"], {"accuracy": "argument"})),
            "Arguments of test where the tools are right, with 95 % intervals",
        ),
        "suites": (partial(charts.bars, intervals(suites, METRICS)), "hard_test by suite, with 95 % intervals"),
        "risk": (partial(charts.risk_coverage, curve, kept), "Wrong answers by the share of queries answered"),
        "routers": (
            partial(charts.dots, intervals(counted, METRICS)),
            "The fine-tuned student and what it has to beat, on test, with 95 % intervals",
        ),
        "latency": (partial(charts.latency, timed), "Milliseconds a query, median to 95th percentile"),
    }
    return found if suites else {name: chart for name, chart in found.items() if name != "suites"}


def page(documents: Mapping[str, Any], found: Mapping[str, Sequence[Mistake]], figures: Mapping[str, str]) -> str:
    """The page: nothing in it is loaded from elsewhere, and no text of a row becomes markup. `documents` are those of metrics/ by name, `found`
    the mistakes by split, `figures` charts.figure's by the names of `drawn`.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": _percent, "by_argument": by_argument, "by_kind": by_kind}
    template = environment.from_string(files("toolforge").joinpath("report.html.j2").read_text(encoding="utf-8"))
    scores = documents["eval"]
    return template.render(
        documents,
        colours=Markup(charts.COLOURS),
        figures={name: Markup(figure) for name, figure in figures.items()},
        splits={"test": scores, "hard_test": scores["hard_test"]},
        routers=routers(documents["baselines"]),
        mistakes=found,
        kinds=KINDS,
        metrics=METRICS,
        class_of=class_of,
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def main() -> None:
    """Write PAGE, and PICTURE, its chart of the baselines, from the stages' files in METRICS and DATA."""
    parser = argparse.ArgumentParser(prog="toolforge.report", description=__doc__)
    for name in ("metrics", "data", "page", "picture"):
        parser.add_argument(name, type=Path)
    paths = parser.parse_args()
    plots, split = paths.metrics / "plots", paths.data / "split"
    documents = read_documents(paths.metrics)
    tables = {
        name: pd.read_csv(written(plots / f"{name}.csv", stage))
        for name, stage in (("loss", "train"), ("confusion", "eval"), ("risk_coverage", "eval"))
    }
    found = {
        f"{prefix}test": mistakes(
            read_rows(written(split / f"{prefix}test.jsonl", "split"), Example),
            read_rows(written(paths.data / f"{prefix}predictions.jsonl", "eval"), Prediction),
        )
        for prefix in ("", "hard_")
    }
    shown = drawn(documents["eval"], routers(documents["baselines"]), tables)
    figures = {name: charts.figure(*chart) for name, chart in shown.items()}
    write_text(paths.page, page(documents, found, figures))
    write_text(paths.picture, charts.picture(*shown["routers"]))
    print(f"report: {paths.page.resolve().as_uri()}")


if __name__ == "__main__":
    run(main)
