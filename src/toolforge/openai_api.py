"""The part of OpenAI's chat completions that a router can honour: what is read, what is refused, what is answered.

The last user message is the query; system messages and earlier turns are allowed and not read. What only steers
sampling (temperature, seed, max_tokens, ...) is allowed and has no effect: decoding is greedy and ends by itself.
Tokens are not counted, so no answer has a `usage`, whatever `stream_options` says.
"""

import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from textwrap import shorten
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field, JsonValue, ValidationError

from toolforge.records import first_fault
from toolforge.router import Routing
from toolforge.signatures import Function, difference
from toolforge.tools import Catalogue

# The content where nothing is called. Agent frameworks take an empty answer for a fault and ask again.
NO_CALL = "No tool is called."


class ApiError(Exception):
    """What goes wrong with a request, in OpenAI's error envelope."""

    def __init__(self, status: int, code: str, message: str, param: str | None = None) -> None:
        """`status` is HTTP's, `code` one word for machines, `param` the request's field."""
        super().__init__(message)
        self.status, self.code, self.param = status, code, param

    @property
    def envelope(self) -> dict[str, Any]:
        """The body of the response."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


class Message(BaseModel):
    """A turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: JsonValue = None

    @property
    def text(self) -> str:
        """The content, whether it is a string or text parts. Raises ApiError for any other part."""
        if isinstance(self.content, list):
            return "".join(_part(part) for part in self.content)
        if isinstance(self.content, str):
            return self.content
        raise ApiError(400, "invalid_value", f"the {self.role} message has no text", "messages")


def _part(part: JsonValue) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    text = part.get("text") if isinstance(part, dict) else None
    if kind != "text" or not isinstance(text, str):
        raise ApiError(400, "unsupported_value", f"this model reads text parts alone, not {kind!r}", "messages")
    return text


class Tool(BaseModel):
    """One of the request's tools."""

    type: Literal["function"]
    function: Function


# Asks for something else than this router's one answer in text: the values that ask for nothing.
_REFUSED: dict[str, tuple[JsonValue, ...]] = {
    "n": (None, 1),
    "tool_choice": (None, "auto", "none"),
    "parallel_tool_calls": (None, True),
    "response_format": (None, {"type": "text"}),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "functions": (None,),
    "function_call": (None,),
}


class ChatRequest(BaseModel):
    """The body of POST /v1/chat/completions."""

    model_config = ConfigDict(extra="allow")

    model: str
    # One fault is told: to find all of a body's 250,000 held the server up for a second.
    messages: Annotated[list[Message], FailFast()] = Field(min_length=1)
    tools: Annotated[list[Tool] | None, FailFast()] = None
    stream: bool | None = None

    def check(self, model: str, catalogue: Catalogue) -> None:
        """Raises ApiError for another model, other tools, and what a router cannot honour."""
        if self.model != model:
            raise ApiError(404, "model_not_found", f"no model is named {self.model!r}; this is {model!r}", "model")
        for name, harmless in _REFUSED.items():
            if (value := (self.model_extra or {}).get(name)) not in harmless:
                allowed = " or ".join(json.dumps(each) for each in harmless if each is not None) or "no value"
                message = f"{name} can only be {allowed} here, not {json.dumps(value)[:80]}"
                raise ApiError(400, "unsupported_value", message, name)
        if self.tools is not None and (fault := difference([tool.function for tool in self.tools], catalogue)):
            message = f"tools differ from the catalogue that this model was trained on: {shorten(fault, 600)}; GET /v1/models has it"
            raise ApiError(400, "tools_differ", message, "tools")

    @property
    def wants_call(self) -> bool:
        """Whether tools may be called."""
        return (self.model_extra or {}).get("tool_choice") != "none"

    @property
    def last(self) -> Message:
        """The last message that is not the system's. Raises ApiError where it is neither the user's nor a tool's."""
        spoken = [message for message in self.messages if message.role not in ("system", "developer")]
        if not spoken or spoken[-1].role == "assistant":
            raise ApiError(400, "invalid_value", "the last message has to be the user's or a tool's", "messages")
        return spoken[-1]

    @property
    def results(self) -> str:
        """The texts of the tools that ran since the last user message, one below the other."""
        turns = [message.role for message in self.messages]
        since = len(turns) - turns[::-1].index("user") if "user" in turns else 0
        return "\n".join(message.text for message in self.messages[since:] if message.role == "tool")


def read(body: bytes) -> ChatRequest:
    """The request in a body. Raises ApiError with the place of the first fault."""
    try:
        return ChatRequest.model_validate_json(body)
    except ValidationError as error:
        raise ApiError(400, "invalid_request", first_fault(error)) from None


@dataclass(frozen=True)
class Reply:
    """A reply in OpenAI's form. Without a routing, or with one that calls nothing, it is the `content`.

    A routing's confidence, escalate and milliseconds travel in the extra field `toolforge`.
    """

    model: str
    content: str = NO_CALL
    routing: Routing | None = None
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def called(self) -> bool:
        """Whether any tool is called."""
        return self.routing is not None and bool(self.routing.calls)

    def completion(self) -> dict[str, Any]:
        """The body of a `chat.completion`."""
        message: dict[str, Any] = {"role": "assistant", "content": None if self.called else self.content}
        if self.called:
            message["tool_calls"] = self._calls()
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._reason}
        return {**self._head("chat.completion"), "choices": [choice], **self._extra()}

    def chunks(self) -> Iterator[dict[str, Any]]:
        """The same as `chat.completion.chunk` objects: the role, each call or the content, and the reason."""
        deltas: list[dict[str, Any]]
        deltas = [{"tool_calls": [{"index": n, **call}]} for n, call in enumerate(self._calls())]
        deltas = deltas or [{"content": self.content}]
        for delta in ({"role": "assistant", "content": None if self.called else ""}, *deltas):
            yield self._chunk(delta, None)
        yield {**self._chunk({}, self._reason), **self._extra()}

    def _calls(self) -> list[dict[str, Any]]:
        return [
            {
                "id": f"call_{secrets.token_hex(12)}",
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)},
            }
            for call in (self.routing.calls if self.routing else [])
        ]

    @property
    def _reason(self) -> str:
        return "tool_calls" if self.called else "stop"

    def _chunk(self, delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _extra(self) -> dict[str, Any]:
        return {"toolforge": self.routing.model_dump(exclude={"calls"})} if self.routing else {}
