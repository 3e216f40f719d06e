"""The decoder on the untuned base, under a prompt of examples so that it calls tools at all."""

import ctypes
import json
import math
import os
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_cpp import llama_cpp
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from few_shot import GGUF, ROOT, SETTINGS
from toolforge.decoding import Answer, Decoder, grammar
from toolforge.errors import InputError
from toolforge.prompt import answer, parse
from toolforge.records import Example, read_rows
from toolforge.tools import Catalogue, load_tools


@pytest.fixture(scope="module")
def authored():
    rows = [row for path in sorted((ROOT / "data" / "authored").glob("*.jsonl")) for row in read_rows(path, Example)]
    assert len(rows) > 1000
    return rows


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


def matcher(catalogue):
    found = LLMatcher(BYTES, grammar(catalogue), log_level=0)
    assert not found.is_error(), found.get_error()
    return found


def holds(catalogue, text):
    found, data = matcher(catalogue), list(text.encode())
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


def test_the_grammar_holds_every_label_as_it_is_trained(catalogue, authored):
    found = matcher(catalogue)
    for example in authored:
        text = list(answer(example.calls).encode())
        assert found.validate_tokens(text) == len(text), example


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
def test_a_schema_that_no_grammar_holds_is_refused_by_its_tools_name(decoder_of, catalogue, parameters, said):
    with pytest.raises(InputError) as error:
        decoder_of(Catalogue([*catalogue.schemas, tool("odd", **parameters)]))
    assert str(error.value).startswith("tool 'odd': no grammar can hold its parameters: ")
    assert said in str(error.value)
    assert "x-guidance" not in str(error.value)


@pytest.fixture(scope="module")
def decoder_of():
    def make(catalogue, **texts):
        return Decoder(
            GGUF, catalogue, **{"before": SETTINGS.before, "after": SETTINGS.after, "stop": SETTINGS.stop} | texts
        )

    return make


@pytest.fixture(scope="module")
def catalogue_of_the_project():
    return load_tools(ROOT / "data" / "tools.json")


@pytest.fixture(scope="module")
def decoder(decoder_of, catalogue_of_the_project):
    return decoder_of(catalogue_of_the_project)


def test_a_file_that_is_no_gguf_and_a_stop_that_is_no_token_are_said(decoder_of, catalogue, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        Decoder(tmp_path / "model.gguf", catalogue, "", "", "<|im_end|>")
    (tmp_path / "model.gguf").write_bytes(b"GGUF and no more")
    with pytest.raises(InputError, match="llama.cpp cannot load it"):
        Decoder(tmp_path / "model.gguf", catalogue, "", "", "<|im_end|>")
    with pytest.raises(InputError, match="'two words' is not one token"):
        decoder_of(catalogue, stop="two words")


@pytest.mark.slow
def test_an_answer_may_begin_with_the_blank_that_the_model_was_taught(decoder_of, decoder, catalogue_of_the_project):
    """As Mistral's do: " [" is another token than "[", so the grammar has to allow it."""
    texts = {"before": SETTINGS.before.replace("assistant\n[", "assistant\n [")}
    blank = decoder_of(catalogue_of_the_project, **texts, opening=" ")
    without = decoder_of(catalogue_of_the_project, **texts)
    for query in ("weather in Oslo", "define laconic", "thanks"):
        found = blank.answer(query)
        assert found.text == decoder.answer(query).text
        assert parse(found.text) is not None
        assert blank._start.deep_copy().compute_ff_tokens() != without._start.deep_copy().compute_ff_tokens()


@pytest.fixture(scope="module")
def exact(catalogue_of_the_project, tmp_path_factory):
    """A decoder on the same base in F16. Where activations are rounded to 8 bits, the products of one row and of many are rounded otherwise, and
    a logit differs by up to 1; here by 0.02.
    """
    gguf = tmp_path_factory.mktemp("exact") / "model.gguf"
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize = llama_cpp.LLAMA_FTYPE_MOSTLY_F16, True
    assert not llama_cpp.llama_model_quantize(os.fsencode(GGUF), os.fsencode(gguf), ctypes.byref(params))
    return Decoder(gguf, catalogue_of_the_project, SETTINGS.before, SETTINGS.after, SETTINGS.stop)


def one_by_one(decoder, query):
    """The answer by the plainest loop there is, one token a run and the mask over all logits, and by how much the closest choice was made."""
    matcher, answer, probability, narrowest = decoder._start.deep_copy(), [], 1.0, math.inf
    tokens, place = decoder._tokens(query, special=False) + decoder._suffix, len(decoder._prefix)
    while not matcher.is_accepting():
        decoder._run(tokens, place, [len(tokens) - 1])
        logits = decoder._logits(len(tokens) - 1)
        forced = matcher.compute_ff_tokens()
        allowed = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little").astype(bool)
        second, first = np.argsort(np.where(allowed[: len(logits)], logits, -np.inf))[-2:]
        token = forced[0] if forced else int(first)
        if not forced:
            shares = np.exp(logits - logits.max())
            probability *= float(shares[token] / shares.sum())
            narrowest = min(narrowest, float(logits[first] - logits[second]))
        assert matcher.consume_token(token)
        answer.append(token)
        place, tokens = place + len(tokens), [token]
        if len(answer) > decoder._answer_tokens:
            return None, narrowest
    return Answer(decoder._tokenizer.decode_str(answer), probability), narrowest


@pytest.mark.slow
def test_the_answers_are_those_of_decoding_token_by_token(exact, monkeypatch):
    monkeypatch.setattr(exact, "_answer_tokens", 60)
    queries = (ROOT / "data" / "unlabelled.txt").read_text().splitlines()[::100][:40]
    ended = 0
    for query in queries:
        plain, narrowest = one_by_one(exact, query)
        if narrowest < 0.05:
            continue
        if plain is None:
            with pytest.raises(InputError, match="does not end"):
                exact.answer(query)
        else:
            drafted = exact.answer(query)
            assert drafted.text == plain.text
            assert math.log(drafted.probability) == pytest.approx(math.log(plain.probability), rel=0.01, abs=0.01)
            ended += plain.text != "[]"
    assert ended > 20


@pytest.mark.slow
def test_a_draft_never_changes_an_answer(exact, monkeypatch):
    query = "translate good morning into German"
    plain = exact.answer(query)
    for guess in (
        "[]",
        '{"name": "weather", "arguments": {"location": "Oslo"}}]',
        "]",
        " ",
        "morning",
        '"',
        "\x00",
        "é" * 100,
    ):
        monkeypatch.setattr(exact._drafts, "after", lambda text, query, guess=guess: guess)
        drafted = exact.answer(query)
        assert drafted.text == plain.text
        assert drafted.probability == pytest.approx(plain.probability, rel=0.02)


def test_the_querys_text_is_never_read_as_the_templates_own(decoder, tokenizer):
    for text in ("<|im_end|>", "<|endoftext|>", "a<|im_start|>b"):
        assert not set(decoder._tokens(text, special=False)) & set(tokenizer.all_special_ids)


def test_queries_and_labels_have_the_tokens_of_training(decoder, tokenizer, authored):
    for example in authored:
        prompt = "<|im_start|>user\n" + example.query.strip() + SETTINGS.after
        apart = (
            decoder._tokens("<|im_start|>user\n", special=True)
            + decoder._tokens(example.query.strip(), special=False)
            + decoder._suffix
        )
        assert apart == tokenizer.encode(prompt, add_special_tokens=False), example
        label = tokenizer.encode(answer(example.calls), add_special_tokens=False)
        assert decoder._start.validate_tokens(label) == len(label), example


def test_an_answer_that_does_not_end_is_an_error(decoder, monkeypatch):
    monkeypatch.setattr(decoder, "_answer_tokens", 5)
    with pytest.raises(InputError, match="does not end within 5 tokens"):
        decoder.answer("weather in Oslo")
    monkeypatch.undo()
    assert parse(decoder.answer("weather in Oslo").text)
