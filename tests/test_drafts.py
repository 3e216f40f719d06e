import pytest

from few_shot import PRIOR
from toolforge.drafts import Drafts
from toolforge.prior import Prior

HEAD = '[{"name": "weather", "arguments": {"location":'
UNITS = '[{"name": "unit_converter", "arguments": {"value":'


@pytest.mark.parametrize(
    ("text", "query", "guess"),
    [
        ("[", "weather in Oslo?", '{"'),
        (HEAD, "weather in Oslo?", ' "'),
        (HEAD + ' "', "weather in Oslo?", ""),
        (HEAD + ' "O', "weather in Oslo?", 'slo"}}]'),
        (HEAD + ' "O', "weather in oslo", 'slo"}}]'),
        (HEAD + ' "New', "rain in New York, today", ' York"}}]'),
        (HEAD + ' "S', "rain in San Cristobal de las Casas", 'an Cristobal de las Casas"}}]'),
        (
            HEAD + ' "L',
            "rain in Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch",
            "lanfairpwllgwyngyllgogerychwyrnd",
        ),
        (HEAD + ' "Oslo"', "weather in Oslo?", "}}]"),
        (HEAD + ' "Oslo"}', "weather in Oslo?", "}]"),
        (HEAD + ' "Bergen', "weather in Oslo?", ""),
        (HEAD + ' "Oslo"}}', "weather in Oslo?", "]"),
        (UNITS, "20 miles in feet", ' 20, "from": "'),
        (UNITS, "a few miles in feet", " "),
        (UNITS + " 2", "20 miles in feet", '0, "from": "'),
        (UNITS + " 7", "20 miles in feet", ""),
        (UNITS + ' 20, "from": "mi', "20 miles in feet", 'les in feet", "to": "'),
        (
            '[{"name": "web_reader", "arguments": {"url": "https',
            "read https://a.io/x.html, please",
            '://a.io/x.html"}}]',
        ),
        ('[{"name": "calculator", "arguments": {"expression": "0.06 * 5', "a 6 percent raise on 52,000", "2000"),
        ('[{"name": "calculator", "arguments": {"expression": "9 * (3', "nine at 3.20 each and 1.50", ".20"),
        ('[{"name": "calculator", "arguments": {"expression": "9 * 7', "nine at 3.20 each", ""),
        ('[{"name": "datetime", "arguments": {"action": "n', "what time is it", 'ow"}}]'),
        ('[{"name": "datetime", "arguments": {"action": "now"', "what time is it", "}}]"),
        ('[{"name": "web_', "read a.io", 'search"'),
        ('[{"name": "', "read a.io", ""),
        ('[{"name": "unknown", "arguments": {"a": "b', "b", ""),
    ],
)
def test_the_guess_is_the_querys_words_and_the_shortest_way_on(catalogue, text, query, guess):
    assert Drafts(catalogue).after(text, query) == guess


def test_the_beginning_that_the_querys_words_suggest_is_drafted_as_far_as_it_is_likely(catalogue):
    drafts = Drafts(catalogue, PRIOR)
    assert drafts.after("", "weather in Oslo") == PRIOR.beginnings[1]
    assert drafts.after("[", "weather in Oslo") == PRIOR.beginnings[1][1:]
    assert drafts.after('[{"name": "', "weather in Oslo") == 'weather", "arguments": {"location": "'
    assert drafts.after("[", "hello") == "]"
    # Once the model calls a tool, the beginnings with calls are left.
    assert drafts.after('[{"', "hello") == PRIOR.beginnings[1][3:]
    # What the model has begun otherwise goes on by the schemas.
    assert drafts.after('[{"name": "web_', "weather in Oslo") == 'search"'
    assert drafts.after(HEAD + ' "O', "weather in Oslo") == 'slo"}}]'
    unsure = Prior(beginnings=["[]", "[{", "[x", "[y"], bias=[0.0] * 4, weights={})
    assert Drafts(catalogue, unsure).after("", "weather in Oslo") == ""
    assert Drafts(catalogue, unsure).after("[", "weather in Oslo") == '{"'
