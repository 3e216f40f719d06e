"""eval: answer every row greedily, as the router will, and score the answers and how sure the model is of them."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field

from toolforge import answering, calibration, confidence, execute, scoring, student, tracking
from toolforge.confidence import ConfidenceParams
from toolforge.copying import DecodingParams
from toolforge.device import memory_for
from toolforge.errors import InputError, run
from toolforge.grammar import Grammar
from toolforge.params import Params, load_params
from toolforge.prompt import parse
from toolforge.records import Prediction, Question, class_of, read_jsonl, write_json, write_jsonl, write_text
from toolforge.student import Student
from toolforge.tracking import TrackingParams


class EvalParams(Params):
    """How many queries are answered at once, and the longest answer in tokens."""

    batch_size: int = Field(gt=0)
    max_new_tokens: int = Field(gt=0)


def evaluate(model: Student, grammar: Grammar, questions: Sequence[Question], params: EvalParams) -> list[Prediction]:
    """A prediction for each question, in their order. The answer counts as parsed only if its calls fit the catalogue."""
    queries = [question.query for question in questions]
    with memory_for("eval.batch_size"):
        answers = answering.generate(model, grammar, queries, params.batch_size, params.max_new_tokens)
    predictions = []
    for number, (question, answer) in enumerate(zip(questions, answers, strict=True), 1):
        calls = parse(answer.text)
        predictions.append(
            Prediction(
                id=str(number if question.id is None else question.id),
                query=question.query,
                calls=question.calls,
                predicted=calls if calls is not None and not model.catalogue.fault(calls) else None,
                answer=answer.text,
                confidence=round(answer.confidence, 6),
            )
        )
    return predictions


def score(questions: Sequence[Question], predictions: Sequence[Prediction], classes: Sequence[str]) -> dict[str, Any]:
    """The scores over all rows, by class and by whatever else tells rows apart: suite, source, number of calls, unseen entities. Only the
    number of rows where none has gold.
    """
    if all(prediction.calls is None for prediction in predictions):
        return {"rows": len(predictions)}
    result = scoring.scores(predictions, classes)
    result |= scoring.value_accuracy(predictions, execute.same_value)
    for name, found in result["by_class"].items():
        rows = [row for row in predictions if row.calls is not None and class_of(row.calls) == name]
        found.update(scoring.value_accuracy(rows, execute.same_value))
    for key, of in SLICES.items():
        parts: dict[str, list[Prediction]] = {}
        for question, prediction in zip(questions, predictions, strict=True):
            if question.calls is not None and of(question):
                parts.setdefault(of(question), []).append(prediction)
        if parts:
            result[key] = {name: scoring.accuracies(parts[name]) for name in sorted(parts)}
    result["by_argument"] = scoring.by_argument(predictions)
    return result


# What tells rows apart beside their class: the name of the slice that a row is in, "" for none.
SLICES: dict[str, Callable[[Question], str]] = {
    "by_suite": lambda question: question.suite,
    "by_source": lambda question: question.source,
    "by_number_of_calls": lambda question: str(len(question.calls or [])),
    "by_unseen_entities": lambda question: "unseen" if question.unseen_entities else "",
}


def confidences(predictions: Sequence[Prediction]) -> list[float]:
    """The model's own probability of each prediction that has gold."""
    return [row.confidence for _, row in scoring.labelled(predictions)]


def load_questions(path: Path) -> list[Question]:
    """The rows of a file of examples. Raises InputError for a line that is none, and for an empty file."""
    questions = [question for _, question in read_jsonl(path, Question)]
    if not questions:
        raise InputError(f"{path}: no row to answer")
    return questions


def main() -> None:
    """Answer FILE, and a hard test beside it; write OUT/eval.json, the predictions, the confusion of classes and the risk by coverage."""
    parser = argparse.ArgumentParser(prog="toolforge.stages.eval", description=__doc__)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("file", type=Path, help="examples; without `calls` they are only answered")
    parser.add_argument("out", type=Path, help="folder for eval.json")
    parser.add_argument("--hard-test", type=Path, help="a second file, scored under hard_test")
    parser.add_argument(
        "--val", type=Path, help="examples that confidence is calibrated on; it is scored where they are given"
    )
    parser.add_argument("--predictions", type=Path, help="folder for the predictions, OUT unless given")
    paths = parser.parse_args()
    params = load_params("eval", EvalParams)
    tracked = load_params("tracking", TrackingParams)
    sure = load_params("confidence", ConfidenceParams)
    files = {"": load_questions(paths.file)}
    if paths.hard_test:
        files["hard_"] = load_questions(paths.hard_test)
    student.quiet()
    model = student.load_student(paths.adapter)
    grammar = answering.grammar_of(model, load_params("decoding", DecodingParams).copied)
    classes = model.catalogue.classes
    calibrated = None
    predicted = paths.predictions or paths.out
    if paths.val:
        val = evaluate(model, grammar, load_questions(paths.val), params)
        write_jsonl(predicted / "val_predictions.jsonl", val)
        calibrated = calibration.fit_with_threshold(confidences(val), scoring.corrects(val), sure.precision)
    results, curve = {}, []
    for prefix, questions in files.items():
        predictions = evaluate(model, grammar, questions, params)
        write_jsonl(predicted / f"{prefix}predictions.jsonl", predictions)
        results[f"{prefix}test"] = score(questions, predictions, classes)
        if calibrated and any(row.calls is not None for row in predictions):
            own, right = confidences(predictions), scoring.corrects(predictions)
            results[f"{prefix}test"]["confidence"] = confidence.scores(own, right, *calibrated, sure)
            probabilities = [calibrated[0].apply(one) for one in own]
            curve += [(f"{prefix}test", *point) for point in confidence.risk_coverage(probabilities, right)]
        if not prefix:
            confusion = pd.DataFrame(scoring.confusion(predictions), columns=["actual", "predicted"])
            write_text(paths.out / "plots" / "confusion.csv", confusion.to_csv(index=False, lineterminator="\n"))
    if curve:
        risks = pd.DataFrame(curve, columns=["split", "coverage", "risk", "confidence"])
        write_text(paths.out / "plots" / "risk_coverage.csv", risks.to_csv(index=False, lineterminator="\n"))
    test = results.pop("test")
    write_json(paths.out / "eval.json", {**test, **results})
    config = {"adapter": str(paths.adapter), "file": str(paths.file), "eval": params.model_dump()}
    tracking.record("eval", tracked, config, {"test": test, **results})
    print(
        f"eval: {sum(len(questions) for questions in files.values())} rows answered; scores in {paths.out / 'eval.json'}"
    )


if __name__ == "__main__":
    run(main)
