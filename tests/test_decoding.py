"""The decoder on the untuned base, under a prompt of examples so that it calls tools at all."""

import ctypes
import math
import os

import numpy as np
import pytest
from llama_cpp import llama_cpp

from few_shot import GGUF, PRIOR, ROOT, SETTINGS
from labels import matchers
from toolforge.decoding import Answer, Decoder
from toolforge.errors import InputError
from toolforge.prompt import answer, parse
from toolforge.records import Example, read_rows
from toolforge.tools import load_tools


@pytest.fixture(scope="module")
def authored():
    rows = [row for path in sorted((ROOT / "data" / "authored").glob("*.jsonl")) for row in read_rows(path, Example)]
    assert len(rows) > 1000
    return rows


@pytest.fixture(scope="module")
def decoder_of():
    def make(catalogue, **texts):
        return Decoder(
            GGUF,
            catalogue,
            **{"before": SETTINGS.before, "after": SETTINGS.after, "stop": SETTINGS.stop, "copied": SETTINGS.copied}
            | texts,
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
        Decoder(tmp_path / "model.gguf", catalogue, "", "", "<|im_end|>", [])
    (tmp_path / "model.gguf").write_bytes(b"GGUF and no more")
    with pytest.raises(InputError, match="llama.cpp cannot load it"):
        Decoder(tmp_path / "model.gguf", catalogue, "", "", "<|im_end|>", [])
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
        assert blank._grammar.matcher(query).compute_ff_tokens() != without._grammar.matcher(query).compute_ff_tokens()


@pytest.fixture(scope="module")
def exact(catalogue_of_the_project, tmp_path_factory):
    """A decoder on the same base in F16. Where activations are rounded to 8 bits, the products of one row and of many are rounded otherwise, and
    a logit differs by up to 1; here by 0.02.
    """
    gguf = tmp_path_factory.mktemp("exact") / "model.gguf"
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize = llama_cpp.LLAMA_FTYPE_MOSTLY_F16, True
    assert not llama_cpp.llama_model_quantize(os.fsencode(GGUF), os.fsencode(gguf), ctypes.byref(params))
    # The prior is right for some of the queries, and wrong for the rest.
    texts = (SETTINGS.before, SETTINGS.after, SETTINGS.stop, SETTINGS.copied)
    return Decoder(gguf, catalogue_of_the_project, *texts, prior=PRIOR)


def one_by_one(decoder, query):
    """The answer by the plainest loop there is, one token a run and the mask over all logits, and by how much the closest choice was made."""
    matcher, answer, probability, narrowest = decoder._grammar.matcher(query), [], 1.0, math.inf
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


def test_queries_and_labels_have_the_tokens_of_training(decoder, catalogue_of_the_project, tokenizer, authored):
    matcher_of = matchers(decoder._grammar, catalogue_of_the_project, SETTINGS.copied)
    for example in authored:
        prompt = "<|im_start|>user\n" + example.query.strip() + SETTINGS.after
        apart = (
            decoder._tokens("<|im_start|>user\n", special=True)
            + decoder._tokens(example.query.strip(), special=False)
            + decoder._suffix
        )
        assert apart == tokenizer.encode(prompt, add_special_tokens=False), example
        label = tokenizer.encode(answer(example.calls), add_special_tokens=False)
        assert matcher_of(example).validate_tokens(label) == len(label), example


def test_an_answer_that_does_not_end_is_an_error(decoder, monkeypatch):
    monkeypatch.setattr(decoder, "_answer_tokens", 5)
    with pytest.raises(InputError, match="does not end within 5 tokens"):
        decoder.answer("weather in Oslo")
    monkeypatch.undo()
    assert parse(decoder.answer("weather in Oslo").text)
