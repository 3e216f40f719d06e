"""How an answer begins, by the query's words alone."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from few_shot import ROOT
from toolforge.errors import InputError
from toolforge.prior import Prior, PriorParams, beginning, fit, load_prior, words
from toolforge.prompt import answer
from toolforge.records import Example, ToolCall, read_rows

PARAMS = PriorParams(min_rows=3, C=1.0)


def call(tool, **arguments):
    return ToolCall(name=tool, arguments=arguments)


def rows(count, query, *calls):
    return [
        Example(id=f"{query}-{n}", query=query.format(n), calls=list(calls), source="authored", group="a")
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("calls", "text"),
    [
        ([], "[]"),
        ([call("weather", location="Oslo")], '[{"name": "weather", "arguments": {"location": "'),
        ([call("weather", location="Oslo"), call("wikipedia", query="x")], '[{"name": "weather", "arguments": {"location": "'),
        ([{"name": "unit_converter", "arguments": {"value": 2, "from": "m", "to": "ft"}}], '[{"name": "unit_converter", "arguments": {"value": '),
        ([call("datetime", action="now")], '[{"name": "datetime", "arguments": {"action": "now"'),
        ([call("datetime", action="now", timezone="Rome")], '[{"name": "datetime", "arguments": {"action": "now", "timezone": "'),
    ],
)  # fmt: skip
def test_a_beginning_ends_at_the_first_value_that_the_schema_does_not_list(catalogue, calls, text):
    calls = [ToolCall.model_validate(one) for one in calls]
    assert beginning(calls, catalogue) == text
    assert answer(calls).startswith(text)


def test_every_authored_answer_begins_so(catalogue):
    examples = [row for path in (ROOT / "data" / "authored").glob("*.jsonl") for row in read_rows(path, Example)]
    assert len({beginning(row.calls, catalogue) for row in examples}) > 10
    assert all(answer(row.calls).startswith(beginning(row.calls, catalogue)) for row in examples)


def test_words_are_lower_case_with_their_digits_hidden_and_their_neighbours_beside_them():
    assert words("Is 3,450 m2?") == ["is", "0,000", "m0", "?", " is", "is 0,000", "0,000 m0", "m0 ?", "? "]
    assert words("") == [" "]


@given(st.text(max_size=60))
def test_the_probabilities_of_any_query_are_those_of_a_choice(query):
    prior = Prior(beginnings=["[]", "[{", "[{}"], bias=[0.0, 1.0, -1.0], weights={"a": [9.0, 0.0, -900.0]})
    scores = [9.0, 1.0, -901.0] if "a" in words(query) else [0.0, 1.0, -1.0]
    powers = [math.exp(score) for score in scores]
    best = max(range(3), key=scores.__getitem__)
    assert prior.likeliest(query, "") == (prior.beginnings[best], pytest.approx(powers[best] / sum(powers)))
    # Of those that go on from there; what is nobody's is None.
    assert prior.likeliest(query, "[{") == ("[{}", pytest.approx(powers[2] / (powers[1] + powers[2])))
    assert prior.likeliest(query, "[]") is None
    assert prior.likeliest(query, "nothing") is None


def test_what_was_seen_is_told_apart_and_what_is_rare_is_left_out(catalogue):
    examples = [
        *rows(9, "rain in city {}", call("weather", location="x")),
        *rows(9, "{} thanks", *[]),
        *rows(2, "define {}", call("dictionary", word="x")),
    ]
    prior = fit(examples, catalogue, PARAMS)
    assert set(prior.beginnings) == {"[]", '[{"name": "weather", "arguments": {"location": "'}
    text, probability = prior.likeliest("rain in Oslo", "[")
    assert "weather" in text and probability > 0.7
    assert prior.likeliest("ok thanks", "[")[0] == "[]"
    assert not any("define" in word for word in prior.weights)


def test_three_beginnings_are_told_apart_too(catalogue):
    examples = [
        *rows(9, "rain in city {}", call("weather", location="x")),
        *rows(9, "{} thanks", *[]),
        *rows(9, "who was {}", call("wikipedia", query="x")),
    ]
    prior = fit(examples, catalogue, PARAMS)
    assert [len(row) for row in (prior.bias, *prior.weights.values())] == [3] * (1 + len(prior.weights))
    assert ["weather" in prior.likeliest("rain", "")[0], "wikipedia" in prior.likeliest("who was it", "")[0]] == [
        True,
        True,
    ]


def test_rows_that_are_too_few_give_the_frequencies(catalogue):
    prior = fit(rows(6, "rain {}", call("weather", location="x")) + rows(2, "hi {}"), catalogue, PARAMS)
    assert prior.weights == {}
    weather = '[{"name": "weather", "arguments": {"location": "'
    assert prior.likeliest("rain", "") == prior.likeliest("hi", "") == (weather, pytest.approx(0.75))


def test_a_file_that_is_no_prior_is_said(tmp_path):
    with pytest.raises(InputError, match=r"none\.json: no such file; dvc repro makes it"):
        load_prior(tmp_path / "none.json")
    good = {"beginnings": ["[]"], "bias": [0.5], "weights": {"hi": [1.0]}}
    for change, said in (
        ({"bias": ["x"]}, r"bias\.0: "),
        ({"bias": []}, "need 1 numbers, one for a beginning"),
        ({"weights": {"hi": [1.0, 2.0]}}, "need 1 numbers, one for a beginning"),
        ({"weights": {"hi": [math.inf]}}, r"weights\.hi\.0: "),
        ({"beginnings": []}, "beginnings: "),
    ):
        (tmp_path / "bad.json").write_text(json.dumps(good | change))
        with pytest.raises(InputError, match=rf"bad\.json: .*{said}"):
            load_prior(tmp_path / "bad.json")
