"""The merged model is the trained one: the adapter on the base as it was rounded in training."""

import json
import subprocess
import sys

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from toolforge.errors import InputError
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


def adapted(base, folder, tokenizer, catalogue, quantization="none", **settings):
    """An adapter of some size on the base of a folder, in `folder`."""
    lora = LoraConfig(r=4, task_type="CAUSAL_LM", **{"target_modules": ["q_proj", "down_proj"], **settings})
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora)
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, mean=float("magnitude" in name), std=0.02)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    prompt = PromptParams(system="Route.", tools="none")
    save_settings(folder, AdapterSettings(prompt=prompt, tools=catalogue.schemas, quantization=quantization))


@pytest.mark.parametrize(
    "settings",
    [
        {"use_rslora": True},
        {"use_dora": True},
        {"rank_pattern": {"down_proj": 2}, "layers_to_transform": [1]},
        {"target_modules": ["q_proj", "embed_tokens"], "modules_to_save": ["lm_head"]},
    ],
    ids=str,
)
def test_a_base_in_shards_becomes_shards_with_the_weights_that_peft_gives_the_whole(
    tiny_llama, tokenizer, catalogue, tmp_path, settings
):
    base, adapter, folder = tmp_path / "base", tmp_path / "adapter", tmp_path / "merged"
    model = tiny_llama(5, initializer_range=0.2, tie_word_embeddings=False)
    model.bfloat16().save_pretrained(base, max_shard_size="2MB")
    shards = sorted(path.name for path in base.glob("*.safetensors"))
    assert len(shards) > 2
    adapted(base, adapter, tokenizer, catalogue, **settings)
    merge(adapter, folder)
    assert sorted(path.name for path in folder.glob("*.safetensors")) == shards
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(
        weight.nbytes for name in shards for weight in load_file(folder / name).values()
    )
    original = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    whole = PeftModel.from_pretrained(original, str(adapter)).merge_and_unload()
    wanted, found = whole.state_dict(), AutoModelForCausalLM.from_pretrained(folder).state_dict()
    assert set(found) == set(wanted)
    for name, weight in wanted.items():
        assert torch.equal(found[name], weight.half()), name


def test_it_takes_the_memory_of_a_shard_and_not_of_the_model(tokenizer, catalogue, tmp_path):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    config = LlamaConfig(
        vocab_size=1000, hidden_size=512, intermediate_size=2048, num_hidden_layers=16, num_attention_heads=8,
        num_key_value_heads=8, initializer_range=0.0,
    )  # fmt: skip
    LlamaForCausalLM(config).bfloat16().save_pretrained(base, max_shard_size="12MB")
    adapted(base, adapter, tokenizer, catalogue, quantization="nf4")
    size = sum(path.stat().st_size for path in base.glob("*.safetensors"))
    code = (
        "import resource, sys; from pathlib import Path; from toolforge import merging\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "before = peak(); merging.merge(Path(sys.argv[1]), Path(sys.argv[2])); print(peak() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, adapter, tmp_path / "merged"], capture_output=True, text=True, check=True
    )
    assert size > 130e6
    assert int(done.stdout) < 0.7 * size


def test_a_base_that_lacks_what_the_adapter_adds_to_or_is_gone_is_refused(tiny_llama, tokenizer, catalogue, tmp_path):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    tiny_llama(5).save_pretrained(base, max_shard_size="2MB")
    adapted(base, adapter, tokenizer, catalogue)
    last = max(base.glob("*.safetensors"))
    last.rename(tmp_path / "away.safetensors")
    with pytest.raises(InputError, match="the base's files have no weight for model.layers"):
        merge(adapter, tmp_path / "merged")
    (base / "config.json").unlink()
    with pytest.raises(InputError, match=r"student.base: .* cannot be loaded"):
        merge(adapter, tmp_path / "merged")
