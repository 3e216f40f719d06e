"""A file of queries, routed row by row. A run that was cut off goes on where it stopped."""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from tqdm import tqdm

from toolforge.errors import InputError
from toolforge.records import read_jsonl
from toolforge.router import Router, Routing


class Asked(BaseModel):
    """A row with a query. Its other keys are kept."""

    model_config = ConfigDict(extra="allow", strict=True)

    query: str


class Routed(Asked):
    """The same row with its routing."""

    routing: Routing


def route_file(router: Router, source: Path, target: Path, threshold: float | None) -> None:
    """Append one row to `target` for every row of `source` that it does not answer yet, in order.

    Raises InputError with file and line for a row that is none or cannot be answered, and where `target` holds
    answers to other queries. A torn last line of `target` is written anew.
    """
    asked = list(read_jsonl(source, Asked))
    done = _done(target)
    for (number, row), (line, routed) in zip(asked, done, strict=False):
        if row.query != routed.query:
            raise InputError(f"{target}:{line}: does not answer {source}:{number}; name another output")
    if len(done) > len(asked):
        raise InputError(f"{target}: holds {len(done)} answers to the {len(asked)} queries of {source}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("a", encoding="utf-8", newline="\n") as out:
        # No bar where stderr is a file or a pipe.
        for number, row in tqdm(asked[len(done) :], initial=len(done), total=len(asked), unit="row", disable=None):
            try:
                routing = router.route(row.query, threshold)
            except InputError as error:
                raise InputError(f"{source}:{number}: {error}") from None
            out.write(json.dumps({**row.model_dump(), "routing": routing.model_dump()}, ensure_ascii=False) + "\n")
            out.flush()


def _done(target: Path) -> list[tuple[int, Routed]]:
    """The rows that an earlier run wrote whole. A torn last line is cut off."""
    if not target.exists():
        return []
    with target.open("r+b") as out:
        out.truncate(sum(len(line) for line in out if line.endswith(b"\n")))
    return list(read_jsonl(target, Routed))
