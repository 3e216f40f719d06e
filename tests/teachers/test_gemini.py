"""The real google-genai client against a service of the test's own on loopback."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from toolforge.errors import InputError
from toolforge.records import Query, ToolCall
from toolforge.teachers import gemini
from toolforge.teachers.store import Store

KEY = "secret-key-1234567890"
QUERIES = [Query(id=f"q{n}", query=f"query {n}", group=f"g{n}") for n in range(4)]


def answered(*parts, finish="STOP"):
    return 200, {
        "candidates": [{"content": {"role": "model", "parts": list(parts)}, "finishReason": finish, "index": 0}],
        "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 2, "totalTokenCount": 7},
        "modelVersion": "gemini-that-answered",
    }


def calling(name, **args):
    return {"functionCall": {"name": name, "args": args}}


TEXT = answered({"text": "No tool is needed."})
CALL = answered(calling("weather", location="Oslo"))


class Service:
    """Answers each query with what `replies` holds for it, and keeps what it was sent."""

    def __init__(self):
        self.replies, self.requests = {}, []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                query = body["contents"][0]["parts"][0]["text"]
                service.requests.append((self.path, dict(self.headers), body, query))
                status, reply = service.replies.get(query, TEXT)
                data = json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def service(monkeypatch):
    service = Service()
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", service.url)
    monkeypatch.setenv("GEMINI_API_KEYS", f"{KEY},other")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield service
    service.server.shutdown()
    service.server.server_close()


@pytest.fixture
def ask(tmp_path, catalogue):
    def ask(queries=QUERIES):
        return gemini.label(queries, Store(tmp_path / "store.jsonl"), catalogue, "gemini-x", "the guide")

    return ask


def test_calls_and_texts_become_labels_and_the_catalogue_is_sent(service, ask):
    service.replies = {
        "query 0": answered(
            calling("weather", location="Oslo"), calling("unit_converter", to="feet", value=2.0, **{"from": "miles"})
        ),
        "query 1": TEXT,
    }
    records = ask(QUERIES[:2])
    assert [found.calls for found in records] == [
        [
            ToolCall(name="weather", arguments={"location": "Oslo"}),
            ToolCall(name="unit_converter", arguments={"value": 2, "from": "miles", "to": "feet"}),
        ],
        [],
    ]
    assert {(found.model, found.tokens) for found in records} == {("gemini-that-answered", 7)}
    path, headers, body, _ = service.requests[0]
    assert path == "/v1beta/models/gemini-x:generateContent"
    assert {name.lower(): value for name, value in headers.items()}["x-goog-api-key"] == KEY
    assert body["systemInstruction"]["parts"] == [{"text": "the guide"}]
    assert [tool["name"] for tool in body["tools"][0]["functionDeclarations"]][:2] == ["web_search", "calculator"]


def test_what_is_stored_is_never_asked_again_even_without_a_key(service, ask, monkeypatch):
    first = ask()
    assert len(service.requests) == 4
    monkeypatch.delenv("GEMINI_API_KEYS")
    assert ask() == first
    assert len(service.requests) == 4


@pytest.mark.parametrize(
    "reply",
    [
        (200, {"promptFeedback": {"blockReason": "SAFETY"}}),
        (200, {}),
        answered(finish="STOP"),
        answered({"text": " "}),
        answered({"text": "half an ans"}, finish="MAX_TOKENS"),
        answered(finish="MALFORMED_FUNCTION_CALL"),
        answered({"text": "no"}, finish="SAFETY"),
        answered(calling("weather", place="Oslo")),
        answered(calling("wether", location="Oslo")),
    ],
)
def test_only_a_finished_text_is_no_tool_and_only_calls_that_fit_are_calls(service, ask, tmp_path, reply):
    service.replies = {"query 1": reply, "query 2": CALL}
    records = ask()
    assert [found is None for found in records] == [False, True, False, False]
    assert len((tmp_path / "store.jsonl").read_text().splitlines()) == 3


def test_a_refusal_stops_with_one_line_without_the_key_and_loses_nothing(service, ask, tmp_path):
    message = f"Permission denied: Consumer 'api_key:{KEY}' has been suspended."
    service.replies = {"query 2": (403, {"error": {"code": 403, "message": message, "status": "PERMISSION_DENIED"}})}
    with pytest.raises(InputError) as error:
        ask()
    assert "403" in str(error.value)
    assert "suspended" in str(error.value)
    assert KEY not in str(error.value)
    assert len((tmp_path / "store.jsonl").read_text().splitlines()) == 2
    service.replies = {}
    service.requests.clear()
    assert None not in ask()
    assert [query for *_, query in service.requests] == ["query 2", "query 3"]


def test_without_a_key_one_line_says_how_many_are_missing_and_what_to_set(ask, monkeypatch):
    for keys in ("", " , "):
        monkeypatch.setenv("GEMINI_API_KEYS", keys)
        with pytest.raises(InputError, match="4 queries have no answer of gemini-x .* set GEMINI_API_KEYS"):
            ask()
