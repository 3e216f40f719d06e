"""export: merge, quantize and calibrate; the router leaves the stage only if it answers as the trained adapter does."""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from toolforge import answering, calibration, card, parity, router, scoring, student, template
from toolforge.calibration import Calibration
from toolforge.confidence import ConfidenceParams
from toolforge.copying import DecodingParams
from toolforge.device import memory_for
from toolforge.errors import InputError, run
from toolforge.grammar import Grammar
from toolforge.merging import load_merged, merge
from toolforge.params import Params, load_params
from toolforge.parity import Answers
from toolforge.prior import load_prior
from toolforge.prompt import QUERY, parse, render
from toolforge.quantizing import Quantization, convert, quantize
from toolforge.records import Example, ToolCall, read_rows, write_json, write_text
from toolforge.router import Router, RouterSettings
from toolforge.student import Student


class ExportParams(Params):
    """What the router is called, under which licence its base is and what its card says of the data; how it is quantized; how it has to answer.

    Of the `queries` or more validation queries, `agreement` (0 to 1) have to get the same calls as from the trained adapter, and call accuracy may
    fall by `accuracy_loss` (0 to 1). `systems` are foreign system messages, under which adapter and merged model are compared on every
    `systems_every`-th query.
    """

    name: str
    base_model: str
    license: str
    data_note: str
    quantization: Quantization
    batch_size: int = Field(gt=0)
    max_new_tokens: int = Field(gt=0)
    queries: int = Field(gt=1)
    agreement: float = Field(ge=0, le=1)
    accuracy_loss: float = Field(ge=0, le=1)
    systems: list[str]
    systems_every: int = Field(gt=0)


def export(
    gold: Answers,
    answers: Mapping[str, Answers],
    confidences: Sequence[float],
    params: ExportParams,
    precision: float,
) -> tuple[Calibration, dict[str, Any]]:
    """The calibration of the exported router, and the figures, from the `answers` of the trained, merged and exported form to the same queries
    and the exported one's uncalibrated confidences; `precision` is what the threshold promises. Raises InputError where the merged or the
    exported form is not the trained one.
    """
    for form in ("merged", "exported"):
        fault = parity.fault(form, gold, answers["trained"], answers[form], params.agreement, params.accuracy_loss)
        if fault:
            raise InputError(f"export: {fault}")
    correct = parity.corrects(gold, answers["exported"])
    found, threshold = calibration.fit_with_threshold(confidences, correct, precision)
    sure = [threshold is not None and found.apply(confidence) >= threshold for confidence in confidences]
    return found, {
        "n": len(gold),
        "accuracy": {
            form: scoring.share(parity.corrects(gold, answers[form]), "call_accuracy")
            for form in ("trained", "merged", "exported")
        },
        "agreement": {
            form: scoring.share(parity.agreements(answers["trained"], answers[form]), "agreement")
            for form in ("merged", "exported")
        },
        "calibration": {
            "ece": round(calibration.expected_error(calibration.cross_fitted(confidences, correct), correct), 4),
            "ece_uncalibrated": round(calibration.expected_error(confidences, correct), 4),
            "precision": precision,
            "threshold": threshold,
            "coverage": round(sum(sure) / len(gold), 4),
        },
    }


def under(system: str, gold: Answers, answers: Mapping[str, Answers]) -> dict[str, Any]:
    """How often adapter and merged model give the same calls under a system message, and the adapter's accuracy there."""
    return {
        "system": system,
        **scoring.share(parity.agreements(answers["trained"], answers["merged"]), "agreement"),
        **scoring.share(parity.corrects(gold, answers["trained"]), "call_accuracy"),
    }


def told(model: Student, system: str) -> Student:
    """The model under a system message that is not its own."""
    return replace(model, prompt=model.prompt.model_copy(update={"system": system}))


def answer(model: Student, grammar: Grammar, examples: Sequence[Example], params: ExportParams) -> Answers:
    """The calls of a model that transformers runs, None where the answer does not end or breaks the catalogue."""
    queries = [example.query for example in examples]
    with memory_for("export.batch_size"):
        found = answering.generate(model, grammar, queries, params.batch_size, params.max_new_tokens)
    calls = [parse(answer.text) for answer in found]
    return [one if one is not None and not model.catalogue.fault(one) else None for one in calls]


def routed(asked: Router, query: str) -> tuple[Sequence[ToolCall] | None, float]:
    """The exported router's calls and their confidence; None and 0 for a query that it refuses, as where a model that was hardly trained ends no answer."""
    try:
        routing = asked.route(query)
    except InputError:
        return None, 0.0
    return routing.calls, routing.confidence


def prompt(trained: Student, query: str, system: str | None = None) -> str:
    """The text of the prompt for a query, under the student's own system message unless another is given."""
    params = trained.prompt if system is None else trained.prompt.model_copy(update={"system": system})
    text: str = trained.tokenizer.apply_chat_template(
        **render(query, params, trained.catalogue), add_generation_prompt=True, tokenize=False
    )
    return text


def asked_as(trained: Student, name: str, copied: Sequence[str]) -> RouterSettings:
    """The settings of the student's router, not calibrated yet."""
    before, after = prompt(trained, QUERY).split(QUERY)
    return RouterSettings(
        name=name,
        before=before,
        after=after,
        stop=trained.tokenizer.eos_token,
        opening=template.opening(trained.tokenizer),
        copied=tuple(copied),
        calibration=Calibration(),
        threshold=None,
    )


def shown(examples: Sequence[Example], answers: Answers) -> list[Example]:
    """For the card, of those rightly answered the shortest query with a call and the shortest without, where there is one."""
    correct = parity.corrects([example.calls for example in examples], answers)
    right = sorted((e for e, well in zip(examples, correct, strict=True) if well), key=lambda e: len(e.query))
    called, uncalled = (next((e for e in right if bool(e.calls) == wanted), None) for wanted in (True, False))
    return [example for example in (called, uncalled) if example]


def table(figures: Mapping[str, Any]) -> Table:
    """The forms of the model side by side: their accuracy, and how often they answer as the trained one."""
    found = Table(title=f"{figures['n']} validation queries, with 95 % intervals")
    for name in ("", "tools and arguments right", "same calls as trained"):
        found.add_column(name)
    for form, accuracy in figures["accuracy"].items():
        found.add_row(form, card.share(accuracy, "call_accuracy"), _agreement(figures["agreement"].get(form)))
    for foreign in figures["systems"]:
        found.add_row(foreign["system"], card.share(foreign, "call_accuracy"), _agreement(foreign))
    return found


def _agreement(part: Mapping[str, Any] | None) -> str:
    return card.share(part, "agreement") if part else ""


def main() -> None:
    """Write the merged model, the router's folder with its papers, and the figures."""
    parser = argparse.ArgumentParser(prog="toolforge.stages.export", description=__doc__)
    for name in ("adapter", "prior", "val", "data", "train", "eval", "merged", "router", "figures"):
        parser.add_argument(name, type=Path)
    paths = parser.parse_args()
    params = load_params("export", ExportParams)
    precision = load_params("confidence", ConfidenceParams).precision
    copied = load_params("decoding", DecodingParams).copied
    data, train, scores = (
        json.loads(path.read_text(encoding="utf-8")) for path in (paths.data, paths.train, paths.eval)
    )
    prior, val = load_prior(paths.prior), read_rows(paths.val, Example)
    if len(val) < params.queries:
        raise InputError(f"{paths.val}: {len(val)} queries; export.queries asks for {params.queries}")
    student.quiet()
    console = Console()
    trained = student.load_student(paths.adapter)
    # What is compared are weights: bfloat16's rounding of the products alone changed the answers to 5 of 408 queries of the same ones.
    trained.model.float()
    merge(paths.adapter, paths.merged)
    merged = load_merged(paths.merged, trained)
    forms = {"trained": trained, "merged": merged}
    grammar = answering.grammar_of(trained, copied)
    answers = {form: answer(model, grammar, val, params) for form, model in forms.items()}
    some = slice(None, None, params.systems_every)
    by_system = {trained.prompt.system: {form: found[some] for form, found in answers.items()}}
    for system in params.systems:
        by_system[system] = {
            form: answer(told(model, system), grammar, val[some], params) for form, model in forms.items()
        }
    gold = [example.calls for example in val]
    systems = [under(system, gold[some], found) for system, found in by_system.items()]
    settings = asked_as(trained, params.name, copied)
    paths.router.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=paths.router.parent) as scratch:
        whole, gguf, trial = (Path(scratch, name) for name in ("whole.gguf", "model.gguf", "router"))
        with console.status("writing and quantizing the GGUF"):
            convert(paths.merged, whole)
            quantize(whole, gguf, params.quantization)
        router.save(trial, gguf, trained.catalogue, prior, settings)
        asked = Router.load(trial)
        routings = [routed(asked, example.query) for example in tqdm(val, desc="answering", unit="query")]
        answers["exported"] = [calls for calls, _ in routings]
        confidences = [confidence for _, confidence in routings]
        found, figures = export(gold, answers, confidences, params, precision)
        figures |= {
            "systems": systems,
            "quantization": params.quantization,
            "megabytes": round(gguf.stat().st_size / 1e6, 1),
        }
        settings = settings.model_copy(update={"calibration": found, "threshold": figures["calibration"]["threshold"]})
        router.save(paths.router, gguf, trained.catalogue, prior, settings)
    own = trained.prompt.system
    subject = card.Subject(
        params.name,
        params.base_model,
        params.license,
        trained.prompt,
        params.max_new_tokens,
        params.data_note,
        shown(val, answers["exported"]),
    )
    text = card.card(subject, data, train, scores, figures)
    for name in ("MODEL_CARD.md", "README.md"):
        write_text(paths.router / name, text)
    ollama = prompt(trained, "{{ .Prompt }}", "{{ .System }}" if own else None)
    write_text(paths.router / "Modelfile", card.modelfile(ollama, own, settings.stop))
    write_json(paths.figures, figures)
    console.print(table(figures))
    print(f"export: {params.quantization}, {figures['megabytes']} MB; router in {paths.router}")


if __name__ == "__main__":
    run(main)
