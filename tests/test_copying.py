"""Which arguments can be copied, and which labels break it."""

import pytest

from toolforge.copying import by_tool, fault
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
        ("say.text", {"additionalProperties": {"type": "string"}}, "the parameters of say are more than a list"),
        ("say.text", {"anyOf": [{"required": ["text"]}]}, "the parameters of say are more than a list"),
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
