"""The label store: every answer that a teacher ever gave, one JSON object a line, append-only.

A million records are indexed without being held: in memory is only where each query's records begin.
"""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import orjson
from pydantic import Field, ValidationError, model_validator

from toolforge.errors import InputError
from toolforge.records import Row, ToolCall, first_fault, line

HAND = "hand"


class Record(Row):
    """An answer. `key` is the hash of what was asked; `model` says who answered, "hand" for a person's label; `answer` is the
    calls as a completion writes them, else the raw answer; `tokens` is what was spent on it, retries included (of a batch job, its last try alone), of which `prompt_tokens` for what was sent; `time` is UTC.

    `calls` is the label, null where `outcome` is `blocked` (the service will not answer this query) or `rejected` (no
    answer fitted the catalogue), for the `reason` given. `asked` is the model that was asked for, `seconds` from the first
    request to the answer, and `batch` says that it came at the batch price.
    """

    key: str = Field(min_length=1)
    query: str = Field(min_length=1)
    model: str = Field(min_length=1)
    answer: str
    calls: list[ToolCall] | None
    tokens: int = Field(ge=0)
    time: str = Field(min_length=1)
    asked: str = ""
    outcome: Literal["label", "blocked", "rejected"] = "label"
    reason: str = ""
    prompt_tokens: int = Field(default=0, ge=0)
    seconds: float = Field(default=0.0, ge=0)
    batch: bool = False

    @model_validator(mode="after")
    def _label_has_calls(self) -> Self:
        if (self.outcome == "label") != (self.calls is not None):
            raise ValueError("a label has calls; what is blocked or rejected has null")
        return self


def request_key(query: str, catalogue: str, model: str, prompt: str) -> str:
    """The hash of a request: the same query, catalogue, asked model and prompt give the same key on any machine."""
    return hashlib.sha256(json.dumps([query, catalogue, model, prompt]).encode()).hexdigest()


def now() -> str:
    """The time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Store:
    """The store in a file. The first durable record of a key wins, and of a query where any teacher's label will do."""

    def __init__(self, path: Path, write: bool = False) -> None:
        """Index the file, which may be missing. Raises InputError for a line that is no record.

        With `write`, the file is made where it is missing and locked until `close` or the end of the process, however it
        ends; InputError where another run holds it. A last line that a killed run left torn is cut off; a reader only passes it over.
        """
        self._path = path
        self._starts: dict[int, int | tuple[int, ...]] = {}
        self._end = 0
        self._file = -1
        if write:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.close()
                raise InputError(f"{path}: another run writes to this store; wait for it, or stop it") from None
        elif path.exists():
            self._file = os.open(path, os.O_RDONLY)
        if self._file >= 0:
            try:
                self._index(write)
            except InputError:
                self.close()
                raise

    def _index(self, write: bool) -> None:
        with open(self._file, "rb", closefd=False) as lines:
            for number, raw in enumerate(lines, 1):
                if not raw.endswith(b"\n"):
                    whole = _is_json(raw)
                    if write and whole:
                        os.write(self._file, b"\n")
                    elif write:
                        os.ftruncate(self._file, self._end)
                    if not whole:
                        return
                if raw.strip():
                    self._remember(_query_of(raw, self._path, number), self._end)
                self._end += len(raw) if raw.endswith(b"\n") else len(raw) + 1

    def _remember(self, query: str, start: int) -> None:
        place = _place(query)
        known = self._starts.get(place)
        if known is None:
            self._starts[place] = start
        else:
            self._starts[place] = (*known, start) if isinstance(known, tuple) else (known, start)

    def records(self, query: str) -> Iterator[Record]:
        """The records of a query, oldest first."""
        starts = self._starts.get(_place(query), ())
        for start in starts if isinstance(starts, tuple) else (starts,):
            raw = self._line(start)
            try:
                record = Record.model_validate_json(raw)
            except ValidationError as error:
                raise InputError(f"{self._path}: byte {start}: {first_fault(error)}") from None
            if record.query == query:
                yield record

    def _line(self, start: int) -> bytes:
        raw, size = b"", 4096
        while b"\n" not in raw:
            more = os.pread(self._file, size, start + len(raw))
            if not more:
                return raw
            raw, size = raw + more, size * 4
        return raw[: raw.index(b"\n")]

    def label(self, query: str) -> Record | None:
        """The first label of a query, whoever made it."""
        return next((record for record in self.records(query) if record.calls is not None), None)

    def answer(self, query: str, keys: Callable[[str], Collection[str]]) -> Record | None:
        """What ends the asking of a query: a person's label, else the first record of one of its requests' keys."""
        records = list(self.records(query))
        if not records:
            return None
        wanted = keys(query)
        by_hand = (record for record in records if record.model == HAND and record.calls is not None)
        return next(by_hand, None) or next((record for record in records if record.key in wanted), None)

    def append(self, records: Sequence[Record]) -> None:
        """Write records to the disk before returning; one whose key has a record already is left out.

        Raises OSError where the disk does not take them; what stood there before stays whole.
        """
        new: dict[str, Record] = {}
        for record in records:
            if record.key not in new and all(old.key != record.key for old in self.records(record.query)):
                new[record.key] = record
        if not new:
            return
        if not self._path.exists() or self._path.stat().st_ino != os.fstat(self._file).st_ino:
            raise InputError(f"{self._path}: was moved or replaced while this run wrote to it; run again")
        lines = [line(record).encode() for record in new.values()]
        try:
            data = memoryview(b"".join(lines))
            while data:
                data = data[os.write(self._file, data) :]
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, self._end)
            raise OSError(error.errno, error.strerror, str(self._path)) from None
        for record, raw in zip(new.values(), lines, strict=True):
            self._remember(record.query, self._end)
            self._end += len(raw)

    def close(self) -> None:
        """Give the file and its lock back."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        """The store, to be closed at the end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def _place(query: str) -> int:
    """64 bits for a query; `records` compares the text itself, so that two queries of one place do no harm."""
    return int.from_bytes(hashlib.blake2b(query.encode(), digest_size=8).digest())


def _is_json(raw: bytes) -> bool:
    try:
        orjson.loads(raw)
    except ValueError:
        return False
    return True


def _query_of(raw: bytes, path: Path, number: int) -> str:
    """The query of a record's line, by a look that is quick enough for a million of them."""
    row: Any = None
    with contextlib.suppress(ValueError):
        row = orjson.loads(raw)
    if (
        isinstance(row, dict)
        and isinstance(row.get("query"), str)
        and isinstance(row.get("key"), str)
        and "calls" in row
    ):
        return str(row["query"])
    try:
        return Record.model_validate_json(raw).query
    except ValidationError as error:
        raise InputError(f"{path}:{number}: {first_fault(error)}") from None
