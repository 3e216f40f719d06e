"""What the stage makes of an OpenAI-compatible service, through the real openai client."""

import json

import pytest

from teachers.service import DROP, HANG, SHORT, TRICKLE
from toolforge.errors import InputError


def chat(content=None, calls=(), finish="stop", **message):
    tool_calls = [
        {"id": f"c{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for n, (name, arguments) in enumerate(calls)
    ]
    return 200, {
        "id": "x", "object": "chat.completion", "created": 1, "model": "served-model",
        "choices": [
            {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content, "tool_calls": tool_calls, **message}}
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
    }  # fmt: skip


def error(status, message, code=None, **headers):
    return status, {"error": {"message": message, "type": "x", "code": code}}, headers


TEXT = chat("No tool is needed.")
OSLO = ("weather", json.dumps({"location": "Oslo"}))


@pytest.fixture
def ask(stage, service):
    def ask(script, **params):
        service.script = script
        return stage.run("openai", **params)

    return ask


def test_calls_and_texts_become_labels_and_the_catalogue_is_sent(ask, stage, service):
    replies = {
        "query 0": chat(calls=[OSLO], finish="tool_calls"),
        # Ollama ends with stop, and some servers send the arguments as an object.
        "query 1": chat(calls=[OSLO, ("dictionary", {"word": "moot"})]),
        "query 2": chat('The weather is fine, {"name": "nobody"}; my dictionary says so.'),
        "query 3": chat(calls=[("datetime", '{"action": "now"}')], finish="tool_calls"),
    }
    labels = ask(lambda key, model, query, n: replies[query])
    assert [[call["name"] for call in labels[f"q{n}"]] for n in range(4)] == [
        ["weather"],
        ["weather", "dictionary"],
        [],
        ["datetime"],
    ]
    assert {(record["model"], record["tokens"]) for record in stage.records()} == {("served-model", 7)}
    body = service.bodies[0]
    assert body["messages"][0] == {"role": "system", "content": "the guide"}
    assert [tool["function"]["name"] for tool in body["tools"]][:2] == ["web_search", "calculator"]


@pytest.mark.parametrize(
    ("reply", "outcome", "times"),
    [
        (chat("", finish="content_filter"), "blocked", 1),
        (chat(refusal="I cannot."), "blocked", 1),
        (error(400, "The prompt triggered the content policy", code="content_filter"), "blocked", 1),
        (chat("half", finish="length"), "rejected", 3),
        (chat(""), "rejected", 3),
        # What a server says whose model's calls it does not read.
        (chat('<tool_call>\n{"name": "weather", "arguments": {"location": "Oslo"}}\n</tool_call>'), "rejected", 3),
        (chat("<function=weather><parameter=location>Oslo"), "rejected", 3),
        (chat(calls=[("weather", "{")]), "rejected", 3),
        (chat(calls=[("wether", "{}")]), "rejected", 3),
    ],
)
def test_only_what_fits_is_a_label(ask, stage, service, reply, outcome, times):
    assert set(ask(lambda key, model, query, n: reply if query == "query 1" else TEXT)) == {"q0", "q2", "q3"}
    assert [r["outcome"] for r in stage.records() if r["query"] == "query 1"] == [outcome]
    ask(lambda key, model, query, n: TEXT)
    assert service.count(query="query 1") == times


@pytest.mark.parametrize(
    "reply",
    [
        error(500, "x"),
        error(503, "x"),
        DROP,
        (200, "<html>"),
        (200, {"choices": []}),
        (502, "<html>"),
        HANG,
        TRICKLE,
        SHORT,
    ],
)
def test_what_passes_is_tried_again_with_one_request_each_time(ask, service, reply):
    assert len(ask(lambda key, model, query, n: reply if n == 1 and query == "query 2" else TEXT, timeout=2.0)) == 4
    assert service.count() == 5


def test_a_rate_limit_is_waited_out_as_its_header_says(ask, service):
    limit = error(429, "slow down", code="rate_limit_exceeded", **{"retry-after": "2"})
    assert len(ask(lambda key, model, query, n: limit if query == "query 1" and n == 1 else TEXT)) == 4
    at = [when for when, _, _, query in service.requests if query == "query 1"]
    assert 2.9 < at[1] - at[0] < 30


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (error(401, "Incorrect API key provided: secret-openai"), "no slot is left: 401 .*<key "),
        (error(404, "model 'm' not found"), "m cannot be asked: 404"),
        (error(400, "tools are not supported"), "m cannot be asked: 400"),
        (error(429, "You exceeded your current quota", code="insufficient_quota"), "all slots rest until"),
    ],
)
def test_what_no_retry_mends_stops_the_run_with_one_line_without_the_key(ask, stage, service, capfd, reply, said):
    with pytest.raises(InputError, match=said) as error:
        ask(lambda key, model, query, n: reply)
    assert service.count() == 1
    assert stage.records() == []
    everything = (
        str(error.value)
        + "".join(capfd.readouterr())
        + json.dumps(stage.state() if (stage.folder / "store.slots.json").exists() else {})
    )
    assert "secret-openai" not in everything


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("localhost:11434/v1", "OPENAI_BASE_URL begins with neither"),
        ("http://127.0.0.1:11434v1", "OPENAI_BASE_URL: .*port"),
    ],
)
def test_an_address_that_is_none_stops_the_run_at_once(ask, monkeypatch, address, said):
    monkeypatch.setenv("OPENAI_BASE_URL", address)
    with pytest.raises(InputError, match=f"m cannot be asked: {said}"):
        ask(lambda key, model, query, n: TEXT)


@pytest.mark.parametrize("key", ["secret-\nopenai", "secret openai", "secret-öpenai"])
def test_a_text_that_is_no_key_is_refused_and_not_shown(ask, monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(InputError) as error:
        ask(lambda key, model, query, n: TEXT)
    assert str(error.value) == "OPENAI_API_KEY holds a character that no key has"


def test_a_service_without_keys_needs_none(ask, stage, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    assert len(ask(lambda key, model, query, n: TEXT)) == 4


def test_batch_mode_is_geminis(ask):
    with pytest.raises(ValueError, match="mode: batch is Gemini's"):
        ask(lambda key, model, query, n: TEXT, mode="batch")
