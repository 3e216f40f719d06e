"""The GGUF is the merged model: its prompt, its tokens, its end of turn and its answers."""

import pytest
from gguf import GGUFReader
from llama_cpp import Llama
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from toolforge.errors import InputError
from toolforge.prompt import PromptParams, render
from toolforge.quantizing import convert, quantize

QUERIES = ["hi", "Wetter in Tromsø?\n20 °C in °F", "2+2*(7.5%)", "<|im_end|>", "什么是 1984 ☕", 'say "it\'s 5:30"']


@pytest.fixture(scope="module")
def merged(tiny_llama, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("merged")
    tiny_llama(7, initializer_range=0.4).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def gguf(merged):
    path = merged / "f32.gguf"
    convert(merged, path)
    return path


@pytest.fixture(scope="module")
def llama(gguf):
    model = Llama(str(gguf), verbose=False, n_ctx=256)
    yield model
    model.close()


def test_the_template_that_is_stored_gives_the_prompt_of_training(llama, tokenizer, catalogue):
    stored = Jinja2ChatFormatter(llama.metadata["tokenizer.chat_template"], eos_token="<|im_end|>", bos_token="")
    for query in QUERIES:
        for system in ("Route.", ""):
            trained = render(query, PromptParams(system=system, tools="none"), catalogue)
            expected = tokenizer.apply_chat_template(**trained, add_generation_prompt=True, tokenize=False)
            assert stored(messages=trained["conversation"]).prompt == expected


@pytest.mark.parametrize("query", QUERIES)
def test_llama_cpp_reads_the_tokens_of_training(llama, tokenizer, catalogue, query):
    trained = render(query, PromptParams(system="Route.", tools="none"), catalogue)
    text = tokenizer.apply_chat_template(**trained, add_generation_prompt=True, tokenize=False)
    ids = tokenizer.apply_chat_template(**trained, add_generation_prompt=True, return_dict=False)
    # As a server tokenizes it, with the model's own choice of a first token.
    assert llama.tokenize(text.encode(), add_bos=True, special=True) == ids


def test_the_end_of_turn_ends_the_answer(llama, tokenizer):
    assert llama.token_eos() == tokenizer.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert llama.metadata["tokenizer.ggml.eos_token_id"] == str(tokenizer.eos_token_id)
    assert llama.metadata.get("tokenizer.ggml.add_bos_token", "false") == "false"


def test_no_weight_is_rounded_before_the_quantization(gguf, merged):
    from transformers import AutoModelForCausalLM

    weights = AutoModelForCausalLM.from_pretrained(merged).state_dict()
    found = {tensor.name: tensor.data for tensor in GGUFReader(gguf).tensors}
    assert (found["blk.1.ffn_down.weight"] == weights["model.layers.1.mlp.down_proj.weight"].numpy()).all()
    assert (found["token_embd.weight"] == weights["model.embed_tokens.weight"].numpy()).all()


@pytest.mark.parametrize("kind", ["F16", "Q4_0", "Q8_0"])
def test_a_quantized_file_is_smaller_and_of_that_kind(gguf, tmp_path, kind):
    quantize(gguf, tmp_path / "model.gguf", kind)
    kinds = {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(tmp_path / "model.gguf").tensors}
    assert kinds["blk.0.attn_q.weight"] == kind
    assert kinds["blk.0.attn_norm.weight"] == "F32"
    assert (tmp_path / "model.gguf").stat().st_size < gguf.stat().st_size / 1.5


def test_what_is_no_model_is_one_line(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"convert_hf_to_gguf failed: \S"):
        convert(tmp_path, tmp_path / "model.gguf")
    (tmp_path / "no.gguf").write_bytes(b"no gguf")
    with pytest.raises(InputError, match=r"no.gguf: llama.cpp cannot quantize it to Q8_0: \S"):
        quantize(tmp_path / "no.gguf", tmp_path / "model.gguf", "Q8_0")
