"""What the grammar holds and what it does not, byte by byte."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from llguidance import LLTokenizer, TokenizerWrapper

from labels import matchers
from toolforge import copying
from toolforge.errors import InputError
from toolforge.grammar import Grammar, check
from toolforge.prompt import answer, parse
from toolforge.records import Example, read_rows
from toolforge.tools import Catalogue

ROOT = Path(__file__).parent.parent


def tool(name="a", **parameters):
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object", **parameters}}}


class Bytes:
    """A vocabulary of the 256 bytes and an end."""

    eos_token_id, bos_token_id = 256, None
    tokens = (*(bytes([byte]) for byte in range(256)), b"<end>")
    special_token_ids = (256,)

    def __call__(self, text):
        return list(text if isinstance(text, bytes) else text.encode())


BYTES = LLTokenizer(TokenizerWrapper(Bytes()))


def matcher(catalogue, query="", copied=()):
    return Grammar(BYTES, catalogue, copied).matcher(query)


def holds(catalogue, text, query="", copied=()):
    found, data = matcher(catalogue, query, copied), list(text.encode())
    return found.try_consume_tokens(data) == len(data) and found.is_accepting()


def walk(found, seed, length=300):
    """A random text that the grammar holds, or None where it does not end; after a while what closes goes first."""
    chance, taken = random.Random(seed), []
    while not found.is_accepting():
        mask = np.unpackbits(np.frombuffer(found.compute_bitmask(), np.uint8), bitorder="little", count=257)
        allowed = mask.nonzero()[0].tolist()
        closing = [byte for byte in b'"]}' if byte in allowed] if len(taken) > length or chance.random() < 0.3 else []
        token = closing[0] if closing else chance.choice(allowed)
        assert found.consume_token(token)
        taken.append(token)
        if len(taken) > 2 * length:
            return None
    return bytes(taken).decode()


STRINGS = st.one_of(
    st.just({"type": "string"}),
    st.builds(lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more}, st.integers(0, 3), st.integers(0, 20)),
    st.builds(lambda values: {"type": "string", "enum": values}, st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, unique=True)),
)  # fmt: skip
NUMBERS = st.builds(
    lambda kind, low, more: {"type": kind, "minimum": low, "maximum": low + more},
    st.sampled_from(["integer", "number"]), st.integers(-1000, 1000), st.integers(0, 10_000),
)  # fmt: skip


@st.composite
def objects(draw, values):
    properties = draw(
        st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), values, max_size=4)
    )
    required = draw(st.lists(st.sampled_from(list(properties)), unique=True)) if properties else []
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


VALUES = st.recursive(
    st.one_of(STRINGS, NUMBERS, st.just({"type": "boolean"}), st.just({"type": "integer"}), st.just({"type": "null"})),
    lambda inner: st.one_of(
        st.builds(lambda items, low: {"type": "array", "items": items, "minItems": low, "maxItems": low + 2}, inner, st.integers(0, 2)),
        st.builds(lambda one, other: {"anyOf": [one, other]}, inner, inner),
        objects(inner),
    ),
    max_leaves=4,
)  # fmt: skip


@st.composite
def catalogues(draw):
    names = draw(
        st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=3, unique=True)
    )
    return Catalogue(
        [tool(name, **draw(objects(VALUES))) for name in names if name not in ("no_tool", "multi_tool")] or [tool()]
    )


@settings(deadline=None, max_examples=100)
@given(catalogues(), st.integers())
def test_all_that_the_grammar_holds_keeps_to_the_catalogue(catalogue, seed):
    text = walk(matcher(catalogue), seed)
    if text is not None:
        calls = parse(text)
        assert calls is not None
        assert catalogue.fault(calls) is None


@pytest.mark.parametrize(
    ("parameters", "arguments", "held"),
    [
        ({"properties": {"a": {"type": "string", "minLength": 1}}}, {"a": ""}, False),
        ({"properties": {"a": {"type": "string", "minLength": 1}}}, {"a": "é"}, True),
        ({"properties": {"a": {"type": "string"}}}, {"a": 'a "quote", a \\, a\ttab and 漢字'}, True),
        ({"properties": {"a": {"enum": ["x", 1, None]}}}, {"a": None}, True),
        ({"properties": {"a": {"enum": ["x", 1, None]}}}, {"a": "y"}, False),
        ({"properties": {"a": {"enum": ["0\x1f"]}}}, {"a": "0\x1f"}, True),
        ({"properties": {"a": {"enum": ["0\x1f"]}}}, {"a": "0"}, False),
        ({"properties": {"a": {"type": "integer"}}}, {"a": 1.5}, False),
        ({"properties": {"a": {"type": "boolean"}, "b": {"type": "boolean"}}, "required": ["b"]}, {"b": True}, True),
        ({"properties": {"a": {"type": "boolean"}}, "required": ["a"]}, {}, False),
        ({"properties": {"a": {"type": "array", "items": {"type": "integer"}, "maxItems": 2}}}, {"a": [1, 2, 3]}, False),
        ({"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"type": "integer"}}}, {"a": 7}, True),
        ({"properties": {"a": {"type": "integer"}}}, {"b": 7}, False),
        ({}, {}, True),
        ({}, {"b": 7}, False),
        ({"additionalProperties": {"type": "integer"}}, {"b": 7}, True),
    ],
)  # fmt: skip
def test_the_grammar_holds_a_tools_arguments(parameters, arguments, held):
    calls = json.dumps([{"name": "a", "arguments": arguments}], ensure_ascii=False)
    assert holds(Catalogue([tool(**parameters)]), calls) is held


def test_the_grammar_holds_eight_calls_and_not_nine(catalogue):
    call = {"name": "weather", "arguments": {"location": "Oslo"}}
    assert holds(catalogue, json.dumps([call] * 8))
    assert not holds(catalogue, json.dumps([call] * 9))


def test_the_grammar_holds_every_label_as_it_is_trained(catalogue):
    copied = yaml.safe_load((ROOT / "params.yaml").read_text())["decoding"]["copied"]
    rows = [row for path in sorted((ROOT / "data" / "authored").glob("*.jsonl")) for row in read_rows(path, Example)]
    assert len(rows) > 1000
    matcher_of = matchers(Grammar(BYTES, catalogue, copied), catalogue, copied)
    for example in rows:
        text = list(answer(example.calls).encode())
        assert matcher_of(example).validate_tokens(text) == len(text), example


def test_no_escape_spells_half_a_surrogate_pair(catalogue):
    assert not holds(catalogue, '[{"name": "weather", "arguments": {"location": "\\ud800"}}]')


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"properties": {"a": {"type": "array", "uniqueItems": True}}}, 'Unimplemented keys: ["uniqueItems"]'),
        ({"properties": {"a": {"not": {"type": "string"}}}}, 'Unimplemented keys: ["not"]'),
        ({"properties": {"a": {"type": "string", "pattern": "(?=a)b"}}}, "look-around"),
        ({"properties": {"a": {"type": "string", "format": "color"}}}, "Unknown format: color"),
    ],
)
def test_a_schema_that_no_grammar_holds_is_refused_by_its_tools_name(catalogue, parameters, said):
    with pytest.raises(InputError) as error:
        Grammar(BYTES, Catalogue([*catalogue.schemas, tool("odd", **parameters)]))
    assert str(error.value).startswith("tool 'odd': no grammar can hold its parameters: ")
    assert said in str(error.value)
    assert "x-guidance" not in str(error.value)


def test_what_no_answer_can_be_held_to_is_refused_without_a_model(catalogue):
    check(catalogue, ["translate.text"])
    with pytest.raises(InputError, match="^tool 'odd': no grammar can hold its parameters: "):
        check(Catalogue([*catalogue.schemas, tool("odd", properties={"a": {"not": {}}})]), [])
    with pytest.raises(InputError, match="^decoding.copied: translate.words: the catalogue has no such argument"):
        check(catalogue, ["translate.words"])


SAY = {
    "properties": {
        "formal": {"type": "boolean"},
        "text": {"type": "string", "minLength": 1},
        "to_lang": {"type": "string", "minLength": 1},
        "times": {"type": "integer"},
    },
    "required": ["text", "to_lang"],
    "additionalProperties": False,
}
QUERY = 'how do you say "thank you, 木村さん" \\o/ in Japanese'


@pytest.mark.parametrize(
    ("arguments", "held"),
    [
        ({"text": "thank you", "to_lang": "Japanese"}, True),
        ({"text": '"thank you, 木村さん" \\o/', "to_lang": "Japanese"}, True),
        ({"text": "村さ", "to_lang": "Japanese"}, True),
        ({"text": QUERY, "to_lang": "Klingon"}, True),
        ({"formal": True, "text": "thank you", "to_lang": "Japanese", "times": 2}, True),
        ({"text": "thank you", "to_lang": "Japanese", "times": 2}, True),
        ({"text": "thank  you", "to_lang": "Japanese"}, False),
        ({"text": "hank you", "to_lang": "Japanese"}, False),
        ({"text": "Thank you", "to_lang": "Japanese"}, False),
        ({"text": "thank you Japanese", "to_lang": "Japanese"}, False),
        ({"text": "", "to_lang": "Japanese"}, False),
        ({"text": "thank you", "to_lang": ""}, False),
        ({"text": "thank you"}, False),
        ({"to_lang": "Japanese"}, False),
        ({"to_lang": "Japanese", "text": "thank you"}, False),
        ({"text": "thank you", "to_lang": "Japanese", "loudly": True}, False),
    ],
)
def test_a_copied_argument_is_a_part_of_the_query_and_its_call_as_the_schema_has_it(arguments, held):
    calls = json.dumps([{"name": "say", "arguments": arguments}] * 2, ensure_ascii=False)
    assert holds(Catalogue([tool("say", **SAY)]), calls, QUERY, ["say.text"]) is held


def test_beside_a_copied_argument_there_may_be_any_value_and_a_schema_that_no_grammar_holds_is_named():
    free = tool("say", properties={"text": {"type": "string"}, "any": True})
    calls = '[{"name": "say", "arguments": {"text": "night", "any": [1]}}]'
    assert holds(Catalogue([free]), calls, "good night", ["say.text"])
    for schema in (False, {"$ref": "#/properties/text"}):
        odd = tool("say", properties={"text": {"type": "string"}, "odd": schema})
        with pytest.raises(InputError, match="^tool 'say': no grammar can hold its parameters: "):
            check(Catalogue([odd]), ["say.text"])


def test_what_is_not_copied_is_as_free_as_without(catalogue):
    calls = '[{"name": "wikipedia", "arguments": {"query": "Ada Lovelace"}}]'
    assert holds(catalogue, calls, "who wrote the first program", ["translate.text", "web_reader.url"])


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.sampled_from(["a", "b", ".", "/", "-", "_", " ", '"', "\\", "\n", "https://", "'s", "é", "漢"]), min_size=1, max_size=12),
    st.data(),
)  # fmt: skip
def test_the_grammar_and_the_labels_are_held_to_the_same_parts(texts, data):
    query = "".join(texts)
    start = data.draw(st.integers(0, len(query) - 1))
    part = query[start : data.draw(st.integers(start + 1, len(query)))]
    calls = json.dumps([{"name": "say", "arguments": {"text": part, "to_lang": "Thai"}}], ensure_ascii=False)
    held = holds(Catalogue([tool("say", **SAY)]), calls, query, ["say.text"])
    assert held is copying.is_part(part, query)


@settings(deadline=None, max_examples=100)
@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.lists(st.sampled_from(list(SAY["properties"])), unique=True),
    st.integers(),
)
def test_whatever_the_query_holds_its_copies_are_parts_of_it(query, required, seed):
    catalogue = Catalogue([tool("say", **{**SAY, "required": required})])
    text = walk(matcher(catalogue, query, ["say.text"]), seed)
    assume(text is not None)
    calls = parse(text)
    assert calls is not None
    assert catalogue.fault(calls) is None
    assert copying.fault(calls, query, {"say": ["text"]}) is None
