"""The label store: every answer that a teacher ever gave, one JSON object a line, append-only."""

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field

from toolforge.errors import InputError
from toolforge.records import Row, ToolCall, line, read_jsonl


class Record(Row):
    """An answer. `key` is the hash of what was asked; `model` says who answered, "hand" for a person's label;
    `answer` is the raw answer; `tokens` is what was spent on it; `time` is UTC.
    """

    key: str = Field(min_length=1)
    query: str = Field(min_length=1)
    model: str = Field(min_length=1)
    answer: str
    calls: list[ToolCall]
    tokens: int = Field(ge=0)
    time: str = Field(min_length=1)


def request_key(query: str, catalogue: str, model: str, prompt: str) -> str:
    """The hash of a request: the same query, catalogue, asked model and prompt give the same key on any machine."""
    return hashlib.sha256(json.dumps([query, catalogue, model, prompt]).encode()).hexdigest()


def now() -> str:
    """The time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Store:
    """The store in a file. The first record of a key wins, and of a query where any teacher's label will do."""

    def __init__(self, path: Path) -> None:
        """Read the file; a last line that a killed run left torn is cut off. Raises InputError for any other line that is no Record."""
        self._path = path
        self._by_key: dict[str, Record] = {}
        self._by_query: dict[str, Record] = {}
        if not path.exists():
            return
        _cut_torn_line(path)
        for _, record in read_jsonl(path, Record):
            self._keep(record)

    def _keep(self, record: Record) -> None:
        self._by_key.setdefault(record.key, record)
        self._by_query.setdefault(record.query, record)

    def asked(self, key: str) -> Record | None:
        """The record of a request, if it was answered."""
        return self._by_key.get(key)

    def answered(self, query: str) -> Record | None:
        """The first record of a query, whoever made it."""
        return self._by_query.get(query)

    def append(self, record: Record) -> None:
        """Write a record to the disk before returning. A key that has one already is left as it is."""
        if record.key in self._by_key:
            return
        with self._path.open("a", encoding="utf-8", newline="\n") as out:
            out.write(line(record))
            out.flush()
            os.fsync(out.fileno())
        self._keep(record)


def _cut_torn_line(path: Path) -> None:
    with path.open("rb") as store:
        data = store.read()
    if data and not data.endswith(b"\n"):
        try:
            json.loads(data[data.rfind(b"\n") + 1 :])
        except ValueError:
            keep = data.rfind(b"\n") + 1
        else:
            raise InputError(f"{path}: the last line has no line end; add it")
        with path.open("r+b") as store:
            store.truncate(keep)
