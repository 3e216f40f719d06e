"""A share of the train rows is misspelled, each so that its label stays right."""

import re

import pytest

from toolforge.records import Example, ToolCall, read_rows
from toolforge.typos import TyposParams, misspell

PARAMS = TyposParams(share=1.0, rate=0.3, seed=3, corrected=["weather.location"])


def example(said, name="", **arguments):
    calls = [ToolCall(name=name, arguments=arguments)] if name else []
    return Example(id="a", query=said, calls=calls, source="authored", group="a")


def test_a_share_is_misspelled_the_same_each_time():
    rows = [example("please remember the umbrella tomorrow morning")] * 2000
    params = PARAMS.model_copy(update={"share": 0.4, "rate": 0.1})
    found = misspell(rows, params)
    assert found == misspell(rows, params)
    assert found != misspell(rows, params.model_copy(update={"seed": 4}))
    changed = [row for row in found if row.query != rows[0].query]
    # One in a hundred or two draws no error.
    assert 0.35 < len(changed) / len(rows) < 0.43
    assert len({row.query for row in changed}) > 300
    assert {(row.id, row.group, tuple(row.calls)) for row in found} == {("a", "a", ())}


def test_no_share_changes_nothing():
    rows = [example("please remember the umbrella")] * 50
    assert misspell(rows, PARAMS.model_copy(update={"share": 0.0})) == rows


@pytest.mark.parametrize(
    ("row", "stays"),
    [
        (example("translate Goodbye everyone into Spanish please", "translate", text="Goodbye everyone", to_lang="Spanish"), ["Goodbye everyone", "Spanish"]),
        (example("please search cheapest flights london", "web_search", query="cheapest flights london"), ["cheapest flights london"]),
        (example("summarise www.example.com/some-page or https://other.example.org/x please", "web_reader", url="u"), ["www.example.com/some-page", "https://other.example.org/x"]),
        (example("convert 25kilograms and 40 of them, don't say well-known", ""), ["25kilograms", "40", "don't", "well-known", "and", "say"]),
        (example("weather in Reykjavik, Oslo's too", "web_search", query="x"), ["Oslo's", "in", "too"]),
    ],
)  # fmt: skip
def test_what_a_label_copies_and_what_is_no_word_stays(row, stays):
    for seed in range(30):
        (found,) = misspell([row], PARAMS.model_copy(update={"seed": seed}))
        assert all(text in found.query for text in stays), found.query
        assert len(found.query.split()) <= len(row.query.split())


def test_what_a_label_spells_right_may_be_misspelled():
    row = example("rain over Reykjavik", "weather", location="Reykjavik")
    places = {misspell([row], PARAMS.model_copy(update={"seed": seed}))[0].query.split()[-1] for seed in range(30)}
    assert len(places) > 10
    kept = PARAMS.model_copy(update={"corrected": []})
    assert {misspell([row], kept.model_copy(update={"seed": seed}))[0].query.split()[-1] for seed in range(30)} == {
        "Reykjavik"
    }


def test_the_rate_is_that_of_errors_a_letter():
    rows = [example("remember tomorrow umbrella yesterday")] * 500
    words = [re.findall(r"\w+", row.query) for row in misspell(rows, PARAMS.model_copy(update={"rate": 0.05}))]
    clean = rows[0].query.split()
    wrong = sum(word not in clean for found in words for word in found) / sum(len(found) for found in words)
    # 1 - 0.95 ** 8.25 is 0.34 of words with an error.
    assert 0.25 < wrong < 0.42


def test_the_shipped_rows_keep_what_their_labels_copy(repository_rows):
    found = misspell(repository_rows, PARAMS.model_copy(update={"rate": 0.1}))
    urls = [
        (row, call.arguments["url"])
        for row, clean in zip(found, repository_rows, strict=True)
        for call in row.calls
        if call.name == "web_reader" and call.arguments["url"] in clean.query
    ]
    assert len(urls) > 100
    assert [row.query for row, url in urls if url not in row.query] == []


@pytest.fixture
def repository_rows():
    from conftest import ROOT

    return [row for path in sorted((ROOT / "data" / "authored").glob("*.jsonl")) for row in read_rows(path, Example)]
