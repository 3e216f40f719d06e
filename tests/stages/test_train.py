"""The train stage's own promises, on the real tokenizer and a tiny model."""

import pytest
import torch
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

from toolforge import attention, packing
from toolforge.device import Device, plan
from toolforge.errors import InputError
from toolforge.memory import TARGETS, Base, Recipe
from toolforge.prompt import PromptParams, answer, render
from toolforge.records import Example, ToolCall
from toolforge.settings import recipe, settle
from toolforge.stages.train import _code, curves, dataset, train
from toolforge.trainer import CompletionTrainer, can_compile

pytestmark = pytest.mark.slow
PROMPT = PromptParams(system="Route the query to tools.", tools="none")
OSLO = [ToolCall(name="weather", arguments={"location": "Tromsø"})]
EXAMPLES = [
    Example(id=str(n), query=query, calls=calls, source="authored", group=str(n))
    for n, (query, calls) in enumerate(
        [("do I need an umbrella in Tromsø?", OSLO), ("thanks!", []), ("weather\nTromsø " * 9, OSLO)]
    )
]


def trainer(kind, tiny_llama, tokenizer, folder, catalogue):
    model = tiny_llama(0)
    own = kind is CompletionTrainer
    if own:
        model.set_attn_implementation(attention.PACKED)
    return kind(
        model=model,
        args=SFTConfig(
            output_dir=str(folder),
            use_cpu=True,
            bf16=False,
            report_to="none",
            completion_only_loss=True,
            remove_unused_columns=not own,
        ),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM"),
        train_dataset=dataset(EXAMPLES, [PROMPT] * len(EXAMPLES), catalogue),
        **({"data_collator": packing.collate} if own else {}),
    )


def test_the_loss_is_trls_on_the_same_rows(tiny_llama, tokenizer, tmp_path, catalogue):
    losses = []
    for kind in (SFTTrainer, CompletionTrainer):
        made = trainer(kind, tiny_llama, tokenizer, tmp_path, catalogue)
        batch = made.data_collator([made.train_dataset[n] for n in range(3)])
        with torch.no_grad():
            losses.append(made.compute_loss(made.model, batch).item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.skipif(not can_compile(), reason="torch.compile needs Python's headers")
def test_compiled_it_learns_the_same(tiny_llama, tokenizer, tmp_path, catalogue):
    learned = []
    for compiled in (False, True):
        made = trainer(CompletionTrainer, tiny_llama, tokenizer, tmp_path, catalogue)
        if compiled:
            made.compile()
        for rows in ([0, 1, 2], [2, 1]):
            batch = made.data_collator([made.train_dataset[n] for n in rows])
            loss = made.compute_loss(made.model, batch)
            loss.backward()
        gradients = [p.grad for p in made.model.parameters() if p.grad is not None]
        assert len(gradients) == 4
        learned.append([loss.detach(), *gradients])
    for plain, fused in zip(*learned, strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-3, atol=1e-5)


def test_what_is_trained_is_the_prompt_that_is_served_then_the_answer_and_the_end_of_turn(
    tiny_llama, tokenizer, tmp_path, catalogue
):
    made = trainer(CompletionTrainer, tiny_llama, tokenizer, tmp_path, catalogue)
    rows = {tuple(row["input_ids"]): row["labels"] for row in made.train_dataset}
    assert len(rows) == 3
    for example in EXAMPLES:
        served = tokenizer.apply_chat_template(
            **render(example.query, PROMPT, catalogue), add_generation_prompt=True, return_dict=False
        )
        (ids,) = [ids for ids in rows if list(ids[: len(served)]) == served]
        labels = rows[ids]
        assert labels[: len(served)] == [-100] * len(served)
        said = labels[len(served) :]
        assert -100 not in said
        assert tokenizer.decode(said[: said.index(tokenizer.eos_token_id)]) == answer(example.calls)


def test_with_activation_checkpointing_it_learns_the_same(tiny_llama, tokenizer, tmp_path, catalogue):
    learned = []
    for checkpointing in (False, True):
        made = trainer(CompletionTrainer, tiny_llama, tokenizer, tmp_path, catalogue)
        made.model.train()
        if checkpointing:
            made.model.gradient_checkpointing_enable()
            made.model.enable_input_require_grads()
        made.compute_loss(made.model, made.data_collator([made.train_dataset[n] for n in range(3)])).backward()
        learned.append([p.grad for p in made.model.parameters() if p.grad is not None])
    assert len(learned[0]) == 4
    torch.testing.assert_close(learned[1], learned[0], rtol=1e-4, atol=1e-6)


RECIPE = Recipe(nf4=True, rank=64, targets=TARGETS, batch=16, length=512)
QWEN7B = Base(152064, 3584, 18944, 28, 28, 4, 128, False)


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_a_plan_for_a_cpu_changes_no_setting_and_one_for_a_small_gpu_keeps_the_rows_of_a_step(tmp_path, kind):
    config = SFTConfig(
        str(tmp_path), use_cpu=True, bf16=False, per_device_train_batch_size=16, per_device_eval_batch_size=64,
        activation_checkpointing=False,
    )  # fmt: skip
    before = config.to_dict()
    settle(config, plan(Device(kind, "", 9 * 10**9, (7, 5)), QWEN7B, RECIPE, 1, config.optim.value))
    if kind == "cpu":
        assert config.to_dict() == before
    else:
        assert config.per_device_train_batch_size * config.gradient_accumulation_steps == 16
        assert config.per_device_eval_batch_size == 4 * config.per_device_train_batch_size < 64
        assert config.optim == "paged_adamw_8bit" and config.activation_checkpointing


@pytest.mark.parametrize(
    ("targets", "counted"),
    [
        (["q_proj", "v_proj", "embed_tokens"], ["q_proj", "v_proj"]),
        ("all-linear", list(TARGETS)),
        (None, list(TARGETS)),
    ],
)
def test_what_is_adapted_is_counted(tmp_path, targets, counted):
    config = SFTConfig(str(tmp_path), use_cpu=True, bf16=False, max_length=256, per_device_train_batch_size=4)
    found = recipe(config, LoraConfig(r=8, target_modules=targets), nf4=True)
    assert (list(found.targets), found.rank, found.batch, found.length) == (counted, 8, 4, 256)


def test_curves_hold_both_losses_by_step():
    history = [{"step": 1, "loss": 2.0}, {"step": 2, "eval_loss": 1.5}, {"step": 2, "train_runtime": 9.0}]
    assert curves(history).to_dict("records") == [
        {"step": 1, "split": "train", "loss": 2.0},
        {"step": 2, "split": "val", "loss": 1.5},
    ]


def test_checkpoints_are_of_the_code_that_trains_too():
    assert {"train.py", "trainer.py", "packing.py", "prompt.py"} <= {path.name for path in _code()}


@pytest.mark.parametrize(
    ("layers", "length", "said"),
    [
        ([0, 1], 512, None),
        ([0], 512, "lora.layers_to_transform: its last layer is not the base's, which is 1;"),
        ([], 512, "lora.layers_to_transform: its last layer is not the base's, which is 1;"),
        ([1, 2], 512, "lora.layers_to_transform: its last layer is not the base's, which is 1;"),
        (None, 80, "train.max_length: 1 of 3 train rows have 80 tokens or more"),
    ],
)
def test_layers_of_another_base_and_rows_that_are_cut_are_refused(
    tiny_llama, tokenizer, tmp_path, catalogue, layers, length, said
):
    (tmp_path / "checkpoint-9").mkdir()  # of a kill in the middle of a save: it has no trainer_state.json
    rows = dataset(EXAMPLES, [PROMPT] * len(EXAMPLES), catalogue)
    lora = LoraConfig(r=4, target_modules=["q_proj"], layers_to_transform=layers, task_type="CAUSAL_LM")
    config = SFTConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", completion_only_loss=True,
        remove_unused_columns=False, max_steps=1, max_length=length,
    )  # fmt: skip
    if said:
        with pytest.raises(InputError, match=said):
            train(tiny_llama(0), tokenizer, rows, rows, lora, config)
    else:
        assert train(tiny_llama(0), tokenizer, rows, rows, lora, config).state.global_step == 1
