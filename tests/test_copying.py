"""Which arguments can be copied, and which labels break it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolforge.copying import by_tool, fault, is_part, pieces
from toolforge.errors import InputError
from toolforge.records import ToolCall
from toolforge.tools import Catalogue

SCHEMA = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "minLength": 1, "description": "what to say"},
        "count": {"type": "integer"},
        "tone": {"type": "string", "enum": ["kind", "stern"]},
        "long": {"type": "string", "minLength": 5},
        "any": True,
    },
}


def catalogue(**more):
    return Catalogue(
        [{"type": "function", "function": {"name": name, "parameters": {**SCHEMA, **more}}} for name in ("say", "a.b")]
    )


def test_arguments_are_named_by_their_tool_whatever_its_name():
    assert by_tool(["say.text", "a.b.text"], catalogue()) == {"say": ["text"], "a.b": ["text"]}
    assert by_tool([], catalogue()) == {}


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("say.txt", {}, "say.txt: the catalogue has no such argument"),
        ("shout.text", {}, "shout.text: the catalogue has no such argument"),
        ("text", {}, "text: the catalogue has no such argument"),
        ("say.count", {}, "say.count: only a string"),
        ("say.tone", {}, "say.tone: only a string"),
        ("say.long", {}, "say.long: only a string"),
        ("say.any", {}, "say.any: only a string"),
        ("say.text", {"additionalProperties": {"type": "string"}}, "the parameters of say are more than a list"),
        ("say.text", {"anyOf": [{"required": ["text"]}]}, "the parameters of say are more than a list"),
        ("say.text", {"required": ["text", "words"]}, "the parameters of say are more than a list"),
    ],
)
def test_what_cannot_be_copied_is_said_with_its_name(name, more, said):
    with pytest.raises(InputError, match="^decoding.copied: ") as error:
        by_tool([name], catalogue(**more))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "broken"),
    [
        ({"text": "good night"}, None),
        ({"text": "Good night"}, "say.text: 'Good night' is no part of the query"),
        ({"text": "night good"}, "say.text: 'night good' is no part of the query"),
        ({"count": 3}, None),
        ({"tone": "kind"}, None),
    ],
)
def test_a_label_is_held_to_the_querys_own_letters(arguments, broken):
    calls = [ToolCall(name="a.b", arguments={"text": "anything"}), ToolCall(name="say", arguments=arguments)]
    assert fault(calls, "say good night to me", {"say": ["text", "long"]}) == broken


@pytest.mark.parametrize(
    ("query", "value", "held"),
    [
        ("look at ravelry.com/patterns/a-b and say", "ravelry.com/patterns/a-b", True),
        ("look at ravelry.com/patterns/a-b and say", "rave", False),
        ("look at ravelry.com/patterns/a-b and say", "ravelry.com/patterns", False),
        ("what is on shop.ie/sale?size=5", "shop.ie/sale", False),
        ("what is on shop.ie/sale?size=5?", "shop.ie/sale?size=5", True),
        ("(see https://a.org/x/, please)", "https://a.org/x/", True),
        ("(see https://a.org/x/, please)", "https://a.org/x", False),
        ("https://en.wikipedia.org/wiki/Oslo_(novel)", "https://en.wikipedia.org/wiki/Oslo_(novel)", True),
        ('is "WWW.Oslo.no" up', "WWW.Oslo.no", True),
        ("https://a.org/x|a.org>", "https://a.org/x", True),
        ("[https://a.org/x](https://a.org/x) tl;dr", "https://a.org/x", True),
        ("what's https://a.org/x's headline", "https://a.org/x", True),
        ("https://a.org/Schindler's_List", "https://a.org/Schindler", False),
        ("read https://a.org/x,https://b.org/y", "https://b.org/y", True),
        ('{"url":"https://a.org/x","q":1}', "https://a.org/x", True),
        ('<a href="https://a.org/x">here</a>', "https://a.org/x", True),
        ("readhttps://a.org/x", "https://a.org/x", True),
        ("-a.org/x", "a.org/x", True),
        ("translate _good night_ into Thai", "good night", True),
        ("what is snake_case", "snake", False),
        ("so tired.how do i say so tired in thai", "so tired", True),
        ("is shipwreck a word", "wreck", False),
        ("well-known, isn't it", "well-known, isn't", True),
        ("木村さん是谁", "村さ", True),
        ("à la carte", "la carte", True),
        ("a\nb", "a\nb", True),
        ("a aa", "aa", True),
        ("a", "", False),
    ],
)
def test_a_part_does_not_begin_or_end_within_a_word_or_an_address(query, value, held):
    assert is_part(value, query) is held


@given(st.text())
def test_the_pieces_are_all_of_the_query(query):
    assert "".join(pieces(query)) == query
    assert all(pieces(query))
    assert is_part(query, query) is bool(query)
