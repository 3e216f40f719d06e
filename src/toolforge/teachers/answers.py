"""What a teacher's service can say to one request: an answer, or one of five faults, each with its own fate."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from toolforge.records import ToolCall
from toolforge.tools import Catalogue


@dataclass(frozen=True)
class Answer:
    """A finished answer. `calls` is the label; None where there is none for `reason`, which is `final` where the service will
    not answer this query, and worth another try where the answer was malformed or broke the catalogue.
    """

    model: str
    text: str
    calls: list[ToolCall] | None
    reason: str = ""
    final: bool = False
    prompt_tokens: int = 0
    tokens: int = 0


class Fault(Exception):  # noqa: N818 - a fault of the service, not of this program
    """No answer came. The message is one line for a person; it may hold a key until it is redacted."""


class Transient(Fault):
    """500, 503, a drop, a cut answer, a time-out: the same request may be answered soon."""


class Empty(Transient):
    """A success that holds no answer at all: tried again a few times only."""


class Spent(Fault):
    """429. `quota` says whose end it is (`none`: this project has no quota of the model at all), `delay` the seconds that the
    service asks to wait, `limit` the quota's size; None where it does not say.
    """

    def __init__(  # noqa: D107
        self, message: str, quota: Literal["day", "minute", "none", "unknown"], delay: float | None, limit: int | None
    ) -> None:
        super().__init__(message)
        self.quota, self.delay, self.limit = quota, delay, limit


class Refused(Fault):
    """The key is invalid, leaked or suspended, or with `project`, all keys of its project are."""

    def __init__(self, message: str, project: bool = False) -> None:  # noqa: D107
        super().__init__(message)
        self.project = project


class Misconfigured(Fault):
    """A request that no key and no retry can mend: location, schema, deadline, a model that does not exist."""


def checked(names_and_arguments: Sequence[tuple[Any, Any]], catalogue: Catalogue) -> tuple[list[ToolCall] | None, str]:
    """The calls that a model named, canonical; or None and what is wrong with the first that breaks the catalogue."""
    calls = []
    for name, arguments in names_and_arguments:
        # Gemini at times writes the name as its own code would call it.
        plain = name.removeprefix("default_api.") if isinstance(name, str) else name
        try:
            calls.append(ToolCall(name=plain, arguments={} if arguments is None else arguments))
            # A lone surrogate or NaN can stand in what json.loads reads, and in no JSON that may be written.
            json.dumps([plain, arguments], ensure_ascii=False, allow_nan=False).encode()
        except ValidationError as error:
            return None, f"a call that is none: {error.errors()[0]['msg']}"
        except ValueError:
            return None, "a call with a value that JSON cannot hold"
    fault = catalogue.fault(calls)
    return (None, fault) if fault else (catalogue.canonical(calls), "")


def without_call(text: str, catalogue: Catalogue) -> tuple[list[ToolCall] | None, str]:
    """What a finished answer without a call says: no tool; or None and why, where there is no text, or where a call of the catalogue is written in it.

    A server that does not know its model's format hands calls on as text (`{"name": "weather", ...}`, `<function=weather>`), and Gemini at times writes
    `default_api.weather(...)`.
    """
    if not text.strip():
        return None, "a finished answer without a text or a call"
    names = "|".join(map(re.escape, catalogue.names))
    if re.search(rf'"name"\s*:\s*"({names})"|<function=({names})>|\bdefault_api\.({names})\(', text):
        return None, "a call written as text"
    return [], ""
