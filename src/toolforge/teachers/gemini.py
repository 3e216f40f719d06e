"""The Gemini teacher: the only importer of google.genai.

Answers are read from the raw body: the SDK's own reading drops finishMessage, fails on shapes that it does not know, and says
nothing at all of an empty one.
"""

import json
import math
import os
import re
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import certifi
from google import genai
from google.genai import errors, types
from pydantic import BaseModel, Field, ValidationError

from toolforge.teachers.answers import Answer, Empty, Fault, Misconfigured, Refused, Spent, Transient, checked
from toolforge.tools import Catalogue

# What a query cannot be cured of. Any other finish but STOP is worth another try.
BLOCKED = {"SAFETY", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR", "JAILBREAK"}
# The server answers 400 to a deadline below this.
SHORTEST_DEADLINE = 10
# Each of these would be another request, or another reading of the answer, if the SDK had its way.
ONLINE = types.GenerateContentConfig(
    automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    automatic_continuation=False,
    should_return_http_response=True,
)


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


class Gemini:
    """Asks Gemini with the catalogue as function declarations and the labelling guide as instruction."""

    def __init__(self, catalogue: Catalogue, guide: str, timeout: float, online: bool = True) -> None:
        """`timeout` is in seconds and is told to the server; the caller holds itself to it. `online` is for `ask`; the requests of
        batch jobs are other ones.
        """
        self._online = online
        self._catalogue = catalogue
        self._body = _body(catalogue, guide)
        self._deadline = max(SHORTEST_DEADLINE, math.ceil(timeout))
        self._clients: dict[str, genai.Client] = {}
        # One for all clients, as the SDK makes it: it makes three for each, in 80 ms.
        self._ssl = ssl.create_default_context(
            cafile=os.environ.get("SSL_CERT_FILE", certifi.where()), capath=os.environ.get("SSL_CERT_DIR")
        )

    def client(self, secret: str) -> genai.Client:
        """The one client of a key."""
        if secret not in self._clients:
            self._clients[secret] = genai.Client(
                vertexai=False,
                api_key=secret,
                http_options=types.HttpOptions(
                    # 3.x asks v1 by default, where the model aliases do not exist.
                    api_version="v1beta",
                    client_args={"verify": self._ssl},
                    async_client_args={"verify": self._ssl, "ssl": self._ssl},
                    headers={"X-Server-Timeout": str(self._deadline)},
                    # As a config of its own, the SDK would copy and convert it all anew for each query: half the time of a label.
                    extra_body=self._body if self._online else None,
                    # Unset, the SDK sends a request a second time by itself after a drop.
                    retry_options=types.HttpRetryOptions(attempts=1),
                ),
            )
        return self._clients[secret]

    async def ask(self, secret: str, model: str, query: str) -> Answer:
        """The answer to one request. Raises a Fault where there is none."""
        try:
            response = await self.client(secret).aio.models.generate_content(model=model, contents=query, config=ONLINE)
            body = response.sdk_http_response.body if response.sdk_http_response else None
            return read(load(body), model, self._catalogue)
        except errors.APIError as error:
            raise fault(error.code, error.details) from None
        except (ValidationError, aiohttp.InvalidURL) as error:
            raise Misconfigured(said(error)) from None
        except (OSError, aiohttp.ClientError, ValueError, RecursionError) as error:
            raise Transient(said(error)) from None

    async def submit(self, secret: str, model: str, name: str, queries: Mapping[str, str]) -> str:
        """Hand in queries by their keys as one batch job called `name`; the job's name at the service."""
        config = types.GenerateContentConfig(
            system_instruction=self._body["systemInstruction"],
            tools=self._body["tools"],
            tool_config=self._body["toolConfig"],
            **self._body["generationConfig"],
        )
        requests = [
            types.InlinedRequest(contents=query, metadata={"key": key}, config=config) for key, query in queries.items()
        ]
        try:
            job = await self.client(secret).aio.batches.create(
                model=model, src=requests, config=types.CreateBatchJobConfig(display_name=name)
            )
        except errors.APIError as error:
            raise fault(error.code, error.details) from None
        except (OSError, aiohttp.ClientError, json.JSONDecodeError) as error:
            raise Transient(said(error)) from None
        if not job.name:
            raise Transient("a batch job without a name")
        return job.name

    async def find(self, secret: str, name: str) -> str | None:
        """The service's name of the job that was handed in as `name`, if it got there: handing in is not idempotent."""
        try:
            async for job in await self.client(secret).aio.batches.list():
                if job.display_name == name and job.name:
                    return job.name
        except errors.APIError as error:
            raise fault(error.code, error.details) from None
        except (OSError, aiohttp.ClientError, ValueError) as error:
            raise Transient(said(error)) from None
        return None

    async def fetch(self, secret: str, name: str, model: str, keys: Sequence[str]) -> dict[str, Answer | Fault] | None:
        """What a batch job gave by key, a fault for each row that has none; None while it runs.

        A row is known by its key, and where the service does not send that back, by its place.
        """
        try:
            job = await self.client(secret).aio.batches.get(name=name)
        except errors.APIError as error:
            raise fault(error.code, error.details) from None
        except (OSError, aiohttp.ClientError, ValueError) as error:
            raise Transient(said(error)) from None
        state = job.state.name.removeprefix("JOB_STATE_") if job.state else ""
        if state in ("FAILED", "CANCELLED", "EXPIRED"):
            return dict.fromkeys(keys, Transient(f"batch job {state.lower()}"))
        if state not in ("SUCCEEDED", "PARTIALLY_SUCCEEDED"):
            return None
        rows: dict[str, Answer | Fault] = {}
        for place, row in enumerate((job.dest.inlined_responses if job.dest else None) or []):
            key = (row.metadata or {}).get("key") or (keys[place] if place < len(keys) else "")
            try:
                if row.error or not row.response:
                    raise Transient((row.error.message if row.error else "") or "a row without an answer")
                body = row.response.model_dump(mode="json", by_alias=True, exclude_none=True)
                rows[key] = read(body, model, self._catalogue)
            except Fault as none:
                rows[key] = none
        return rows

    async def close(self) -> None:
        """Close the connections; the clients cannot be used again."""
        for client in self._clients.values():
            await client.aio.aclose()


def _body(catalogue: Catalogue, guide: str) -> dict[str, Any]:
    """What every request holds beside its query, as the SDK would spell it."""
    declarations = [
        {
            "name": schema["function"]["name"],
            "description": schema["function"].get("description", ""),
            # Taken verbatim; `parameters` knows only a part of JSON schema, and refuses additionalProperties.
            "parameters_json_schema": schema["function"]["parameters"],
        }
        for schema in catalogue.schemas
    ]
    return {
        "systemInstruction": {"parts": [{"text": guide}], "role": "user"},
        "tools": [{"functionDeclarations": declarations}],
        # AUTO may answer with a text, which is how no_tool is said.
        "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}},
        # Thoughts count too: a tight cap cuts answers off.
        "generationConfig": {"temperature": 0.0, "maxOutputTokens": 4096},
    }


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
    elif text.strip():
        calls = []
    else:
        reason = "STOP without a text or a call"
    usage = response.usageMetadata
    return Answer(
        # The name that answered: an alias or a retired model is routed to another.
        model=response.modelVersion or model,
        text=json.dumps([{"name": name, "arguments": args} for name, args in named]) if named else text,
        calls=calls,
        reason=reason,
        final=final,
        prompt_tokens=usage.promptTokenCount or 0,
        tokens=usage.totalTokenCount or 0,
    )


def fault(code: int, body: Any) -> Fault:
    """The fate of an error by its status, its reason and, where the service gives none, its words."""
    error = body.get("error", body) if isinstance(body, dict) else {}
    error = error if isinstance(error, dict) else {"message": str(error)}
    message = f"{code} {str(error.get('message') or error.get('status') or 'no message')[:500]}"
    details = [detail for detail in error.get("details") or [] if isinstance(detail, dict)]
    reasons = {str(detail.get("reason")) for detail in details}
    if code == 429:
        return _spent(message, details)
    if code in (408, 499) or code >= 500:
        return Transient(message)
    if code in (401, 403) or "API_KEY_INVALID" in reasons or re.search(r"api key (not|expired|invalid)", message, re.I):
        return Refused(message, project="your project" in message.lower())
    return Misconfigured(message)


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


def said(error: BaseException) -> str:
    """An error's kind and words in one line: a time-out has no words."""
    return " ".join(f"{type(error).__name__} {error}".split())[:300]
