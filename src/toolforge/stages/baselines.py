"""baselines: does the fine-tuned model earn its place? Other ways of routing, from a fixed answer to its own untuned base, on the test rows that it answered."""

import argparse
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from pydantic import Field
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from toolforge import paired, scoring
from toolforge.baselines import teacher, untuned
from toolforge.baselines.embedding import Embedding
from toolforge.baselines.keywords import Keywords
from toolforge.baselines.majority import Majority
from toolforge.baselines.nearest import Nearest, SemanticRouter
from toolforge.baselines.probe import Probe
from toolforge.baselines.tfidf import Tfidf
from toolforge.baselines.untuned import Untuned
from toolforge.copying import DecodingParams
from toolforge.errors import InputError, run
from toolforge.params import Params, load_params
from toolforge.records import Example, Prediction, ToolCall, class_of, read_rows, write_json
from toolforge.router import Router
from toolforge.student import StudentParams, carried, quiet
from toolforge.tools import Catalogue, load_tools

# Below this p one of the two is said to be better: some ten baselines are compared.
SURE = 0.01
MATCHES = {"tool_accuracy": scoring.tools_match, "call_accuracy": scoring.calls_match}


class BaselinesParams(Params):
    """How many test queries are timed (evenly spaced) and how many the untuned base answers, which takes seconds for each; how many neighbours
    vote; how many examples of each class stand in the base's prompt, drawn by `seed`, and how long its answers may be.
    """

    seed: int
    latency_queries: int = Field(gt=1)
    k: int = Field(gt=0)
    examples: int = Field(gt=0)
    untuned_queries: int = Field(gt=0)
    answer_tokens: int = Field(gt=0)


class Baseline(Protocol):
    """A way of routing: the calls of a query, None where there is no answer, with empty arguments where it gives none."""

    gives_arguments: bool

    def route(self, query: str) -> Sequence[ToolCall] | None:
        """The calls."""


@dataclass(frozen=True)
class Routed:
    """Answers by the place of the row, of all rows or of some, and what single queries took."""

    answers: Mapping[int, Sequence[ToolCall] | None]
    milliseconds: Sequence[float] = field(default_factory=list)
    gives_arguments: bool = True


def compare(
    examples: Sequence[Example], student: Routed, baselines: Mapping[str, Routed], classes: Sequence[str]
) -> dict[str, Any]:
    """The figures of the student and of each baseline, each baseline against the student on the rows that it answered, and the classes
    in which a baseline is the more accurate. The student has to have answered every row.
    """
    figures = {name: _figures(examples, routed, classes) for name, routed in {"student": student, **baselines}.items()}
    wins = []
    for name, routed in baselines.items():
        students, theirs = (_hits(examples, one, routed.answers) for one in (student, routed))
        figures[name]["against_student"] = {metric: _against(students[metric], theirs[metric]) for metric in theirs}
        wins += list(_wins(name, examples, student, routed, classes))
    return {**figures, "wins": wins}


def _hits(examples: Sequence[Example], routed: Routed, rows: Iterable[int]) -> dict[str, list[bool]]:
    """Whether each of the rows is right, by metric; calls only where there are arguments."""
    metrics = MATCHES if routed.gives_arguments else {"tool_accuracy": scoring.tools_match}
    return {name: [match(examples[n].calls, routed.answers[n]) for n in rows] for name, match in metrics.items()}


def _of_class(examples: Sequence[Example], rows: Iterable[int], name: str) -> list[int]:
    return [n for n in rows if class_of(examples[n].calls) == name]


def _figures(examples: Sequence[Example], routed: Routed, classes: Sequence[str]) -> dict[str, Any]:
    def shares(rows: Iterable[int]) -> dict[str, float]:
        found: dict[str, float] = {}
        for metric, hits in _hits(examples, routed, rows).items():
            found |= scoring.share(hits, metric)
        return found

    parts = {name: _of_class(examples, routed.answers, name) for name in classes}
    return {
        **shares(routed.answers),
        **_spread(routed.milliseconds),
        "by_class": {name: shares(rows) for name, rows in parts.items() if rows},
    }


def _spread(milliseconds: Sequence[float]) -> dict[str, float]:
    if not milliseconds:
        return {}
    p50, p95 = np.percentile(milliseconds, [50, 95])
    return {"p50_ms": round(float(p50), 2), "p95_ms": round(float(p95), 2)}


def _against(student: Sequence[bool], baseline: Sequence[bool]) -> dict[str, Any]:
    found = paired.compare(student, baseline)
    better = "student" if found.only_one > found.only_other else "baseline"
    return {
        "student_only": found.only_one,
        "baseline_only": found.only_other,
        "p": found.p,
        "better": better if found.p < SURE else "neither",
    }


def _wins(
    name: str, examples: Sequence[Example], student: Routed, routed: Routed, classes: Sequence[str]
) -> Iterator[dict[str, Any]]:
    for of_class in classes:
        rows = _of_class(examples, routed.answers, of_class)
        students, theirs = _hits(examples, student, rows), _hits(examples, routed, rows)
        for metric, hits in theirs.items():
            if sum(hits) > sum(students[metric]):
                yield {
                    "baseline": name,
                    "class": of_class,
                    "metric": metric,
                    "student": round(sum(students[metric]) / len(rows), 4),
                    "baseline_accuracy": round(sum(hits) / len(rows), 4),
                }


def spaced(n: int, count: int) -> list[int]:
    """`count` places of `n`, evenly spaced; all, where there are no more."""
    return [place * n // count for place in range(count)] if count < n else list(range(n))


def routed(name: str, baseline: Baseline, examples: Sequence[Example], rows: Sequence[int], timed: int) -> Routed:
    """The baseline's answers to the rows, one query at a time, `timed` of them with the time that they took. A bar shows what takes long."""
    baseline.route("hello")
    clocked = {rows[n] for n in spaced(len(rows), timed)}
    answers, milliseconds = {}, []
    for row in tqdm(rows, desc=name, unit="query", delay=2):
        start = time.perf_counter()
        answers[row] = baseline.route(examples[row].query)
        if row in clocked:
            milliseconds.append((time.perf_counter() - start) * 1000)
    return Routed(answers, milliseconds, baseline.gives_arguments)


def of_student(examples: Sequence[Example], predictions: Sequence[Prediction], router: Router, timed: int) -> Routed:
    """The student's answers as eval scored them, and the times of its exported router. Raises InputError where a row has no prediction."""
    by_id = {prediction.id: prediction for prediction in predictions}
    for example in examples:
        if example.id not in by_id or by_id[example.id].query != example.query:
            raise InputError(f"row {example.id!r} of test has no prediction; run dvc repro eval")
    _milliseconds(router, "hello")
    queries = [examples[n].query for n in spaced(len(examples), timed)]
    times = [_milliseconds(router, query) for query in tqdm(queries, desc="student", unit="query", delay=2)]
    return Routed({n: by_id[example.id].predicted for n, example in enumerate(examples)}, times)


def _milliseconds(router: Router, query: str) -> float:
    start = time.perf_counter()
    # A router that has hardly been trained may never end an answer; it has taken its time all the same.
    with suppress(InputError):
        router.route(query)
    return (time.perf_counter() - start) * 1000


def untuned_bases(
    train: Sequence[Example], catalogue: Catalogue, base: str, params: BaselinesParams, copied: Sequence[str]
) -> Iterator[tuple[str, Untuned]]:
    """The base without and with examples, one in memory at a time; none, with a line that says so, where no package carries it."""
    gguf = carried(base)
    if gguf is None:
        print(f"baselines: student.base {base} is no package with a GGUF file; the untuned base is left out")
        return
    few = untuned.some_of_each(train, catalogue.classes, params.examples, params.seed)
    yield "untuned_zero_shot", Untuned(gguf, catalogue, [], params.answer_tokens, copied)
    yield "untuned_few_shot", Untuned(gguf, catalogue, few, params.answer_tokens, copied)


def table(figures: Mapping[str, Any]) -> Table:
    """Who is how accurate and how fast, who is better by McNemar's test, and the classes in which a baseline has more tools right."""
    ahead: dict[str, list[str]] = {}
    for win in figures["wins"]:
        if win["metric"] == "tool_accuracy":
            ahead.setdefault(win["baseline"], []).append(win["class"])
    said = "; ".join(f"{name} on {', '.join(classes)}" for name, classes in ahead.items()) or "none on any class"
    found = Table(
        title="tools, and calls with all arguments, right in per cent, with 95 % intervals",
        caption=f"more tools right than the student: {said}",
        box=None,
        padding=(0, 1, 0, 0),
    )
    for column in ("", "n", "tools", "calls", "ms p50", "better"):
        found.add_column(column, justify="right" if column in ("n", "ms p50") else "left", no_wrap=True)
    for name, part in figures.items():
        if name == "wins":
            continue
        better = dict.fromkeys(test["better"] for test in part.get("against_student", {}).values())
        found.add_row(
            name,
            str(part["n"]),
            *(_interval(part, metric) for metric in MATCHES),
            f"{part['p50_ms']:.1f}" if "p50_ms" in part else "",
            ", ".join(better),
            style="bold" if name == "student" else None,
        )
    return found


def _interval(part: Mapping[str, Any], metric: str) -> str:
    if metric not in part:
        return ""
    value, low, high = (100 * part[key] for key in (metric, f"{metric}_low", f"{metric}_high"))
    return f"{value:.3g} [{low:.3g} {high:.3g}]"


def main() -> None:
    """Fit the baselines on TRAIN, let them answer TEST, and write how they compare with the student."""
    parser = argparse.ArgumentParser(prog="toolforge.stages.baselines", description=__doc__)
    for name in ("tools", "train", "test", "teacher", "predictions", "router", "figures"):
        parser.add_argument(name, type=Path)
    paths = parser.parse_args()
    params, base = load_params("baselines", BaselinesParams), load_params("student", StudentParams).base
    copied = load_params("decoding", DecodingParams).copied
    catalogue = load_tools(paths.tools)
    train, test, labels = (read_rows(path, Example) for path in (paths.train, paths.test, paths.teacher))
    if not train or not test:
        raise InputError(f"{paths.train if not train else paths.test}: no row to compare on")
    quiet()
    console = Console()
    student = of_student(
        test, read_rows(paths.predictions, Prediction), Router.load(paths.router), params.latency_queries
    )
    embedding = Embedding()
    vectors = embedding([example.query for example in train])
    with console.status("fitting the classifiers"):
        baselines: dict[str, Baseline] = {
            "majority": Majority(train),
            "keywords": Keywords(catalogue),
            "tfidf": Tfidf(train),
            "nearest": Nearest(train, vectors, embedding, params.k),
            "semantic_router": SemanticRouter(train, vectors, embedding),
            "probe": Probe(train, vectors, embedding),
        }
    every, some = range(len(test)), spaced(len(test), params.untuned_queries)
    found = {name: routed(name, one, test, every, params.latency_queries) for name, one in baselines.items()}
    for name, one in untuned_bases(train, catalogue, base, params, copied):
        found[name] = routed(name, one, test, some, params.latency_queries)
    if taught := teacher.answers(labels, test):
        found["teacher"] = Routed(taught)
    figures = compare(test, student, found, catalogue.classes)
    write_json(paths.figures, figures)
    console.print(table(figures))
    print(f"baselines: {len(found)} compared with the student on {len(test)} rows; figures in {paths.figures}")


if __name__ == "__main__":
    run(main)
