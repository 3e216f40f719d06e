"""The router that is written by hand, on queries as people write them."""

import pytest

from toolforge.baselines.keywords import Keywords
from toolforge.baselines.rules.amounts import digits
from toolforge.tools import Catalogue


@pytest.mark.parametrize(
    "query, calls",
    [
        ("weather in Oslo", [("weather", "Oslo")]),
        ("Is it going to rain in Buenos Aires tomorrow?", [("weather", "Buenos Aires")]),
        ("forecasts for Leeds, Bath and York", [("weather", "Leeds"), ("weather", "Bath"), ("weather", "York")]),
        ("what's the weather", []),
        ("what is 15% of 240", [("calculator", "0.15 * 240")]),
        ("20% off 80", [("calculator", "80 * (1 - 0.2)")]),
        ("two hundred and six plus 14", [("calculator", "206 + 14")]),
        ("average of 4, 8 and 9", [("calculator", "(4 + 8 + 9) / 3")]),
        ("split 96 between 4 people", [("calculator", "96 / 4")]),
        ("convert 5 miles to km", [("unit_converter", 5, "miles", "kilometers")]),
        ("how many feet in a mile", [("unit_converter", 1, "miles", "feet")]),
        ("nine and a half stone in kilos", [("unit_converter", 9.5, "stone", "kilograms")]),
        ('translate "good night" into French', [("translate", "good night", "French")]),
        ("how do you say thank you in Welsh", [("translate", "thank you", "Welsh")]),
        ("define laconic", [("dictionary", "laconic")]),
        ("What does 'ennui' mean?", [("dictionary", "ennui")]),
        ("synonym for happy", [("dictionary", "happy")]),
        ("read https://example.org/a?b=1 for me", [("web_reader", "https://example.org/a?b=1")]),
        ("don't open example.org", []),
        ("what time is it in Tokyo", [("datetime", "now", "Tokyo")]),
        ("3pm in Lima, what time is that in Rome", [("datetime", "convert", "15:00", "Lima", "Rome")]),
        ("how many days until Christmas", [("datetime", "diff", "Christmas")]),
        ("what date is 3 weeks from now", [("datetime", "add", 3, "weeks")]),
        ("what weekday was 9 November 1989", [("datetime", "diff", "1989-11-09")]),
        ("who was Ada Lovelace?", [("wikipedia", "Ada Lovelace")]),
        ("search for used bikes in Leeds please", [("web_search", "used bikes in Leeds")]),
        ("hello!", []),
        ("write a poem about the rain in Oslo", []),
        ("remind me to call mum at 5", []),
        ("weather in Oslo and define terse", [("weather", "Oslo"), ("dictionary", "terse")]),
        (
            "5 miles in km; who was Ned Kelly; time in Oslo",
            [("unit_converter", 5, "miles", "kilometers"), ("wikipedia", "Ned Kelly"), ("datetime", "now", "Oslo")],
        ),
        ("translate bread and cheese to Basque", [("translate", "bread and cheese", "Basque")]),
        ("", []),
    ],
)
def test_the_rules_by_hand_read_queries_as_people_write_them(query, calls, catalogue):
    found = Keywords(catalogue).route(query)
    assert [(call.name, *call.arguments.values()) for call in found] == calls
    assert catalogue.fault(found) is None


def test_the_rules_give_only_calls_that_the_catalogue_allows(catalogue):
    without = Catalogue([schema for schema in catalogue.schemas if schema["function"]["name"] != "weather"])
    assert [call.name for call in Keywords(without).route("weather in Oslo and define terse")] == ["dictionary"]


def test_the_rules_answer_anything(catalogue):
    router = Keywords(catalogue)
    for query in (
        "%",
        "((((",
        "1/0",
        "5 5 5 % of",
        "99 in the evening in Oslo to Rome",
        "\u2028",
        "a" * 3000,
        "in " * 500,
        "A fortnight before Christmas",
        "5 miles km :)",
        "5 mıles to km",
        "hello in İtalian",
    ):
        assert catalogue.fault(router.route(query)) is None


def test_numbers_in_words_become_digits():
    assert digits("a hundred and forty two and six") == "142 and 6"
    assert digits("two thousand four hundred, nine and a half") == "2400, 9.5"
