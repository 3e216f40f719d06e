"""How Gemini's bodies are read: an answer or a fault, from JSON alone.

Answers are read from the raw body: the SDK's own reading drops finishMessage, fails on shapes that it does not know, and says
nothing at all of an empty one.
"""

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from toolforge.teachers.answers import (
    Answer,
    Empty,
    Fault,
    Misconfigured,
    Refused,
    Spent,
    Transient,
    checked,
    without_call,
)
from toolforge.tools import Catalogue

# What a query cannot be cured of. Any other finish but STOP is worth another try.
BLOCKED = {"SAFETY", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR", "JAILBREAK"}


class _Call(BaseModel):
    name: Any = None
    args: Any = None


class _Part(BaseModel):
    text: str | None = None
    thought: bool | None = None
    functionCall: _Call | None = None  # noqa: N815


class _Content(BaseModel):
    parts: list[_Part] | None = None


class _Candidate(BaseModel):
    content: _Content | None = None
    finishReason: str | None = None  # noqa: N815
    finishMessage: str | None = None  # noqa: N815


class _Feedback(BaseModel):
    blockReason: str | None = None  # noqa: N815


class _Usage(BaseModel):
    promptTokenCount: int | None = None  # noqa: N815
    totalTokenCount: int | None = None  # noqa: N815


class _Response(BaseModel):
    candidates: list[_Candidate] | None = None
    promptFeedback: _Feedback | None = None  # noqa: N815
    usageMetadata: _Usage = Field(default_factory=_Usage)  # noqa: N815
    modelVersion: str | None = None  # noqa: N815


def load(body: str | None) -> dict[str, Any]:
    """The object in a successful body. Raises Transient where it is cut or no JSON, Empty where there is nothing in it, and the
    error's own fault where a gateway sends one as a success.
    """
    if not body or not body.strip():
        raise Empty("an empty answer")
    document = json.loads(body)
    if not isinstance(document, dict):
        raise Empty("an answer that is no object")
    if "error" in document:
        error = document["error"]
        code = error.get("code") if isinstance(error, dict) else None
        raise fault(code if isinstance(code, int) else 500, document)
    return document


def read(document: Mapping[str, Any], model: str, catalogue: Catalogue) -> Answer:
    """The answer in a response's body. Only a finished text is no_tool, and only calls that fit the catalogue are calls.

    Raises Empty for a body without a candidate or a block, and Refused where the account was closed for misuse.
    """
    try:
        response = _Response.model_validate(document)
    except ValidationError:
        raise Empty("an answer of an unknown shape") from None
    candidate = response.candidates[0] if response.candidates else None
    blocked = response.promptFeedback.blockReason if response.promptFeedback else None
    if not candidate and not blocked:
        raise Empty("an answer without a candidate")
    finish = candidate.finishReason if candidate else None
    if finish == "PUP_LIMITED_DISABLED":
        raise Refused("account limited for prohibited use", project=True)
    parts = candidate.content.parts if candidate and candidate.content and candidate.content.parts else []
    text = "".join(part.text for part in parts if part.text and not part.thought)
    named = [(part.functionCall.name, part.functionCall.args) for part in parts if part.functionCall]
    calls, reason, final = None, "", False
    if not candidate or finish in BLOCKED:
        reason, final = f"blocked: {finish or blocked}", True
    elif finish != "STOP":
        reason = " ".join(filter(None, (finish or "no finish reason", candidate.finishMessage)))
    elif named:
        calls, reason = checked(named, catalogue)
    else:
        calls, reason = without_call(text, catalogue)
    usage = response.usageMetadata
    return Answer(
        # The name that answered: an alias or a retired model is routed to another.
        model=response.modelVersion or model,
        text=json.dumps([{"name": name, "arguments": args} for name, args in named]) if named else text,
        calls=calls,
        reason=reason,
        final=final,
        prompt_tokens=max(usage.promptTokenCount or 0, 0),
        tokens=max(usage.totalTokenCount or 0, 0),
    )


def fault(code: int, body: Any) -> Fault:
    """The fate of an error by its status, its reason and, where the service gives none, its words."""
    error = _error(body)
    message = f"{code} {error.get('message') or error.get('status') or 'no message'}"
    details = [detail for detail in error.get("details") or [] if isinstance(detail, dict)]
    reasons = {str(detail.get("reason")) for detail in details}
    if code == 429:
        return _spent(message, details)
    if code < 400 or code in (408, 409, 499) or code >= 500:
        return Transient(message)
    if code in (401, 403) or "API_KEY_INVALID" in reasons or re.search(r"api key (not|expired|invalid)", message, re.I):
        return Refused(message, project="your project" in message.lower())
    return Misconfigured(message)


def _error(body: Any) -> dict[str, Any]:
    """The error object in a body as the SDK gives it: of JSON that is not declared as such, the SDK makes one long message."""
    if isinstance(body, dict) and "error" not in body:
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            body = json.loads(body.get("message") or "")
    if isinstance(body, list) and body:
        body = body[0]
    error = body.get("error", body) if isinstance(body, dict) else {}
    return error if isinstance(error, dict) else {"message": str(error)}


def _spent(message: str, details: Sequence[Mapping[str, Any]]) -> Spent:
    violations = [
        violation
        for detail in details
        if str(detail.get("@type", "")).endswith("QuotaFailure")
        for violation in detail.get("violations") or []
        if isinstance(violation, dict)
    ]
    stated = [str(detail["retryDelay"]) for detail in details if detail.get("retryDelay")]
    stated += re.findall(r"retry in ([\d.hms]*[hms])", message)
    delays = [seconds(duration) for duration in stated]
    ids = {str(violation.get("quotaId")): str(violation.get("quotaValue", "")) for violation in violations}

    def limit(period: str) -> int | None:
        sizes = [int(value) for name, value in ids.items() if period in name and value.isdigit()]
        return min(sizes, default=None)

    delay = max(delays, default=None)
    if re.search(r"limit: 0(?![\d.])", message) or "0" in ids.values():
        return Spent(message, "none", delay, 0)
    if any("PerDay" in name for name in ids):
        return Spent(message, "day", delay, limit("PerDay"))
    if any("PerMinute" in name for name in ids):
        return Spent(message, "minute", delay, limit("RequestsPerMinute"))
    return Spent(message, "unknown", delay, None)


def seconds(duration: str) -> float:
    """A duration such as 37s, 37.295530399s, 10h17m5.7s or 523ms in seconds."""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"(\d+(?:\.\d+)?)(ms|h|m|s)", duration))
