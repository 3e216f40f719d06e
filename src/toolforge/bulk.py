"""A file of queries, routed row by row. A run that was cut off goes on where it stopped."""

import fcntl
import json
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

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

    Says on stderr how many are answered already, by whatever router and threshold. Raises InputError with file and line for a row that is none or cannot be answered, where another
    run is writing `target`, and where it holds anything but answers to the first rows: it is left as it is. A torn last line, an answer's beginning, is written anew.
    """
    asked = list(read_jsonl(source, Asked))
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("a", encoding="utf-8", newline="\n") as out:
        try:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{target}: another run is writing it") from None
        # A pipe holds nothing of an earlier run, and would be read for ever.
        done = _done(source, asked, target) if target.is_file() else 0
        if done:
            print(
                f"{target}: {done} of {len(asked)} rows are answered already; to route them anew, remove it",
                file=sys.stderr,
            )
        # No bar where stderr is a file or a pipe.
        for number, row in tqdm(asked[done:], initial=done, total=len(asked), unit="row", disable=None):
            try:
                routing = router.route(row.query, threshold)
            except InputError as error:
                raise InputError(f"{source}:{number}: {error}") from None
            out.write(json.dumps(_asked(row) | {"routing": routing.model_dump()}, ensure_ascii=False) + "\n")
            out.flush()


def _asked(row: Asked) -> dict[str, Any]:
    return row.model_dump(exclude={"routing"})


def _done(source: Path, asked: Sequence[tuple[int, Asked]], target: Path) -> int:
    """How many rows an earlier run has answered. A torn last line is cut off, once all of `target` is known to be that run's."""
    *whole, torn = target.read_bytes().split(b"\n")
    done = list(islice(read_jsonl(target, Routed), len(whole)))
    if len(done) > len(asked):
        raise InputError(f"{target}: holds {len(done)} answers to the {len(asked)} queries of {source}")
    for (number, row), (line, routed) in zip(asked, done, strict=False):
        # As texts: a NaN is not the same as itself.
        if json.dumps(_asked(row), sort_keys=True) != json.dumps(_asked(routed), sort_keys=True):
            raise InputError(f"{target}:{line}: does not answer {source}:{number}; name another output")
    if torn:
        rows = [
            json.dumps(_asked(row), ensure_ascii=False)[:-1].encode() for _, row in asked[len(done) : len(done) + 1]
        ]
        if not any(row.startswith(torn) or torn.startswith(row + b", ") for row in rows):
            raise InputError(
                f"{target}:{len(whole) + 1}: is no answer to {source} that was cut off; name another output"
            )
        with target.open("r+b") as out:
            out.truncate(target.stat().st_size - len(torn))
    return len(done)
