"""A request for a label, and the record that an answer to it becomes."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from toolforge.prompt import answer as written
from toolforge.teachers.answers import Answer
from toolforge.teachers.keys import Key, redact
from toolforge.teachers.store import Record, now, request_key

# Tries of an answer that is malformed, empty or breaks the catalogue.
TRIES = 3


@dataclass(frozen=True)
class Request:
    """What makes two requests the same: the catalogue's digest, the guide, and the models of which any may answer."""

    catalogue: str
    guide: str
    models: tuple[str, ...]

    def key(self, query: str, model: str) -> str:
        """The key that the answer of a model has in the store."""
        return request_key(query, self.catalogue, model, self.guide)

    def keys(self, query: str) -> Collection[str]:
        """The keys of which one suffices."""
        return [self.key(query, model) for model in self.models]


@dataclass
class Run:
    """How an asking went: why it ended early, or ""; and by reason how many queries got no answer that may be kept."""

    ended: str = ""
    unanswered: Counter[str] = field(default_factory=Counter)


def record_of(
    key: str, query: str, model: str, answer: Answer, keys: Iterable[Key], *,
    prompt_tokens: int, tokens: int, seconds: float, batch: bool = False,
) -> Record:  # fmt: skip
    """The record of an answer, with what it cost."""
    return Record(
        key=key,
        query=query,
        model=_writable(answer.model),
        answer=written(answer.calls) if answer.calls else _writable(answer.text),
        calls=answer.calls,
        tokens=tokens,
        time=now(),
        asked=model,
        outcome="label" if answer.calls is not None else "blocked" if answer.final else "rejected",
        reason=_writable(redact(answer.reason, keys)),
        prompt_tokens=prompt_tokens,
        seconds=round(seconds, 3),
        batch=batch,
    )


def _writable(text: str) -> str:
    """The text without lone surrogates, which JSON can hold and UTF-8 cannot."""
    return text.encode(errors="replace").decode()
