"""The server as its clients see it: a process, and the official openai client against it."""

import asyncio
import json
import signal
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import Literal

import httpx2 as httpx
import openai
import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, Tool
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from echoing import TOO_LONG, echo_router, echo_server
from toolforge.openai_api import NO_CALL
from toolforge.signatures import Function

KEY = "k-€7"
LIMIT = 20_000
# A chat request by hand, before its body of so many bytes.
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"


@pytest.fixture(scope="module")
def url():
    with echo_server(max_body=LIMIT, threshold=0.8) as (_, url):
        yield url


@pytest.fixture(scope="module")
def client(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def ask(client, *texts, **more):
    messages = [{"role": "user", "content": text} for text in texts]
    return client.chat.completions.create(model="echo", messages=messages, **more)


def calls(message):
    return [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or []]


def post(url, body, **headers):
    """A chat request by hand: what the openai client would not send."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(f"{url}/v1/chat/completions", content=content, headers=headers)


def metric(url, name):
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)}


def test_calls_come_as_openais_tool_calls(client):
    answer = ask(client, "Tromsø and Zürich")
    (choice,) = answer.choices
    assert answer.object == "chat.completion" and answer.model == "echo" and answer.id.startswith("chatcmpl-")
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    assert calls(choice.message) == [("weather", {"location": "Tromsø"}), ("weather", {"location": "Zürich"})]
    assert len({call.id for call in choice.message.tool_calls}) == 2
    extra = answer.model_extra["toolforge"]
    assert extra["confidence"] == pytest.approx(0.75) and extra["escalate"] is True and extra["milliseconds"] > 0


def test_no_tool_is_a_short_text_and_stop(client):
    (choice,) = ask(client, "hi there").choices
    assert (choice.finish_reason, choice.message.content, choice.message.tool_calls) == ("stop", NO_CALL, None)


@pytest.mark.parametrize("query", ["Oslo", "Oslo and Rome", "hi"])
def test_a_stream_says_the_same(client, query):
    whole = ask(client, query).choices[0]
    chunks = list(ask(client, query, stream=True, stream_options={"include_usage": True}))
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + [whole.finish_reason]
    deltas = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert [(call.function.name, json.loads(call.function.arguments)) for call in deltas] == calls(whole.message)
    assert [call.index for call in deltas] == list(range(len(deltas)))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == (whole.message.content or "")
    assert chunks[-1].model_extra["toolforge"]["confidence"] == pytest.approx(0.75)


def test_a_stream_ends_with_done(url):
    answer = post(url, {"model": "echo", "messages": [{"role": "user", "content": "Oslo"}], "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.endswith("\n\ndata: [DONE]\n\n")


def test_the_openai_clients_own_stream_reader_puts_it_together(client):
    messages = [{"role": "user", "content": "Oslo and Rome"}]
    with client.chat.completions.stream(model="echo", messages=messages) as stream:
        final = stream.get_final_completion()
    assert calls(final.choices[0].message) == [("weather", {"location": "Oslo"}), ("weather", {"location": "Rome"})]


def test_the_last_user_message_is_the_query(client):
    messages = [
        {"role": "system", "content": "You are a pirate."},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]},
        {"role": "assistant", "content": "Arr."},
        {"role": "user", "content": [{"type": "text", "text": "New "}, {"type": "text", "text": "York"}]},
        {"role": "developer", "content": "Be brief."},
    ]
    answer = client.chat.completions.create(model="echo", messages=messages, temperature=0.7, max_tokens=1, seed=3)
    assert calls(answer.choices[0].message) == [("weather", {"location": "New York"})]


def test_tool_results_are_given_back_as_the_answer(client):
    made = ask(client, "Oslo and Rome").choices[0].message
    results = [{"role": "tool", "tool_call_id": call.id, "content": f"{n} C"} for n, call in enumerate(made.tool_calls)]
    earlier = [{"role": "user", "content": "Lima"}, {"role": "tool", "tool_call_id": "x", "content": "old"}]
    messages = [*earlier, {"role": "user", "content": "Oslo and Rome"}, made.model_dump(exclude_none=True), *results]
    (choice,) = client.chat.completions.create(model="echo", messages=messages).choices
    assert (choice.finish_reason, choice.message.content) == ("stop", "0 C\n1 C")


def test_tool_choice_none_calls_nothing(client):
    (choice,) = ask(client, "Oslo", tool_choice="none").choices
    assert (choice.finish_reason, choice.message.content) == ("stop", NO_CALL)


@pytest.mark.parametrize(
    ("more", "param", "says"),
    [
        ({"n": 2}, "n", "n can only be 1 here, not 2"),
        ({"tool_choice": "required"}, "tool_choice", 'can only be "auto" or "none" here'),
        ({"tool_choice": {"type": "function", "function": {"name": "weather"}}}, "tool_choice", "can only be"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls", "can only be true here, not false"),
        ({"response_format": {"type": "json_object"}}, "response_format", "can only be"),
        ({"logprobs": True}, "logprobs", "can only be false here, not true"),
        ({"functions": [{"name": "f"}]}, "functions", "can only be no value here"),
    ],
)
def test_what_a_router_cannot_honour_is_refused_by_name(client, more, param, says):
    with pytest.raises(openai.BadRequestError, match=says) as caught:
        ask(client, "Oslo", **more)
    assert (caught.value.param, caught.value.code) == (param, "unsupported_value")


def test_the_catalogues_tools_are_welcome_in_any_order_and_words(client):
    tools = json.loads(json.dumps(echo_router().catalogue.schemas[::-1]))
    for tool in tools:
        tool["function"]["description"] = "other words"
    tools[0]["function"]["strict"] = True
    assert calls(ask(client, "Oslo", tools=tools).choices[0].message) == [("weather", {"location": "Oslo"})]


class Clock(BaseModel):
    """The catalogue's datetime as people write it for OpenAI's strict mode, where all is required and null stands for what is left out."""

    action: Literal["now", "convert", "diff", "add"]
    amount: float | None = None
    unit: str | None = None
    date: str | None = None
    from_date: str | None = None
    time: str | None = None
    from_timezone: str | None = None
    timezone: str | None = None


def test_tools_that_openais_strict_helper_made_are_the_catalogues(client):
    clock = json.loads(json.dumps(openai.pydantic_function_tool(Clock, name="datetime")))
    assert set(clock["function"]["parameters"]["required"]) == set(Clock.model_fields)
    tools = [clock if tool["function"]["name"] == "datetime" else tool for tool in echo_router().catalogue.schemas]
    assert calls(ask(client, "Oslo", tools=tools).choices[0].message) == [("weather", {"location": "Oslo"})]


class Action(Enum):
    NOW, CONVERT, DIFF, ADD = "now", "convert", "diff", "add"


class EnumClock(Clock):
    """The same with an enum, which pydantic defines beside the model and refers to."""

    action: Action


def test_tools_with_an_enum_of_pydantics_are_the_catalogues(client):
    clock = {"name": "datetime", "parameters": EnumClock.model_json_schema()}
    assert clock["parameters"]["properties"]["action"] == {"$ref": "#/$defs/Action"}
    others = [tool for tool in echo_router().catalogue.schemas if tool["function"]["name"] != "datetime"]
    tools = [{"type": "function", "function": clock}, *others]
    assert calls(ask(client, "Oslo", tools=tools).choices[0].message) == [("weather", {"location": "Oslo"})]


@pytest.mark.parametrize(
    ("definitions", "signature"),
    [
        ({"A": {"enum": ["b", "a"], "type": "string"}}, "f(x?: string of a|b)"),
        ({"A": {"properties": {"y": {"type": "number"}}, "type": "object"}}, "f(x?: object of (y?: number))"),
        # A reference inside a definition is not read, nor one that is too long or is not there.
        ({"A": {"anyOf": [{"$ref": "#/$defs/A"}, {"type": "string"}]}}, "f(x?: string)"),
        ({"A": {"type": "string", "description": "a" * 1900}}, "f(x?: string)"),
        ({"A": {"type": "string", "description": "a" * 2000}}, "f(x?: )"),
        ({}, "f(x?: )"),
    ],
)
def test_a_reference_stands_for_a_short_definition_of_one_level(definitions, signature):
    parameters = {"$defs": definitions, "properties": {"x": {"$ref": "#/$defs/A"}}}
    assert str(Function.model_validate({"name": "f", "parameters": parameters})) == signature


@pytest.mark.parametrize(
    ("schema", "signature"),
    [
        ({"type": "array", "items": {"type": "integer"}}, "array of (integer)"),
        ({"type": ["array", "null"], "items": {"enum": ["b", "a"]}}, "array of ( of a|b)"),
        (
            {"type": "object", "required": ["b"], "properties": {"b": {"type": "number"}, "a": {"type": "string"}}},
            "object of (a?: string, b: number)",
        ),
        ({"type": "array", "items": True}, "array of ()"),
        ({"type": "string", "const": "now"}, "string of now"),
        (True, ""),
    ],
)
def test_what_is_inside_an_argument_counts(schema, signature):
    function = Function.model_validate({"name": "f", "parameters": {"properties": {"x": schema}}})
    assert str(function) == f"f(x?: {signature})"


def changed(change):
    tools = json.loads(json.dumps(echo_router().catalogue.schemas))
    change({tool["function"]["name"]: tool["function"] for tool in tools}, tools)
    return tools


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda _, tools: tools.pop(), "'web_reader' is missing"),
        (lambda _, tools: tools.clear(), "'web_search' is missing"),
        (lambda by, _: by["weather"].update(name="forecast"), "'weather' is missing"),
        (
            lambda by, _: by["weather"]["parameters"]["properties"].update(days={"type": "integer"}),
            "weather(location: string) is given as weather(days?: integer, location: string)",
        ),
        (lambda by, _: by["weather"]["parameters"].pop("required"), "is given as weather(location?: string)"),
        (
            lambda by, _: by["unit_converter"]["parameters"]["properties"]["value"].update(type="string"),
            "value: string",
        ),
        (
            lambda by, _: by["datetime"]["parameters"]["properties"]["action"]["enum"].remove("add"),
            "datetime(action: string of convert|diff|now,",
        ),
        (
            lambda _, tools: tools.append({"type": "function", "function": {"name": "stocks", "parameters": {}}}),
            "'stocks' is not in it",
        ),
    ],
)
def test_other_tools_are_refused_and_the_difference_is_said(client, change, says):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, "Oslo", tools=changed(change))
    assert (caught.value.code, caught.value.param) == ("tools_differ", "tools")
    assert says in caught.value.message


def test_a_type_that_stands_twice_is_not_written_out_twice_at_each_level(client):
    inside = {"type": "string"}
    for _ in range(40):
        inside = {"type": ["array", "array"], "items": inside}
    nested = changed(lambda by, _: by["weather"]["parameters"]["properties"].update(location=inside))
    with pytest.raises(openai.BadRequestError, match="array of") as caught:
        ask(client, "Oslo", tools=nested)
    assert len(caught.value.message) < 1000


def message(content, role="user"):
    return {"model": "echo", "messages": [{"role": role, "content": content}]}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "EOF"),
        (b"{", "EOF"),
        (b"[]", "should be an object"),
        (b"[" * 5000, "recursion limit"),
        (b'{"model": "echo", "messages": [{"role": "user", "content": "\\ud800"}]}', "unexpected end of hex escape"),
        (b'{"model": "echo", "messages": [{"role": "user", "content": "\xff"}]}', "invalid unicode code point"),
        ({"messages": []}, "model: Field required"),
        ({"model": "echo", "messages": []}, "messages: List should have at least 1 item"),
        (message("x", "wizard"), "messages.0.role"),
        (message("x", "assistant"), "the last message has to be the user's or a tool's"),
        (message("x", "system"), "the last message has to be the user's or a tool's"),
        (message(None), "the user message has no text"),
        (message(7), "the user message has no text"),
        (message([{"type": "image_url", "image_url": {"url": "data:,"}}]), "text parts alone, not 'image_url'"),
        (message(["x"]), "text parts alone, not None"),
        (message(""), "the query is empty"),
        (message("too long"), TOO_LONG),
        ({**message("x"), "tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({**message("x"), "tools": [{"type": "function", "function": {"name": "f", "parameters": 7}}]}, "tools.0"),
    ],
)
def test_bad_bodies_get_one_clear_line_in_openais_envelope(url, body, says):
    answer = post(url, body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert says in error["message"] and "\n" not in error["message"]
    assert error["type"] == "invalid_request_error" and error["code"]


@pytest.mark.parametrize("size", [LIMIT + 1, 30_000_000])
def test_a_large_body_is_refused_and_the_answer_arrives(client, url, size):
    with pytest.raises(openai.APIStatusError, match=f"at most {LIMIT} are read") as caught:
        ask(client, "x" * size)
    assert caught.value.status_code == 413
    chunked = httpx.post(f"{url}/v1/chat/completions", content=(b" " * 1000 for _ in range(size // 1000 + 1)))
    assert chunked.status_code == 413


def test_a_defect_is_a_500_and_the_next_query_is_answered(client):
    with pytest.raises(openai.InternalServerError, match="the server failed"):
        ask(client, "defect")
    assert calls(ask(client, "Oslo").choices[0].message) == [("weather", {"location": "Oslo"})]


def test_models_and_health(client, url):
    assert [model.id for model in client.models.list()] == ["echo"]
    assert client.models.retrieve("echo").model_extra["tools"] == echo_router().catalogue.schemas
    with pytest.raises(openai.NotFoundError, match="no model is named 'gpt-4o'; this is 'echo'"):
        client.models.retrieve("gpt-4o")
    with pytest.raises(openai.NotFoundError, match="no model is named 'gpt-4o'; this is 'echo'"):
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Oslo"}])
    assert httpx.get(f"{url}/health").json() == {"status": "ok", "model": "echo"}
    assert httpx.get(f"{url}/nowhere").json()["error"]["code"] == "unknown_url"
    wrong = httpx.get(f"{url}/v1/chat/completions")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")


def test_metrics_count_outcomes_and_seconds(client, url):
    before = Counter(metric(url, "toolforge_request"))
    ask(client, "Oslo")
    ask(client, "hi")
    post(url, b"{")
    after = Counter(metric(url, "toolforge_request"))
    after.subtract(before)
    changes = {name: change for name, change in after.items() if change and "bucket" not in name and "sum" not in name}
    assert changes == {
        'toolforge_requests_total{outcome="calls"}': 1,
        'toolforge_requests_total{outcome="no_call"}': 1,
        'toolforge_requests_total{outcome="invalid_request"}': 1,
        "toolforge_request_seconds_count": 3,
    }
    assert metric(url, "toolforge_queue_depth") == {"toolforge_queue_depth": 0}


def test_the_async_client(url):
    async def both():
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
            plain = await ask(client, "Oslo")
            chunks = [chunk async for chunk in await ask(client, "Oslo", stream=True)]
            return plain.choices[0].message, chunks[1].choices[0].delta.tool_calls[0].function

    plain, streamed = asyncio.run(both())
    assert calls(plain) == [("weather", {"location": "Oslo"})]
    assert (streamed.name, json.loads(streamed.arguments)) == ("weather", {"location": "Oslo"})


@pytest.mark.parametrize("streamed", [False, True])
def test_a_pydantic_ai_agent_runs_the_tools_and_ends(url, streamed):
    ran = []

    def tool(schema):
        async def run(**arguments):
            ran.append((schema["name"], arguments))
            return f"{arguments['location']}: 4 C"

        return Tool.from_schema(run, schema["name"], schema["description"], schema["parameters"])

    tools = [tool(schema["function"]) for schema in echo_router().catalogue.schemas]

    async def answers(*queries):
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
            model = OpenAIChatModel("echo", provider=OpenAIProvider(openai_client=client))
            agent = Agent(model, tools=tools, system_prompt="Be brief.")
            for query in queries:
                if streamed:
                    async with agent.run_stream(query) as result:
                        yield await result.get_output()
                else:
                    yield (await agent.run(query)).output

    async def both():
        return [answer async for answer in answers("Oslo and Rome", "hi")]

    assert asyncio.run(both()) == ["Oslo: 4 C\nRome: 4 C", NO_CALL]
    assert sorted(ran, key=str) == [("weather", {"location": "Oslo"}), ("weather", {"location": "Rome"})]


def test_1000_requests_from_50_clients_are_answered_each_with_its_own(url):
    """None lost, none mixed up: the answer to a query names the query."""

    def one_client(number):
        with httpx.Client(base_url=url, timeout=60) as client:
            for n in range(20):
                place = f"place {number}.{n}"
                answer = client.post("/v1/chat/completions", json=message(place))
                assert answer.status_code == 200, answer.text
                (call,) = answer.json()["choices"][0]["message"]["tool_calls"]
                yield json.loads(call["function"]["arguments"])["location"] == place

    with ThreadPoolExecutor(50) as threads:
        answers = [right for client in threads.map(lambda n: list(one_client(n)), range(50)) for right in client]
    assert len(answers) == 1000 and all(answers)


def until(depth, url):
    """Wait until so many queries are in the line."""
    deadline = time.monotonic() + 30
    while (now := metric(url, "toolforge_queue_depth")["toolforge_queue_depth"]) != depth:
        assert time.monotonic() < deadline, f"{now} in the line, not {depth}"
        time.sleep(0.01)


def test_sigterm_answers_what_was_accepted_and_exits_with_0():
    with echo_server() as (process, url), ThreadPoolExecutor(8) as threads:
        # The first holds the line until all stand in it.
        queries = ["wait 3 0", *(f"wait 0 {n}" for n in range(1, 8))]
        waiting = [threads.submit(post, url, message(query)) for query in queries[:1]]
        until(1, url)
        waiting += [threads.submit(post, url, message(query)) for query in queries[1:]]
        until(8, url)
        process.send_signal(signal.SIGTERM)
        answers = [job.result().json()["choices"][0]["message"] for job in waiting]
        said = [json.loads(answer["tool_calls"][0]["function"]["arguments"])["location"] for answer in answers]
        assert said == queries
        assert process.wait(timeout=30) == 0
        assert process.stderr.read() == ""
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/health")


def test_a_full_queue_says_when_to_come_back_and_the_client_does():
    with echo_server(queue=2) as (_, url), ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(post, url, message(f"wait 1 {n}")) for n in range(2)]
        until(2, url)
        refused = post(url, message("Oslo"))
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["error"]["code"] == "queue_full"
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=5) as client:
            assert calls(ask(client, "Oslo").choices[0].message) == [("weather", {"location": "Oslo"})]
        assert [job.result().status_code for job in waiting] == [200, 200]


def test_a_query_that_waits_too_long_gets_a_504_and_leaves_the_line():
    with echo_server(timeout=0.5) as (_, url), ThreadPoolExecutor(3) as threads:
        answers = list(threads.map(post, [url] * 3, map(message, ["wait 2", "wait 60 a", "wait 60 b"])))
        assert [answer.status_code for answer in answers] == [504] * 3
        assert answers[0].json()["error"] == {
            "message": "not answered within 0.5 s", "type": "server_error", "param": None, "code": "timeout",
        }  # fmt: skip
        until(0, url)


def test_a_body_that_never_ends_gets_a_504():
    with echo_server(timeout=0.5) as (_, url):
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(HEAD % 100 + b"{")
            assert client.recv(1000).startswith(b"HTTP/1.1 504")


def test_a_client_that_hangs_up_leaves_the_line_and_is_no_defect():
    with echo_server(queue=2) as (process, url):
        host, port = url.removeprefix("http://").split(":")
        bodies = [json.dumps(message(query)).encode() for query in ("wait 2", "wait 60")]
        clients = [socket.create_connection((host, int(port))) for _ in range(3)]
        for client, body in zip(clients, bodies, strict=False):
            client.sendall(HEAD % len(body) + body)
            until(clients.index(client) + 1, url)
        clients[2].sendall(HEAD % 100 + b"{")
        for client in clients:
            client.close()
        until(0, url)
        # Behind the one query that was being routed already, and not behind the other.
        assert post(url, message("Oslo")).status_code == 200
        counts = metric(url, "toolforge_requests_total")
        assert counts == {
            'toolforge_requests_total{outcome="disconnected"}': 3,
            'toolforge_requests_total{outcome="calls"}': 1,
        }
        process.send_signal(signal.SIGTERM)
        assert (process.wait(timeout=30), process.stderr.read()) == (0, "")


def test_a_key_is_asked_for_where_one_is_set():
    with echo_server(api_key=KEY) as (_, url):
        for path, status in (("/", 200), ("/health", 200), ("/metrics", 200), ("/v1/models", 401)):
            assert httpx.get(f"{url}{path}").status_code == status
        for wrong in ({}, {"Authorization": "Bearer x"}, {"Authorization": KEY.encode()}):
            refused = post(url, message("Oslo"), **wrong)
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
        assert post(url, message("Oslo"), Authorization=f"Bearer {KEY}".encode()).status_code == 200
        assert metric(url, "toolforge_requests_total")['toolforge_requests_total{outcome="invalid_api_key"}'] == 4


def test_neither_key_nor_query_is_logged():
    with echo_server(api_key="a-key-of-mine") as (process, url):
        lines = []
        reader = threading.Thread(target=lambda: lines.extend(process.stderr))
        reader.start()
        for query in ("my secret place", "defect"):
            post(url, message(query), Authorization="Bearer a-key-of-mine")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
        reader.join()
    log = "".join(lines)
    assert "RuntimeError" in log
    assert "a-key-of-mine" not in log and "my secret place" not in log
