"""Everything that crosses a border between stages, and its JSONL.

One JSON object a line, UTF-8, LF, keys in the order of the fields: the same rows give the same bytes anywhere.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from toolforge.errors import InputError


class Row(BaseModel):
    """A frozen record that refuses unknown keys and coerces no types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ToolCall(Row):
    """One call of a tool. A list of them is an answer: empty means that no tool is needed."""

    name: str = Field(min_length=1)
    arguments: dict[str, JsonValue]


class Query(Row):
    """What the teacher is asked. `group` is the template or paraphrase family that it belongs to."""

    id: str = Field(min_length=1)
    query: str = Field(min_length=1)
    group: str = Field(min_length=1)


class Example(Row):
    """A labelled query. `source` says who made the label; a `group` never stands in two splits.

    `suite` names the kind of a hard example. `unseen_entities` is set by the split stage on a test row whose
    places, words, phrases and titles occur nowhere in train.
    """

    id: str = Field(min_length=1)
    query: str = Field(min_length=1)
    calls: list[ToolCall]
    source: str = Field(min_length=1)
    group: str = Field(min_length=1)
    suite: str = ""
    unseen_entities: bool = False


class Question(BaseModel):
    """A row that eval answers: an Example, or any object with a `query`. Without `calls` it is only answered.

    Other keys are ignored: the row may come from outside the project.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str | int | None = None
    query: str
    calls: list[ToolCall] | None = None
    source: str = ""
    suite: str = ""
    unseen_entities: bool = False


class Prediction(Row):
    """An answer beside its gold. `predicted` is null where the raw `answer` does not parse; `calls` is null where
    no gold was given; `confidence` is the model's probability of its answer, 0 to 1.
    """

    id: str
    query: str
    calls: list[ToolCall] | None
    predicted: list[ToolCall] | None
    answer: str
    confidence: float


NO_TOOL = "no_tool"
MULTI_TOOL = "multi_tool"


def class_of(calls: Sequence[ToolCall]) -> str:
    """The class of an answer: no_tool, multi_tool, or the one tool's name."""
    if not calls:
        return NO_TOOL
    return calls[0].name if len(calls) == 1 else MULTI_TOOL


R = TypeVar("R", bound=BaseModel)


def read_jsonl(path: Path, kind: type[R]) -> Iterator[tuple[int, R]]:
    """Yield (line number, row) of every line that is not blank.

    Raises InputError with file, line and fault where the file is missing or a line is not such a row. Lines end at
    LF only: a value may hold U+2028, which str.splitlines would cut at.
    """
    if path.is_dir():
        raise InputError(f"{path}: a folder; name a file of rows")
    # A pipe is no regular file.
    if not path.exists():
        raise InputError(f"{path}: no such file")
    with path.open(encoding="utf-8", newline="\n") as lines:
        try:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    try:
                        yield number, kind.model_validate_json(line)
                    except ValidationError as error:
                        raise InputError(f"{path}:{number}: {first_fault(error)}") from None
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None


def read_rows(path: Path, kind: type[R]) -> list[R]:
    """All rows of a JSONL file. Raises as read_jsonl does."""
    return [row for _, row in read_jsonl(path, kind)]


def read_text(path: Path) -> str:
    """The text of a UTF-8 file. Raises InputError with the file's name."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None


def read_yaml(path: Path) -> Any:
    """The document in a YAML file. Raises InputError with the file's name."""
    try:
        return yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {error}") from None


def first_fault(error: ValidationError) -> str:
    """The first fault that pydantic found, as `place: what is wrong`."""
    # Pydantic's page, the exception and the value are left out: no line shows them, and a value may be long or secret.
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in fault["loc"])
    return f"{place}: {fault['msg']}" if place else fault["msg"]


def write_jsonl(path: Path, rows: Iterable[BaseModel]) -> None:
    """Write the rows, replacing the file only when all of them are on disk."""
    _replace(path, lambda out: out.writelines(line(row) for row in rows))


def write_json(path: Path, value: Any) -> None:
    """Write one indented JSON document, replacing the file only when all of it is on disk."""
    _replace(path, lambda out: out.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n"))


def write_text(path: Path, text: str) -> None:
    """Write a text, replacing the file only when all of it is on disk."""
    _replace(path, lambda out: out.write(text))


def line(row: BaseModel) -> str:
    """The row's JSONL line. Fields that hold their default are left out."""
    return json.dumps(row.model_dump(mode="json", exclude_defaults=True), ensure_ascii=False) + "\n"


def _replace(path: Path, write: Callable[[Any], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", newline="\n", dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as out:
        try:
            write(out)
            out.flush()
            os.fsync(out.fileno())
            # NamedTemporaryFile makes 0600; a data file is for everyone that the directory is for.
            Path(out.name).chmod(0o644)
            Path(out.name).replace(path)
        except BaseException:
            Path(out.name).unlink(missing_ok=True)
            raise
