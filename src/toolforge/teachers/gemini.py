"""The Gemini teacher: the only importer of google.genai."""

import json
import math
import os
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import certifi
from google import genai
from google.genai import errors, types
from pydantic import ValidationError

from toolforge.teachers.answers import Answer, Fault, Misconfigured, Transient
from toolforge.teachers.gemini_reading import fault, load, read
from toolforge.tools import Catalogue

# The server answers 400 to a deadline below this.
SHORTEST_DEADLINE = 10


class _Plain:
    """The SDK asks `name in model` for each of some 70 fields of a request, which pydantic answers by a walk through all fields: 0.3 of
    the 0.5 ms of CPU time that the SDK takes for a request. Told no, it looks the field up.
    """

    def __contains__(self, name: object) -> bool:
        return False


class _Config(_Plain, types.GenerateContentConfig):
    pass


class _Content(_Plain, types.Content):
    pass


class _Part(_Plain, types.Part):
    pass


# Each of these would be another request, or another reading of the answer, if the SDK had its way.
ONLINE = _Config(
    automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    automatic_continuation=False,
    should_return_http_response=True,
)


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
            response = await self.client(secret).aio.models.generate_content(
                model=model, contents=_Content(role="user", parts=[_Part(text=query)]), config=ONLINE
            )
            body = response.sdk_http_response.body if response.sdk_http_response else None
            return read(load(body), model, self._catalogue)
        except errors.APIError as error:
            raise fault(error.code, error.details) from None
        except (ValidationError, aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
            raise Misconfigured(said(error)) from None
        except (OSError, aiohttp.ClientError, ValueError, RecursionError) as error:
            raise Transient(said(error)) from None

    @property
    def row_bytes(self) -> int:
        """The size of a batch job's row beside its query."""
        return len(json.dumps(self._body))

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

        A row is known by its key, and where the service does not send that back and no row is missing, by its place.
        """
        try:
            job = await self.client(secret).aio.batches.get(name=name)
        except errors.APIError as error:
            if error.code == 404:
                return dict.fromkeys(keys, Transient("a job that the service knows no more"))
            raise fault(error.code, error.details) from None
        except (OSError, aiohttp.ClientError, ValueError) as error:
            raise Transient(said(error)) from None
        state = job.state.name.removeprefix("JOB_STATE_") if job.state else ""
        if state in ("FAILED", "CANCELLED", "EXPIRED"):
            return dict.fromkeys(keys, Transient(f"batch job {state.lower()}"))
        if state not in ("SUCCEEDED", "PARTIALLY_SUCCEEDED"):
            return None
        rows: dict[str, Answer | Fault] = {}
        found = (job.dest.inlined_responses if job.dest else None) or []
        for place, row in enumerate(found):
            key = (row.metadata or {}).get("key") or (keys[place] if len(found) == len(keys) else "")
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


def said(error: BaseException) -> str:
    """An error's kind and words in one line: a time-out has no words."""
    return " ".join(f"{type(error).__name__} {error}".split())
