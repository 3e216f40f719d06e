"""What the stage makes of each thing that Gemini says, through the real google-genai client."""

import hashlib
import json
import time

import pytest

from teachers.service import (
    BARE,
    CALL,
    CUT,
    DAY,
    DENIED,
    DROP,
    HANG,
    HTML,
    INTERNAL,
    LOCATION,
    MINUTE,
    NO_QUOTA,
    NOT_FOUND,
    OPAQUE,
    OVERLOADED,
    TEXT,
    TRICKLE,
    answered,
    calling,
    error,
    invalid,
    leaked,
    spent,
    suspended,
    violation,
)  # fmt: skip
from toolforge.errors import InputError
from toolforge.teachers.gemini_reading import fault, seconds

KEYS = [f"secret-key-{n}" for n in range(4)]


def call(name, **arguments):
    return {"name": name, "arguments": arguments}


def test_calls_and_texts_become_labels_and_the_catalogue_is_sent(stage, service):
    replies = {
        "query 0": answered(
            calling("weather", location="Oslo"), calling("unit_converter", to="feet", value=2.0, **{"from": "miles"})
        ),
        "query 1": TEXT,
        "query 2": answered({"text": "hm", "thought": True}, calling("default_api.dictionary", word="moot")),
        "query 3": answered({"text": "Sure."}, calling("weather", location="Oslo")),
    }
    service.script = lambda key, model, query, n: replies[query]
    assert stage.run() == {
        "q0": [call("weather", location="Oslo"), call("unit_converter", value=2, **{"from": "miles", "to": "feet"})],
        "q1": [],
        "q2": [call("dictionary", word="moot")],
        "q3": [call("weather", location="Oslo")],
    }
    for record in stage.records():
        assert (record["model"], record["asked"], record["tokens"], record["prompt_tokens"]) == (
            "gemini-that-answered",
            "m",
            7,
            5,
        )
        assert record["seconds"] > 0
    body, headers = service.bodies[0], {name.lower(): value for name, value in service.headers[0].items()}
    assert headers["x-goog-api-key"] == "secret-key-0"
    assert headers["x-server-timeout"] == "60"
    assert body["systemInstruction"]["parts"] == [{"text": "the guide"}]
    assert [tool["name"] for tool in body["tools"][0]["functionDeclarations"]][:2] == ["web_search", "calculator"]
    metrics = json.loads(stage.metrics.read_text())
    assert metrics["by_outcome"] == {"label": 4}
    assert metrics["by_class"] == {"dictionary": 1, "multi_tool": 1, "no_tool": 1, "weather": 1}
    assert metrics["tokens"] == 28


def test_an_odd_model_name_or_usage_costs_no_label(stage, service):
    odd = [answered({"text": "x"}, version="\ud800"), answered({"text": "x"}), answered({"text": "x \ud800"}), TEXT]
    odd[1][1]["usageMetadata"] = {"promptTokenCount": -1, "totalTokenCount": -1}
    service.script = lambda key, model, query, n: odd[int(query[-1])]
    assert stage.run() == {f"q{n}": [] for n in range(4)}


def test_what_is_stored_is_never_asked_again_even_without_a_key(stage, service):
    first = stage.run()
    stage.keys("")
    assert stage.run() == first
    assert service.count() == 4
    stage.labels.write_text("another guide")
    with pytest.raises(InputError, match="set GEMINI_API_KEYS"):
        stage.run()


def test_a_query_that_stands_twice_is_asked_once(stage, service):
    stage.queries("same", "other", "same", "same")
    assert len(stage.run()) == 4
    assert service.count() == 2


def outcomes(stage):
    return {
        record["query"]: (record.get("outcome", "label"), record["calls"], record.get("reason"), record["tokens"])
        for record in stage.records()
    }


def test_what_is_blocked_is_final_for_the_query_and_asked_once(stage, service):
    replies = {
        "PROHIBITED_CONTENT": (200, {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}),
        "OTHER": (200, {"promptFeedback": {"blockReason": "OTHER"}, "candidates": []}),
        "SAFETY": answered({"text": "no"}, finish="SAFETY"),
        "SPII": answered(finish="SPII"),
    }
    stage.queries(*replies, "fine")
    service.script = lambda key, model, query, n: replies.get(query, TEXT)
    assert set(stage.run()) == {"q4"}
    assert outcomes(stage) == {
        "PROHIBITED_CONTENT": ("blocked", None, "blocked: PROHIBITED_CONTENT", 0),
        "OTHER": ("blocked", None, "blocked: OTHER", 0),
        "SAFETY": ("blocked", None, "blocked: SAFETY", 7),
        "SPII": ("blocked", None, "blocked: SPII", 7),
        "fine": ("label", [], None, 7),
    }
    stage.run()
    assert service.count() == 5


def test_what_is_no_label_is_asked_a_few_times_and_then_kept_as_rejected(stage, service):
    nothing = "without a text or a call"
    replies = {
        "malformed": (
            answered(finish="MALFORMED_FUNCTION_CALL", finishMessage="print(x)"),
            "MALFORMED_FUNCTION_CALL print(x)",
        ),
        "no parts": (answered(finish="STOP"), nothing),
        "blank": (answered({"text": " "}), nothing),
        "thoughts": (answered({"text": "only thinking", "thought": True}), nothing),
        "code": (answered({"text": "print(default_api.weather(location='Oslo'))"}), "a call written as text"),
        "cut": (answered({"text": "half an ans"}, finish="MAX_TOKENS"), "MAX_TOKENS"),
        "future": (answered({"text": "x"}, finish="A_KIND_OF_THE_FUTURE"), "A_KIND_OF_THE_FUTURE"),
        # The SDK would send the next request by itself.
        "continue": (answered({"text": "x"}, finish="CONTINUATION", continuationToken="YQ=="), "CONTINUATION"),
        "unfinished": (answered({"text": "x"}, finish=None), "no finish reason"),
        "argument": (answered(calling("weather", place="Oslo")), "weather"),
        "tool": (
            answered(calling("weather", location="Oslo"), calling("wether", location="Oslo")),
            "no tool is named 'wether'",
        ),
        "list": (answered({"functionCall": {"name": "weather", "args": ["Oslo"]}}), "a call that is none"),
        "nameless": (answered({"functionCall": {"args": {}}}), "a call that is none"),
        "surrogate": (answered(calling("weather", location="\ud800")), "a value that JSON cannot hold"),
    }
    stage.queries(*replies, "fine")
    service.script = lambda key, model, query, n: replies.get(query, (TEXT,))[0]
    assert set(stage.run()) == {f"q{len(replies)}"}
    found = outcomes(stage)
    assert found.pop("fine")[0] == "label"
    for name, (outcome, calls, reason, tokens) in found.items():
        assert (outcome, calls, tokens) == ("rejected", None, 21), name
        assert replies[name][1] in reason, name
    assert set(found) == set(replies)
    stage.run()
    assert {service.count(query=name) for name in replies} == {3}


def test_a_malformed_answer_that_comes_right_is_a_label(stage, service):
    service.script = lambda key, model, query, n: answered(finish="MALFORMED_FUNCTION_CALL") if n < 3 else CALL
    assert len(stage.run()) == 4
    assert {record.get("outcome", "label") for record in stage.records()} == {"label"}
    assert service.count() == 12


def test_a_success_without_an_answer_is_not_kept_and_asked_again_by_the_next_run(stage, service):
    replies = {
        "empty": (200, ""),
        "{}": (200, {}),
        "shape": (200, {"candidates": "x"}),
        "list": (200, [1]),
        "null": (200, "null"),
    }
    stage.queries(*replies, "fine 1", "fine 2")
    service.script = lambda key, model, query, n: replies[query] if query in replies and n <= 3 else TEXT
    with pytest.raises(InputError, match="5 of 7 queries are unlabelled: .*answer.* run again to resume"):
        stage.run(in_flight=8)
    assert set(stage.labelled()) == {"q5", "q6"}
    assert len(stage.records()) == 2
    assert len(stage.run()) == 7
    assert {service.count(query=name) for name in replies} == {4}


def test_what_passes_is_tried_again_with_one_request_each_time(stage, service):
    replies = {
        "500": INTERNAL, "503": OVERLOADED, "502": HTML, "504": (504, ""), "drop": DROP, "cut": CUT,
        "page": (200, "<html>login</html>"), "inside": (200, OVERLOADED[1]),
    }  # fmt: skip
    stage.queries(*replies)
    service.script = lambda key, model, query, n: replies[query] if n == 1 else TEXT
    assert len(stage.run(in_flight=8)) == 8
    assert {service.count(query=name) for name in replies} == {2}


def test_a_rest_of_the_slots_is_no_failure_of_the_query_that_waits_for_it(stage, service):
    stage.queries(1)
    replies = [INTERNAL, spent(violation(MINUTE), delay="6s"), INTERNAL]
    service.script = lambda key, model, query, n: replies[n - 1] if n <= 3 else TEXT
    assert len(stage.run(give_up_after=6.0)) == 1


def test_a_hang_ends_at_the_time_out_and_a_short_one_keeps_the_servers_deadline_legal(stage, service):
    slow = {"query 0": HANG, "query 1": TRICKLE}
    service.script = lambda key, model, query, n: slow.get(query, TEXT) if n == 1 else TEXT
    assert len(stage.run(timeout=1.0)) == 4
    assert {value for name, value in service.headers[0].items() if name.lower() == "x-server-timeout"} == {"10"}


def test_one_query_that_always_fails_stops_no_other_and_is_left_for_the_next_run(stage, service):
    stage.queries(12)
    service.script = lambda key, model, query, n: INTERNAL if query == "query 1" else TEXT
    with pytest.raises(InputError, match="1 of 12 queries are unlabelled: 1 x 500 An internal error"):
        stage.run(give_up_after=2.0)
    assert len(stage.labelled()) == 11
    assert len(stage.records()) == 11


def test_a_service_that_is_down_ends_the_run(stage, service):
    stage.queries(50)
    service.script = lambda key, model, query, n: OVERLOADED
    with pytest.raises(InputError, match="the service gives no answers"):
        stage.run(give_up_after=1.0)
    assert stage.records() == []
    assert service.count() < 30


@pytest.mark.parametrize(
    "reply", [LOCATION, OPAQUE, NOT_FOUND, error(400, "INVALID_ARGUMENT", "Manually set deadline 5s is too short.")]
)
def test_what_no_retry_mends_stops_the_run_with_one_line_and_marks_nothing(stage, service, reply):
    stage.queries(40)
    service.script = lambda key, model, query, n: reply if query == "query 5" else TEXT
    with pytest.raises(InputError, match="m cannot be asked") as said:
        stage.run()
    assert reply[1]["error"]["message"][:40] in str(said.value)
    assert 5 <= len(stage.records()) < 10
    assert all(record.get("outcome", "label") == "label" for record in stage.records())
    service.script = lambda key, model, query, n: TEXT
    assert len(stage.run()) == 40
    assert service.count() == 41


@pytest.mark.parametrize("refusal", [invalid, leaked, suspended])
def test_a_dead_key_is_asked_once_in_all_its_life_and_stands_nowhere(stage, service, capfd, refusal):
    stage.queries(30)
    stage.keys(*KEYS)
    service.script = lambda key, model, query, n: refusal(key) if key == KEYS[1] else TEXT
    assert len(stage.run(models=("m", "n"))) == 30
    assert service.count(key=KEYS[1]) == 1
    stage.queries(60)
    assert len(stage.run(models=("m", "n"))) == 60
    assert service.count(key=KEYS[1]) == 1
    said = "".join(capfd.readouterr()) + "".join(path.read_text() for path in stage.folder.iterdir())
    assert "is dead and will not be sent again" in said
    for key in KEYS:
        assert key not in said


def test_not_even_half_a_key_stands_in_a_message_that_is_cut(stage, service, capfd):
    service.script = lambda key, model, query, n: error(403, "PERMISSION_DENIED", "x" * 280 + f" api_key:{key} " * 9)
    with pytest.raises(InputError) as said:
        stage.run()
    everything = str(said.value) + "".join(capfd.readouterr()) + json.dumps(stage.state())
    assert "<key " in everything
    assert "secret" not in everything


def test_an_address_without_http_stops_the_run_at_once(stage, monkeypatch):
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "localhost:8080")
    with pytest.raises(InputError, match="m cannot be asked: NonHttpUrlClientError localhost:8080"):
        stage.run()


def test_a_key_that_dies_later_is_not_sent_after_its_refusal(stage, service):
    stage.queries(80)
    stage.keys(*KEYS)
    service.delay = 0.01
    service.script = lambda key, model, query, n: (
        suspended(key) if key == KEYS[2] and service.count(key=key) > 8 else TEXT
    )
    assert len(stage.run()) == 80
    # The others were under way when the first was refused.
    assert 1 <= len(service.refused[KEYS[2]]) <= 3


def test_keys_of_one_project_share_its_slot_and_one_of_them_can_die(stage, service):
    stage.queries(30)
    stage.keys(f"mine={KEYS[0]}", f"mine={KEYS[1]}", KEYS[2], KEYS[2])
    service.script = lambda key, model, query, n: invalid(key) if key == KEYS[0] else TEXT
    assert len(stage.run()) == 30
    assert set(stage.state()["slots"]) == {"mine/m", f"{hashlib.sha256(KEYS[2].encode()).hexdigest()[:8]}/m"}
    assert service.count(key=KEYS[0]) == 1
    assert service.count(key=KEYS[1]) > 5


def test_a_project_that_is_denied_takes_all_its_keys_along(stage, service):
    stage.queries(20)
    stage.keys(f"bad={KEYS[0]}", f"bad={KEYS[1]}", KEYS[2])
    service.script = lambda key, model, query, n: TEXT if key == KEYS[2] else DENIED
    assert len(stage.run()) == 20
    assert service.count(key=KEYS[0]) + service.count(key=KEYS[1]) == 1


def test_an_account_that_is_limited_for_misuse_inside_a_success_is_dead(stage, service):
    stage.keys(*KEYS[:2])
    service.script = lambda key, model, query, n: answered(finish="PUP_LIMITED_DISABLED") if key == KEYS[0] else TEXT
    assert len(stage.run()) == 4
    assert service.count(key=KEYS[0]) == 1


def test_when_all_keys_are_dead_the_run_ends_and_says_what_to_do(stage, service):
    stage.keys(*KEYS)
    service.script = lambda key, model, query, n: suspended(key)
    for _ in range(2):
        with pytest.raises(
            InputError, match="4 of 4 queries are unlabelled: no slot is left: .*suspended.*delete .*slots.json"
        ) as said:
            stage.run()
        assert not any(key in str(said.value) for key in KEYS)
    assert service.count() == 4


@pytest.mark.parametrize(
    "body", [lambda body: body, json.dumps, lambda body: [body]], ids=["JSON", "not declared", "list"]
)
def test_a_daily_quota_rests_its_slot_and_the_others_go_on_also_after_a_restart(stage, service, body):
    stage.queries(40)
    stage.keys(*KEYS[:2])
    status, document = spent(violation(DAY, 20), violation(MINUTE, 5), delay="22s")
    day = status, body(document)
    service.script = lambda key, model, query, n: day if key == KEYS[0] and model == "m" else TEXT
    assert len(stage.run(models=("m", "n"))) == 40
    asked = [(key, model) for _, key, model, _ in service.requests]
    assert asked.count((KEYS[0], "m")) == 1
    assert {pair: asked.count(pair) > 3 for pair in asked} == {
        (KEYS[0], "m"): False, (KEYS[0], "n"): True, (KEYS[1], "m"): True, (KEYS[1], "n"): True,
    }  # fmt: skip
    slot = next(slot for slot in stage.state()["slots"].values() if slot["blocked_until"])
    assert slot["limits"] == {"day": 20}
    stage.queries(80)
    assert len(stage.run(models=("m", "n"))) == 80
    assert [(key, model) for _, key, model, _ in service.requests].count((KEYS[0], "m")) == 1


def test_when_all_slots_rest_the_run_ends_and_says_until_when_and_the_next_spends_nothing(stage, service):
    stage.queries(30)
    stage.keys(*KEYS[:3])
    service.script = lambda key, model, query, n: (
        TEXT if service.count(key=key) <= 5 else spent(violation(DAY, 5), delay="22s")
    )
    with pytest.raises(
        InputError, match=r"15 of 30 queries are unlabelled: all slots rest until 20.*daily quota.*run again"
    ):
        stage.run()
    assert len(stage.labelled()) == 15
    spent_requests = service.count()
    # Each slot has up to three under way, and all of them may be refused.
    assert spent_requests <= 15 + 3 * 3
    with pytest.raises(InputError, match="all slots rest until"):
        stage.run()
    assert service.count() == spent_requests


def test_a_quota_a_minute_is_waited_out_for_as_long_as_it_says_and_a_second_more(stage, service):
    minute = spent(violation(MINUTE, 5), delay="1.2s")
    service.script = lambda key, model, query, n: minute if query == "query 1" and n == 1 else TEXT
    assert len(stage.run()) == 4
    at = [when for when, _, _, query in service.requests if query == "query 1"]
    assert 2.2 <= at[1] - at[0] < 30
    assert [when for when, *_ in service.requests if at[0] + 0.3 < when < at[0] + 2.2] == []
    assert next(iter(stage.state()["slots"].values()))["limits"] == {"minute": 5}


@pytest.mark.parametrize("delay", ["0s", "36000s", None])
def test_a_stated_delay_that_no_quota_a_minute_can_have_is_not_believed(stage, service, monkeypatch, delay):
    monkeypatch.setattr("toolforge.teachers.slot.MINUTE", 1.0)
    service.script = lambda key, model, query, n: (
        spent(violation(MINUTE), delay=delay) if service.count() == 2 else TEXT
    )
    assert len(stage.run()) == 4
    refused, again = [when for when, _, _, query in service.requests if query == service.requests[1][3]]
    assert again - refused >= 1


def test_a_bare_429_is_backed_off_from_and_does_not_end_the_day(stage, service):
    service.script = lambda key, model, query, n: BARE if query == "query 1" and n == 1 else TEXT
    assert len(stage.run()) == 4
    at = [when for when, _, _, query in service.requests if query == "query 1"]
    assert 1.9 <= at[1] - at[0] < 30


def test_a_slot_without_any_quota_dies_and_the_others_go_on(stage, service):
    stage.queries(20)
    service.script = lambda key, model, query, n: NO_QUOTA if model == "m" else TEXT
    assert len(stage.run(models=("m", "n"))) == 20
    assert [model for _, _, model, _ in service.requests].count("m") == 1


def test_with_wait_a_long_rest_is_sat_out(stage, service, monkeypatch, capfd):
    monkeypatch.setattr("toolforge.teachers.slot.HOUR", 3.0)
    monkeypatch.setattr("toolforge.teachers.slots.PATIENCE", 0.5)
    service.script = lambda key, model, query, n: spent(violation(DAY, 2)) if service.count() == 3 else TEXT
    with pytest.raises(InputError, match="set teacher.wait: true"):
        stage.run()
    assert len(stage.run(wait=True)) == 4
    assert "rests until" in capfd.readouterr().err


def test_a_learned_limit_a_minute_is_kept_without_being_told_again(stage, service, monkeypatch):
    monkeypatch.setattr("toolforge.teachers.slot.MINUTE", 2.0)
    stage.queries(6)
    times = []

    def script(key, model, query, n):
        now = time.monotonic()
        if sum(at > now - 2 for at in times) >= 3:
            return spent(violation(MINUTE, 3), delay="1s")
        times.append(now)
        return TEXT

    service.script = script
    assert len(stage.run()) == 6
    # Each request that was in flight when the limit was learned may be told it.
    assert service.count() <= 6 + 3


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        ("37s", 37),
        ("37.295530399s", 37.295530399),
        ("10h17m5.723541104s", 37025.723541104),
        ("523.5ms", 0.5235),
        ("0s", 0),
        ("?", 0),
    ],
)
def test_durations(duration, expected):
    assert seconds(duration) == pytest.approx(expected)


def test_the_words_of_a_429_serve_where_its_details_are_missing():
    found = fault(429, {"error": {"message": "Quota exceeded, limit: 20, model: x\nPlease retry in 10h17m5.7s."}})
    assert (found.quota, found.delay) == ("unknown", pytest.approx(37025.7))
    assert fault(429, {"error": {"message": "limit: 0.5"}}).quota == "unknown"
    assert fault(429, {"error": "slow down"}).quota == "unknown"
    assert fault(429, ["odd"]).quota == "unknown"
