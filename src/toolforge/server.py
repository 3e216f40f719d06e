"""`toolforge serve`: the router behind OpenAI's chat completions, and a page to try it."""

import asyncio
import ipaddress
import json
import math
import secrets
import signal
import socket
import sys
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated, Any

import uvicorn
from fastapi import Depends, FastAPI, Header, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from toolforge.errors import InputError
from toolforge.openai_api import NO_CALL, ApiError, ChatRequest, Reply, read
from toolforge.router import Router
from toolforge.worker import QueueFull, Worker

# The page carries its own style and script and speaks to this server alone.
_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:"
)
_SECONDS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30)


@dataclass(frozen=True)
class Settings:
    """`queue` counts queries that wait or are being routed, `timeout` is in seconds, `max_body` in bytes."""

    threshold: float | None = None
    api_key: str | None = None
    queue: int = 64
    timeout: float = 30
    max_body: int = 1 << 20


def _said(error: ApiError, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse(error.envelope, error.status, headers)


def create_app(router: Router, settings: Settings) -> FastAPI:
    """The endpoints. Every error under them comes in OpenAI's envelope; no query and no key reaches a log."""
    # The API is OpenAI's and described there; FastAPI's own page would load its script from elsewhere.
    app = FastAPI(title="ToolForge", openapi_url=None)
    worker = Worker(router, settings.queue)
    registry = CollectorRegistry()
    requests = Counter("toolforge_requests", "Requests to /v1 by outcome", ["outcome"], registry=registry)
    seconds = Histogram("toolforge_request_seconds", "Time to answer", buckets=_SECONDS, registry=registry)
    Gauge("toolforge_queue_depth", "Queries that wait or are being routed", registry=registry).set_function(
        lambda: worker.depth
    )

    model = {
        "id": router.name, "object": "model", "created": int(time.time()), "owned_by": "toolforge",
        "tools": router.catalogue.schemas,
    }  # fmt: skip

    def authorize(authorization: Annotated[str, Header()] = "") -> None:
        # Headers come as Latin-1, whatever bytes they are.
        given, expected = authorization.encode("latin-1"), f"Bearer {settings.api_key}".encode()
        if settings.api_key and not secrets.compare_digest(given, expected):
            raise ApiError(401, "invalid_api_key", "the API key is missing or wrong")

    async def reply_to(asked: ChatRequest) -> Reply:
        asked.check(router.name, router.catalogue)
        if asked.last.role == "tool":
            return Reply(router.name, content=asked.results or NO_CALL)
        query = asked.last.text
        if not asked.wants_call:
            return Reply(router.name)
        try:
            return Reply(router.name, routing=await worker.route(query, settings.threshold))
        except InputError as error:
            raise ApiError(400, "invalid_query", str(error), "messages") from None
        except QueueFull:
            raise ApiError(503, "queue_full", f"{settings.queue} queries wait already; ask again later") from None

    @app.post("/v1/chat/completions", dependencies=[Depends(authorize)])
    async def chat(request: Request) -> Response:
        with seconds.time():
            try:
                async with asyncio.timeout(settings.timeout):
                    asked = read(await _body(request, settings.max_body))
                    reply = await _while_connected(request, reply_to(asked))
            except TimeoutError:
                raise ApiError(504, "timeout", f"not answered within {settings.timeout:g} s") from None
            except ClientDisconnect:
                # nginx's number for it; nobody reads the answer, but it is counted.
                raise ApiError(499, "disconnected", "the client hung up") from None
        requests.labels("calls" if reply.called else "no_call").inc()
        if not asked.stream:
            return JSONResponse(reply.completion())
        return Response("".join(map(_event, reply.chunks())) + "data: [DONE]\n\n", media_type="text/event-stream")

    @app.get("/v1/models", dependencies=[Depends(authorize)])
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [model]}

    @app.get("/v1/models/{name:path}", dependencies=[Depends(authorize)])
    async def one_model(name: str) -> dict[str, Any]:
        if name != router.name:
            raise ApiError(404, "model_not_found", f"no model is named {name!r}; this is {router.name!r}", "model")
        return model

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok", "model": router.name}

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/")
    async def page() -> Response:
        return HTMLResponse(
            files("toolforge").joinpath("page.html").read_text(encoding="utf-8"),
            headers={"Content-Security-Policy": _PAGE_POLICY},
        )

    @app.exception_handler(ApiError)
    async def refused(_: Request, error: ApiError) -> Response:
        requests.labels(error.code).inc()
        # A query is answered in well under a second: so is the line's next free place.
        headers = {"Retry-After": "1"} if error.code == "queue_full" else None
        return _said(error, headers)

    @app.exception_handler(HTTPException)
    async def unknown(_: Request, error: HTTPException) -> Response:
        return _said(ApiError(error.status_code, "unknown_url", error.detail), error.headers)

    @app.exception_handler(Exception)
    async def defect(_: Request, error: Exception) -> Response:
        requests.labels("defect").inc()
        failed = ApiError(500, "defect", "the server failed; its log says where")
        # uvicorn closes the connection after a defect; a client that is not told would ask over it again.
        return _said(failed, {"Connection": "close"})

    return app


def _event(chunk: dict[str, Any]) -> str:
    return f"data: {json.dumps(chunk)}\n\n"


async def _body(request: Request, limit: int) -> bytes:
    """The request's body. Raises ApiError for one of more than `limit` bytes, once the client has sent it all: a
    connection that is closed earlier would lose the answer.
    """
    body, size = bytearray(), 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            body += chunk
    if size > limit:
        raise ApiError(413, "body_too_large", f"the body has {size} bytes; at most {limit} are read")
    return bytes(body)


async def _while_connected(request: Request, work: Coroutine[Any, Any, Reply]) -> Reply:
    """What the work gives. Raises ClientDisconnect, and cancels the work, where the client hangs up first."""
    answer, gone = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientDisconnect
        return answer.result()
    finally:
        answer.cancel()
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def serve(router: Router, host: str, port: int, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, answer what has been accepted by then, and leave: 0 after SIGTERM.

    Port 0 takes a free one; the line on stderr says which. Raises OSError where the address cannot be had.
    """
    # uvicorn drains at SIGTERM and then raises it again, which would end the process with -15 instead of 0.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if not settings.api_key and not _loopback(host):
        print(f"warning: {host} can be reached by other machines, and no API key is set", file=sys.stderr)
    # httpx, and so the openai client, drops a connection after 5 idle seconds. uvicorn's own 5 would race with that.
    config = uvicorn.Config(
        create_app(router, settings), host, port, log_level="warning", access_log=False, lifespan="off", ws="none",
        server_header=False, timeout_keep_alive=75, timeout_graceful_shutdown=math.ceil(settings.timeout) + 1,
    )  # fmt: skip
    listening = socket.create_server(
        (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=config.backlog
    )
    # asyncio takes a socket made without a protocol number for one that is not TCP and leaves Nagle's algorithm on, which
    # with the client's delayed acknowledgement costs 40 ms a request. Accepted sockets have it from this one.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    where = f"[{host}]" if ":" in host else host
    print(f"{router.name} is served at http://{where}:{listening.getsockname()[1]}", file=sys.stderr, flush=True)
    uvicorn.Server(config).run([listening])


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
