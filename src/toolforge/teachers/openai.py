"""A teacher behind any OpenAI-compatible endpoint (Ollama, vLLM, a gateway): the only importer of openai.

OPENAI_BASE_URL and OPENAI_API_KEY are read as the openai package reads them; a service that needs no key needs none here.
"""

import json
from typing import Any

import httpx2
import openai
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


class _Function(BaseModel):
    name: Any = None
    arguments: Any = None


class _Call(BaseModel):
    function: _Function


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    total_tokens: int | None = None


class _Response(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    model: str | None = None
    usage: _Usage | None = None


class OpenAI:
    """Asks a chat model with the catalogue as tools and the labelling guide as its system message."""

    def __init__(self, catalogue: Catalogue, guide: str, timeout: float) -> None:
        """`timeout` is in seconds."""
        self._catalogue, self._guide, self._timeout = catalogue, guide, timeout
        self._clients: dict[str, openai.AsyncOpenAI] = {}

    async def ask(self, secret: str, model: str, query: str) -> Answer:
        """The answer to one request. Raises a Fault where there is none."""
        if secret not in self._clients:
            # Retries are the asking loop's, which knows the slots.
            try:
                client = openai.AsyncOpenAI(api_key=secret, max_retries=0, timeout=self._timeout)
            except httpx2.InvalidURL as error:
                raise Misconfigured(f"OPENAI_BASE_URL: {error}") from None
            if client.base_url.scheme not in ("http", "https"):
                raise Misconfigured(f"OPENAI_BASE_URL begins with neither http:// nor https://: {client.base_url}")
            self._clients[secret] = client
        try:
            raw = await self._clients[secret].chat.completions.with_raw_response.create(  # type: ignore[call-overload]
                model=model,
                messages=[{"role": "system", "content": self._guide}, {"role": "user", "content": query}],
                tools=self._catalogue.schemas,
                tool_choice="auto",
                temperature=0.0,
            )
            return read(json.loads(raw.text), model, self._catalogue)
        except openai.APIStatusError as error:
            if error.code == "content_filter":
                # Azure's way to block a query.
                return Answer(model, text="", calls=None, reason=f"blocked: {error.message}", final=True)
            raise fault(error) from None
        except openai.APIConnectionError as error:
            raise Transient(f"{type(error).__name__} {error.__cause__ or ''}".strip()) from None
        except (openai.OpenAIError, ValueError, RecursionError) as error:
            raise Transient(f"{type(error).__name__} {error}") from None

    async def close(self) -> None:
        """Close the connections; the clients cannot be used again."""
        for client in self._clients.values():
            await client.close()


def read(document: Any, model: str, catalogue: Catalogue) -> Answer:
    """The answer in a chat completion, by the same rules as Gemini's: only a finished text is no_tool. Raises Empty for a body
    without a choice.
    """
    try:
        response = _Response.model_validate(document)
    except ValidationError:
        raise Empty("an answer without a choice") from None
    choice = response.choices[0]
    message = choice.message
    named = []
    calls, reason, final = None, "", False
    if choice.finish_reason == "content_filter" or message.refusal:
        reason, final = f"blocked: {message.refusal or 'content_filter'}", True
    elif choice.finish_reason not in ("stop", "tool_calls"):
        reason = choice.finish_reason or "no finish reason"
    elif message.tool_calls:
        try:
            named = [(call.function.name, _arguments(call.function.arguments)) for call in message.tool_calls]
            calls, reason = checked(named, catalogue)
        except (ValueError, RecursionError):
            reason = "arguments that are no JSON"
    else:
        calls, reason = without_call(message.content or "", catalogue)
    usage = response.usage or _Usage()
    return Answer(
        model=response.model or model,
        text=json.dumps([{"name": name, "arguments": arguments} for name, arguments in named])
        if named
        else message.content or "",
        calls=calls,
        reason=reason,
        final=final,
        prompt_tokens=max(usage.prompt_tokens or 0, 0),
        tokens=max(usage.total_tokens or 0, 0),
    )


def _arguments(value: Any) -> Any:
    """A JSON text by the API's own rule; some servers send the object itself."""
    return json.loads(value or "{}") if isinstance(value, str) else value


def fault(error: openai.APIStatusError) -> Fault:
    """The fate of an error by its status."""
    message, code = f"{error.status_code} {error.message}", error.status_code
    if code == 429:
        try:
            delay: float | None = float(error.response.headers.get("retry-after", ""))
        except ValueError:
            delay = None
        # A bill that is not paid, or a month's budget: no minute's wait mends it.
        return Spent(message, "day" if error.code == "insufficient_quota" else "unknown", delay, None)
    if code in (401, 403):
        return Refused(message)
    if code in (408, 409) or code >= 500:
        return Transient(message)
    return Misconfigured(message)
