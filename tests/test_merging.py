"""The merged model is the trained one: the adapter on the base as it was rounded in training."""

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from toolforge.merging import load_merged, merge
from toolforge.prompt import PromptParams
from toolforge.student import AdapterSettings, load_base, load_student, save_settings

TOKENS = torch.tensor([[1, 500, 600, 700, 800, 2]])


@pytest.fixture(scope="module")
def adapter(tiny_llama, tokenizer, tmp_path_factory):
    """An adapter folder as train leaves it, with a base of two small layers and weights of some size."""
    folder = tmp_path_factory.mktemp("adapter")
    base = tiny_llama(5, initializer_range=0.2, tie_word_embeddings=True)
    base.to(torch.bfloat16).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    base = AutoModelForCausalLM.from_pretrained(folder / "base")
    model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM"))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(params=["none", "nf4"])
def quantization(adapter, catalogue, request):
    """What the adapter's base was rounded to in training."""
    prompt = PromptParams(system="Route.", tools="none")
    save_settings(adapter, AdapterSettings(prompt=prompt, tools=catalogue.schemas, quantization=request.param))
    return request.param


def logits(model):
    with torch.inference_mode():
        return model.float()(TOKENS).logits


def test_the_merged_model_answers_as_the_adapter_on_the_base_that_it_was_trained_on(adapter, quantization, tmp_path):
    merge(adapter, tmp_path)
    merged = logits(AutoModelForCausalLM.from_pretrained(tmp_path))
    trained = {
        kind: logits(PeftModel.from_pretrained(load_base(str(adapter / "base"), kind), str(adapter)))
        for kind in ("none", "nf4")
    }
    distances = {kind: (merged - values).abs().max().item() for kind, values in trained.items()}
    other = "none" if quantization == "nf4" else "nf4"
    assert distances[quantization] < 0.01
    assert distances[other] > 10 * distances[quantization]


def test_the_merged_folder_is_an_ordinary_model_with_its_template_and_end_of_turn(
    adapter, quantization, tokenizer, tmp_path
):
    merge(adapter, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    own = AutoTokenizer.from_pretrained(tmp_path)
    assert not hasattr(model.config, "quantization_config")
    assert model.generation_config.eos_token_id == model.config.eos_token_id == tokenizer.eos_token_id
    assert not model.generation_config.do_sample
    assert own.decode(own.eos_token_id) == "<|im_end|>"
    assert own.chat_template == tokenizer.chat_template
    student = load_merged(tmp_path, load_student(adapter))
    assert student.prompt.system == "Route."
    assert not isinstance(student.model, PeftModel)
