"""teacher: label the queries, from the label store or by asking Gemini or any OpenAI-compatible service."""

import argparse
import asyncio
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from toolforge.errors import InputError, run
from toolforge.params import Params, load_params
from toolforge.records import Example, Query, read_jsonl, write_json, write_jsonl
from toolforge.teachers import keys
from toolforge.teachers.ask import Asking, Teacher
from toolforge.teachers.request import Request, Run
from toolforge.teachers.slots import Slots
from toolforge.teachers.stopping import Loop
from toolforge.teachers.store import Record, Store
from toolforge.teachers.tally import Price, Tally, estimate, load_gold, slot_table
from toolforge.tools import Catalogue, load_tools


class TeacherParams(Params):
    """`recorded` answers from the store and needs no key; `gemini` and `openai` ask `models` for what the store lacks.

    `mode: batch` hands the queries to Gemini's Batch API. `wait` sits a long rest of all slots, or batch jobs, out instead of ending
    the run. `in_flight` is how many requests a slot takes at once, `timeout` the seconds of one request, `give_up_after` the
    seconds that a query's 5xx, drops and time-outs may last. `prices` are USD per million tokens by model.
    """

    provider: Literal["recorded", "gemini", "openai"]
    models: list[str] = Field(default=["gemini-3.5-flash-lite"], min_length=1)
    mode: Literal["online", "batch"] = "online"
    wait: bool = False
    in_flight: int = Field(default=3, gt=0)
    timeout: float = Field(default=60.0, gt=0)
    give_up_after: float = Field(default=180.0, gt=0)
    prices: dict[str, Price] = Field(default={})

    @model_validator(mode="after")
    def _batch_is_geminis(self) -> "TeacherParams":
        if self.mode == "batch" and self.provider == "openai":
            raise ValueError("mode: batch is Gemini's; with provider openai set mode: online")
        return self


@dataclass(frozen=True)
class Paths:
    """The stage's files. `gold` is a folder of examples, `metrics` a JSON file; both may be left out."""

    queries: Path
    store: Path
    out: Path
    tools: Path
    labels: Path
    metrics: Path | None = None
    gold: Path | None = None


def teacher(
    queries: Iterable[Query], find: Callable[[str], Record | None], catalogue: Catalogue, tally: Tally
) -> Iterator[Example]:
    """The queries that `find` has a label for which fits the catalogue, labelled; `tally` counts them all."""
    for query in queries:
        record = find(query.query)
        fits = record is not None and record.calls is not None and not catalogue.fault(record.calls)
        tally.count(record, fits)
        if record and record.calls is not None and fits:
            calls = catalogue.canonical(record.calls)
            yield Example(id=query.id, query=query.query, calls=calls, source=record.model, group=query.group)


def label(paths: Paths, params: TeacherParams) -> None:
    """Ask for what the store lacks, then write OUT, the metrics and a summary.

    Raises InputError where a run that may ask ends with queries left unlabelled, so that DVC does not take it for complete; OUT
    then holds what is labelled, and every answer is in the store.
    """
    catalogue = load_tools(paths.tools)
    asked = Run()
    if params.provider == "recorded":
        with Store(paths.store) as store:
            tally = _write(paths, params, catalogue, store.label)
    else:
        request = _request(paths, params, catalogue)
        with Store(paths.store, write=True) as store:
            asked = _ask(paths, params, catalogue, store, request)
            tally = _write(paths, params, catalogue, lambda query: store.answer(query, request.keys))
    print(f"teacher: {tally.labelled} of {tally.total} queries labelled")
    if params.provider == "recorded":
        if tally.missing + tally.unfit:
            print(
                f"teacher: {tally.missing + tally.unfit} queries have no label that fits the catalogue in {paths.store}; to have Gemini "
                f"label them, set {keys.GEMINI_KEYS} and run with -S teacher.provider=gemini",
                file=sys.stderr,
            )
        return
    if tally.unfit:
        print(
            f"teacher: {tally.unfit} labels in {paths.store} do not fit the catalogue and are left out", file=sys.stderr
        )
    if tally.kept_out:
        print(f"teacher: for good without a label: {tally.kept_out}")
    if asked.ended or tally.missing:
        why = asked.ended or "; ".join(f"{count} x {reason}" for reason, count in asked.unanswered.most_common(3))
        raise InputError(
            f"teacher: {tally.missing} of {tally.total} queries are unlabelled: {why or 'no answer'}; every answer is in "
            f"{paths.store}, run again to resume"
        )


def dry_run(paths: Paths, params: TeacherParams) -> str:
    """What a run would ask, in requests, tokens and USD, without a request."""
    catalogue = load_tools(paths.tools)
    recorded = params.provider == "recorded"
    request = _request(paths, params, catalogue)
    with Store(paths.store) as store:
        missing = list(dict.fromkeys(_missing(paths.queries, store, request)))
    head = "teacher.provider is recorded, which asks nothing; gemini would take:\n" if recorded else ""
    return head + estimate(missing, catalogue, request.guide, params.models, params.prices, params.mode == "batch")


def _request(paths: Paths, params: TeacherParams, catalogue: Catalogue) -> Request:
    if not paths.labels.is_file():
        raise InputError(f"{paths.labels}: no such file; it is the guide that the teacher is given")
    try:
        guide = paths.labels.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{paths.labels}: not UTF-8") from None
    return Request(catalogue.digest, guide, tuple(params.models))


def _queries(path: Path) -> Iterator[Query]:
    """The queries, a line at a time: a hundred thousand of them take no more memory than a thousand. Raises InputError for a pipe, which could not be
    read again.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return (query for _, query in read_jsonl(path, Query))


def _missing(path: Path, store: Store, request: Request) -> Iterator[str]:
    return (row.query for row in _queries(path) if not store.answer(row.query, request.keys))


def _ask(paths: Paths, params: TeacherParams, catalogue: Catalogue, store: Store, request: Request) -> Run:
    missing = sum(1 for _ in _missing(paths.queries, store, request))
    if not missing:
        return Run()
    secrets = keys.gemini_keys() if params.provider == "gemini" else keys.openai_keys()

    async def ask() -> Run:
        slots = Slots(paths.store.with_suffix(".slots.json"), secrets, params.models, params.in_flight, params.wait)
        texts = (query.query for query in _queries(paths.queries))
        try:
            # Imported here: the SDKs take a second to load, which the default provider need not wait for.
            if params.provider == "openai":
                from toolforge.teachers.openai import OpenAI

                service: Teacher = OpenAI(catalogue, request.guide, params.timeout)
            else:
                from toolforge.teachers.gemini import Gemini

                service = gemini = Gemini(catalogue, request.guide, params.timeout, online=params.mode == "online")
                if params.mode == "batch":
                    from toolforge.teachers.batch import Batch

                    journal = paths.store.with_suffix(".batch.json")
                    batch = Batch(gemini, slots, store, request, journal, params.give_up_after, params.wait)
                    return await batch.label(texts, missing)
            asking = Asking(service, slots, store, request, params.timeout, params.give_up_after)
            return await asking.label(texts, missing)
        finally:
            slot_table(slots)

    try:
        with asyncio.Runner(loop_factory=Loop) as runner:
            return runner.run(ask())
    except KeyboardInterrupt:
        print(f"teacher: every answer is in {paths.store}, run again to resume", file=sys.stderr)
        raise


def _write(paths: Paths, params: TeacherParams, catalogue: Catalogue, find: Callable[[str], Record | None]) -> Tally:
    tally = Tally(params.prices, load_gold(paths.gold))
    write_jsonl(paths.out, teacher(_queries(paths.queries), find, catalogue, tally))
    if paths.metrics:
        write_json(paths.metrics, tally.report())
    return tally


def main() -> None:
    """Read the queries and the store; write the labelled examples. A service's answers go into the store as they come."""
    parser = argparse.ArgumentParser(prog="toolforge.stages.teacher", description=__doc__)
    for name in ("queries", "store", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--tools", type=Path, default=Path("data/tools.json"))
    parser.add_argument(
        "--labels", type=Path, default=Path("data/LABELS.md"), help="the guide that the teacher is given"
    )
    parser.add_argument("--metrics", type=Path, help="labels by outcome, model and class, tokens and cost, as JSON")
    parser.add_argument("--gold", type=Path, help="a folder of labelled examples to compare the teacher's labels with")
    paths = Paths(**vars(parser.parse_args()))
    label(paths, load_params("teacher", TeacherParams))


if __name__ == "__main__":
    run(main)
