"""teacher: label the queries, from the label store or by asking Gemini."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from toolforge.errors import run
from toolforge.params import Params, load_params
from toolforge.records import Example, Query, read_rows, write_jsonl
from toolforge.teachers import recorded
from toolforge.teachers.store import Record, Store
from toolforge.tools import Catalogue, load_tools


class TeacherParams(Params):
    """`recorded` answers from the store and needs no key; `gemini` asks `model` for what the store lacks."""

    provider: Literal["recorded", "gemini"]
    model: str = Field(min_length=1)


def teacher(
    queries: Sequence[Query], records: Sequence[Record | None], catalogue: Catalogue
) -> tuple[list[Example], int]:
    """The queries that have a record whose calls fit the catalogue, labelled, and how many have none that fits."""
    examples = [
        Example(
            id=query.id,
            query=query.query,
            calls=catalogue.canonical(record.calls),
            source=record.model,
            group=query.group,
        )
        for query, record in zip(queries, records, strict=True)
        if record and not catalogue.fault(record.calls)
    ]
    return examples, len(queries) - len(examples)


def main() -> None:
    """Read the queries and the store; write the labelled examples. Gemini's answers go into the store as they come."""
    parser = argparse.ArgumentParser(prog="toolforge.stages.teacher", description=__doc__)
    for name in ("queries", "store", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--tools", type=Path, default=Path("data/tools.json"))
    parser.add_argument("--labels", type=Path, default=Path("data/LABELS.md"), help="the guide that Gemini is given")
    paths = parser.parse_args()
    params = load_params("teacher", TeacherParams)
    catalogue = load_tools(paths.tools)
    queries = read_rows(paths.queries, Query)
    store = Store(paths.store)
    if params.provider == "gemini":
        # Imported here: its SDK takes a second to load, which the default provider need not wait for.
        from toolforge.teachers import gemini

        records = gemini.label(queries, store, catalogue, params.model, paths.labels.read_text(encoding="utf-8"))
    else:
        records = recorded.label(queries, store)
    examples, missing = teacher(queries, records, catalogue)
    write_jsonl(paths.out, examples)
    print(f"teacher: {len(examples)} of {len(queries)} queries labelled")
    if missing:
        print(
            f"teacher: {missing} queries have no label that fits the catalogue in {paths.store}; to have Gemini label them, set "
            "GEMINI_API_KEYS and run with -S teacher.provider=gemini",
            file=sys.stderr,
        )


if __name__ == "__main__":
    run(main)
