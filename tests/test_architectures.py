"""Each architecture that a recipe trains, tiny and random, goes through train, eval and merge with its own kind of chat template."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from peft import LoraConfig
from transformers import AutoModelForCausalLM, Gemma2Config
from trl import SFTConfig

from bases import FAMILIES, save_base
from searching import constrained
from toolforge import merging, student
from toolforge.answering import generate, grammar_of
from toolforge.errors import InputError
from toolforge.packing import collate
from toolforge.prompt import PromptParams, answer, render
from toolforge.records import Example, ToolCall, write_jsonl
from toolforge.stages import eval as eval_stage
from toolforge.stages import train as train_stage
from toolforge.stages.train import dataset, train
from toolforge.student import AdapterSettings, load_student, save_settings

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow
PROMPT = PromptParams(system="Route.", tools="none")
QUERIES = [
    "do I need an umbrella in Tromsø?",
    "thanks!",
    "weather in Rome " * 6,
    "define laconic",
    "2+2",
    "and in Oslo?",
]
EXAMPLES = [
    Example(
        id=str(n),
        query=query,
        calls=[] if n % 2 else [ToolCall(name="weather", arguments={"location": "Rome"})],
        source="authored",
        group=str(n),
    )
    for n, query in enumerate(QUERIES)
]
COPIED = ["translate.text", "web_reader.url"]
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return FAMILIES[request.param]


@pytest.fixture(scope="module")
def trained(family, tmp_path_factory, catalogue):
    """The base's folder, the trainer after two steps, and the adapter's folder."""
    folder = tmp_path_factory.mktemp("base")
    save_base(family, [*QUERIES, *(answer(example.calls) for example in EXAMPLES)], folder)
    adapter = folder / "adapter"
    tokenizer = student.load_tokenizer(str(folder))
    rows = dataset(EXAMPLES, [PROMPT] * len(EXAMPLES), catalogue)
    config = SFTConfig(
        output_dir=str(folder / "checkpoints"), use_cpu=True, bf16=student.precision() == torch.bfloat16, report_to="none", completion_only_loss=True,
        remove_unused_columns=False, max_steps=2, per_device_train_batch_size=3, learning_rate=0.02, logging_steps=1,
        max_length=None, activation_checkpointing=False, dataloader_pin_memory=False,
    )  # fmt: skip
    lora = LoraConfig(r=4, target_modules=TARGETS, task_type="CAUSAL_LM")
    model = student.load_base(str(folder), "nf4")
    with pytest.MonkeyPatch.context() as patch:
        # The compiler's minute is spent on a kind of layer once: Qwen2's and Mistral's are Llama's.
        if family.config in ("Qwen2Config", "MistralConfig"):
            patch.setattr(train_stage, "can_compile", lambda: False)
        trainer = train(model, tokenizer, rows, rows, lora, config)
    trainer.model.save_pretrained(str(adapter))
    tokenizer.save_pretrained(str(adapter))
    save_settings(adapter, AdapterSettings(prompt=PROMPT, tools=catalogue.schemas, quantization="nf4"))
    return folder, trainer, adapter


def test_it_is_trained_on_the_prompt_that_is_served_then_the_answer_and_the_end_of_turn(family, trained, catalogue):
    folder, trainer, _ = trained
    tokenizer = student.load_tokenizer(str(folder))
    assert trainer.state.global_step == 2
    rows = {tuple(row["input_ids"]): row["labels"] for row in trainer.train_dataset}
    for example in EXAMPLES:
        served = tokenizer.apply_chat_template(
            **render(example.query, PROMPT, catalogue), add_generation_prompt=True, return_dict=False
        )
        text = tokenizer.decode(served)
        assert "Route." in text and example.query.strip() in text
        assert text.count(family.bos or "no bos") == (family.bos is not None)
        (ids,) = [ids for ids in rows if list(ids[: len(served)]) == served]
        said = rows[ids][len(served) :]
        assert rows[ids][: len(served)] == [-100] * len(served)
        assert tokenizer.decode(said).lstrip().startswith(answer(example.calls) + family.end)
        assert tokenizer.decode(tokenizer.eos_token_id) == family.end


def test_the_loss_is_that_of_the_bases_own_forward(trained):
    _, trainer, adapter = trained
    trainer.model.eval()
    rows = [trainer.train_dataset[n] for n in range(len(EXAMPLES))]
    with torch.no_grad():
        packed = trainer.compute_loss(trainer.model, collate(rows)).item()
        own = load_student(adapter).model.float()
        logits = [own(torch.tensor([row["input_ids"]])).logits[0, :-1].float() for row in rows]
    labels = torch.tensor([label for row in rows for label in row["labels"][1:]])
    assert packed == pytest.approx(torch.nn.functional.cross_entropy(torch.cat(logits), labels).item(), rel=0.01)


def test_answers_are_those_of_the_librarys_greedy_search_under_the_grammar(trained):
    model = load_student(trained[2])
    model.model.float()
    grammar = grammar_of(model, COPIED)
    answers = generate(model, grammar, QUERIES, 4, 24)
    for query, found in zip(QUERIES, answers, strict=True):
        tokens, *_ = constrained(model, grammar, query, 24)
        assert found.text == model.tokenizer.decode(tokens, skip_special_tokens=True).strip()


def test_merged_it_answers_as_the_adapter(family, trained, tmp_path):
    model = load_student(trained[2])
    model.model.float()
    merging.merge(trained[2], tmp_path)
    merged = merging.load_merged(tmp_path, model)
    merged.model.float()
    grammar = grammar_of(model, COPIED)
    answers, others = ([one.text for one in generate(each, grammar, QUERIES, 4, 24)] for each in (model, merged))
    decided = 0
    for query, found, other in zip(QUERIES, answers, others, strict=True):
        tokens, _, narrowest = constrained(model, grammar, query, 24)
        asked = model.tokenizer.apply_chat_template(
            **render(query, PROMPT, model.catalogue), add_generation_prompt=True, return_dict=False
        )
        ids = torch.tensor([[*asked, *tokens]])
        with torch.no_grad():
            one, two = (each.model(ids).logits[0] for each in (model, merged))
            with model.model.disable_adapter():
                bare = model.model(ids).logits[0]
        differ = (one - two).abs().max()
        # float16 holds 11 bits of a merged weight: 0.013 was the most that was seen, of a window's Mistral.
        assert differ < 0.03 * one.std()
        assert (one - bare).abs().max() > 0.3 * one.std()
        # In a random model the two best words may be nearer than that; where none are, the same is said.
        if narrowest > 2 * differ:
            assert other == found
            decided += 1
    assert decided
    assert merged.tokenizer.eos_token == family.end
    assert merged.model.generation_config.eos_token_id == merged.tokenizer.convert_tokens_to_ids(family.end)


@pytest.fixture
def stages(tmp_path, monkeypatch, catalogue):
    """A folder with the shipped params.yaml for a tiny Gemma, rows, and a way to run a stage's main there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train_stage, "can_compile", lambda: False)
    save_base(FAMILIES["gemma"], QUERIES, tmp_path / "gemma")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["student"]["base"] = "./gemma"
    params["lora"]["layers_to_transform"] = None
    params["train"].update(max_steps=2, eval_steps=1, save_steps=1, warmup_steps=0)
    params["eval"]["max_new_tokens"] = 8
    params["tracking"]["wandb"] = "disabled"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    write_jsonl(tmp_path / "rows.jsonl", EXAMPLES)

    def run(stage, *arguments):
        monkeypatch.setattr("sys.argv", [stage.__name__, *map(str, arguments)])
        stage.main()

    return run


SHARED = ROOT / "data" / "tools.json", ROOT / "data" / "systems.yaml"
TRAIN = (*SHARED, "rows.jsonl", "rows.jsonl", "adapter", "checkpoints", "loss.csv", "train.json")


def test_the_stages_run_on_another_architecture_as_it_lies_in_a_folder(stages, tmp_path):
    stages(train_stage, *TRAIN)
    assert json.loads((tmp_path / "train.json").read_text())["steps"] == 2
    stages(eval_stage, "adapter", "rows.jsonl", "out")
    scores = json.loads((tmp_path / "out" / "eval.json").read_text())
    assert scores["n"] == len(QUERIES)
    merging.merge(tmp_path / "adapter", tmp_path / "merged")
    assert student.load_config(str(tmp_path / "merged")).model_type == "gemma3_text"


def test_out_of_memory_ends_the_stage_in_one_line_that_names_the_settings(stages, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nOf the allocated memory")

    monkeypatch.setattr(torch.nn.Embedding, "forward", full)
    with pytest.raises(InputError, match="^the GPU's memory is too small; lower train.max_length, train.per_device"):
        stages(train_stage, *TRAIN)


def test_a_base_that_soft_caps_is_refused_in_one_line():
    config = Gemma2Config(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1, head_dim=8)
    with pytest.raises(InputError, match="^student.base: gemma2 models have attn_logit_softcapping"):
        train(
            AutoModelForCausalLM.from_config(config),
            None,
            None,
            None,
            LoraConfig(),
            SFTConfig(use_cpu=True, bf16=False),
        )
