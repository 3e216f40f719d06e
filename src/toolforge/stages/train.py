"""train: LoRA on the base, loss on the completion only; the best checkpoint becomes the adapter."""

import argparse
import hashlib
import json
import math
import resource
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from datasets import Dataset
from peft import LoraConfig
from peft.helpers import disable_input_dtype_casting
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from trl import SFTConfig, SFTTrainer

from toolforge import attention, device, packing, settings, student, tracking
from toolforge.errors import InputError, run
from toolforge.memory import Base
from toolforge.params import load_params
from toolforge.prompt import PromptParams, answer, render
from toolforge.records import Example, read_rows, write_json, write_text
from toolforge.student import AdapterSettings
from toolforge.systems import SystemsParams, draw, load_systems
from toolforge.tools import Catalogue, load_tools
from toolforge.tracking import TrackingParams
from toolforge.trainer import CompletionTrainer, Tracked, can_compile

UNTRACKED = TrackingParams(wandb="disabled")
# What Gemma 2 has and Gemma 3 has not.
SOFT_CAPS = ("attn_logit_softcapping", "final_logit_softcapping")


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train_dataset: Dataset,
    val_dataset: Dataset,
    lora: LoraConfig,
    config: SFTConfig,
    callbacks: Sequence[TrainerCallback] = (),
    implementation: str = attention.PACKED,
    checkpoint: str | None = None,
) -> SFTTrainer:
    """Fine-tune, going on from the folder `checkpoint` where one is given. Returns the trainer with the weights of the lowest validation loss.
    Raises InputError for lora.target_modules or layers that are not the base's, for rows that are longer than `config.max_length`, and for a
    base that soft-caps its logits: neither the packed attention nor the completion's loss does.
    """
    capped = [key for key in SOFT_CAPS if getattr(model.config, key, None)]
    if capped:
        raise InputError(
            f"student.base: {model.config.model_type} models have {capped[0]}, without which they are not trained right; use another base"
        )
    _refuse_layers_of_another_base(lora, model.config)
    model.set_attn_implementation(implementation)
    try:
        trainer = CompletionTrainer(
            model=model,
            args=config,
            processing_class=tokenizer,
            peft_config=lora,
            data_collator=packing.collate,
            train_dataset=train_dataset,
            eval_dataset=val_dataset,
            callbacks=list(callbacks),
        )
    except ValueError as error:
        if "target_modules" in str(error) or "arget modules" in str(error):
            raise InputError(f"params.yaml: lora.target_modules: {error}") from None
        raise
    # TRL drops a row whose completion is cut off, and trains one that is cut in its completion without its end.
    whole = sum(len(ids) < (config.max_length or math.inf) for ids in trainer.train_dataset["input_ids"])
    if whole < len(train_dataset):
        raise InputError(
            f"train.max_length: {len(train_dataset) - whole} of {len(train_dataset)} train rows have {config.max_length} tokens or more, system message and tools counted; raise it"
        )
    if model.device.type == "cpu":
        if can_compile():
            trainer.compile()
        else:
            print(
                "train: a third slower without Python's headers (Debian: apt-get install python3-dev)", file=sys.stderr
            )
    # Autocast brings both sides of a LoRA product to one type; peft's own cast of its input to fp32 would be undone at once.
    with disable_input_dtype_casting(trainer.model):
        trainer.train(resume_from_checkpoint=checkpoint)
    return trainer


def _refuse_layers_of_another_base(lora: LoraConfig, config: PreTrainedConfig) -> None:
    layers = lora.layers_to_transform
    last = config.get_text_config().num_hidden_layers - 1
    if layers is not None and max([layers] if isinstance(layers, int) else layers, default=None) != last:
        raise InputError(
            f"params.yaml: lora.layers_to_transform: its last layer is not the base's, which is {last}; name layers of this base, or null for all"
        )


def _last_checkpoint(folder: Path) -> str | None:
    """The last one that was written to its end: the trainer's state comes last."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return str(max(whole, key=_step)) if whole else None


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def dataset(examples: Sequence[Example], prompts: Sequence[PromptParams], catalogue: Catalogue) -> Dataset:
    """The examples, each under its prompt, as TRL's prompt-completion rows. Raises InputError where there is none."""
    if not examples:
        raise InputError("train: no row to train or to validate on")
    rows = []
    for example, prompt in zip(examples, prompts, strict=True):
        asked = render(example.query, prompt, catalogue)
        row: dict[str, Any] = {
            "prompt": asked["conversation"],
            "completion": [{"role": "assistant", "content": answer(example.calls)}],
        }
        if asked["tools"]:
            row["tools"] = json.dumps(asked["tools"])
        rows.append(row)
    return Dataset.from_list(rows)


def curves(history: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """The training and validation loss by step, from the trainer's log."""
    rows = [
        {"step": entry["step"], "split": name, "loss": entry[key]}
        for entry in history
        for name, key in (("train", "loss"), ("val", "eval_loss"))
        if key in entry
    ]
    return pd.DataFrame(rows, columns=["step", "split", "loss"])


def summary(trainer: SFTTrainer, resumed_at: int = 0) -> dict[str, Any]:
    """What the run took and reached: seconds, tokens a second, peak memory in GB, steps and the lowest validation loss. A run that went on at the step
    `resumed_at` took its time and memory for the steps from there.
    """
    history = trainer.state.log_history
    losses = {entry["step"]: entry["eval_loss"] for entry in history if "eval_loss" in entry}
    best = min(losses, key=lambda step: losses[step]) if losses else None
    end = next(entry for entry in reversed(history) if "train_runtime" in entry)
    tokens = sum(len(ids) for ids in trainer.train_dataset["input_ids"]) * trainer.state.epoch
    memory = (
        torch.cuda.max_memory_allocated() / 1e9
        if torch.cuda.is_available()
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    )
    timed = tokens * (1 - resumed_at / trainer.state.global_step)
    return {
        "val_loss": round(losses[best], 5) if best is not None else None,
        "best_step": best,
        "steps": trainer.state.global_step,
        "resumed_at": resumed_at,
        "tokens": int(tokens),
        "seconds": round(end["train_runtime"]),
        "tokens_per_second": round(timed / end["train_runtime"]),
        "peak_memory_gb": round(memory, 2),
        "precision": str(student.precision()).removeprefix("torch."),
    }


def _code() -> list[Path]:
    """The modules of this package that the run has loaded."""
    names = [name for name in sys.modules if name.partition(".")[0] == "toolforge"]
    return sorted({Path(__file__), *(Path(file) for name in names if (file := sys.modules[name].__file__))})


def _fingerprint(files: Sequence[Path], *settings: Any) -> str:
    # lora.target_modules is a set, whose order is another in each process.
    text = json.dumps(
        settings, sort_keys=True, default=lambda value: sorted(value) if isinstance(value, set) else str(value)
    )
    digest = hashlib.sha256(text.encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _keep_checkpoints_of(fingerprint: str, folder: Path) -> None:
    """Empty the folder unless it holds checkpoints of the very same code, rows and settings."""
    mark = folder / "run"
    if mark.is_file() and mark.read_text() == fingerprint:
        return
    shutil.rmtree(folder, ignore_errors=True)
    write_text(mark, fingerprint)


def main() -> None:
    """Read train and val; write the adapter's folder, the loss curves and the run's figures."""
    parser = argparse.ArgumentParser(prog="toolforge.stages.train", description=__doc__)
    for name in ("tools", "systems", "train", "val", "adapter", "checkpoints", "curves", "figures"):
        parser.add_argument(name, type=Path)
    paths = parser.parse_args()
    params, lora, config = settings.load(paths.checkpoints)
    settings.refuse_several_gpus(config)
    prompt = load_params("prompt", PromptParams)
    foreign = load_params("systems", SystemsParams)
    tracked = load_params("tracking", TrackingParams)
    catalogue = load_tools(paths.tools)
    examples = read_rows(paths.train, Example)
    val = read_rows(paths.val, Example)
    prompts = draw(len(examples), prompt, load_systems(paths.systems, catalogue), foreign)
    train_dataset = dataset(examples, prompts, catalogue)
    val_dataset = dataset(val, [prompt] * len(val), catalogue)
    student.quiet()
    # Of several processes one writes, and the others wait for its base.
    leads, place, sharded = config.should_save, device.here(), student.sharded()
    with config.main_process_first(local=False):
        base = student.unpack(params, paths.adapter / "base", leads)
        tokenizer = student.load_tokenizer(base.base)
        if prompt.tools == "schemas" and "tools" not in tokenizer.get_chat_template(tools=catalogue.schemas):
            raise InputError("params.yaml: prompt.tools: the base's chat template shows no tools; set it to none")
        chosen = device.plan(
            place,
            Base.of(student.load_config(base.base)),
            settings.recipe(config, lora, base.quantization == "nf4"),
            config.gradient_accumulation_steps,
            config.optim.value,
            config.world_size,
            sharded,
        )
        settings.settle(config, chosen)
        used = {
            "student": params.model_dump(),
            "prompt": prompt.model_dump(),
            "systems": foreign.model_dump(),
            "lora": lora.to_dict(),
            "train": config.to_dict(),
            "launch": {"processes": config.world_size, "sharded": sharded},
        }
        if leads:
            _keep_checkpoints_of(
                _fingerprint([*_code(), paths.tools, paths.systems, paths.train, paths.val], *used.values()),
                paths.checkpoints,
            )
    last = _last_checkpoint(paths.checkpoints)
    if leads and place.kind == "cuda":
        print(f"train: {config.world_size} x {place.name}: {chosen}")
    with tracking.run("train", tracked if leads else UNTRACKED, used) as opened, device.memory_for(settings.MEMORY):
        model = student.load_base(base.base, base.quantization)
        callbacks = [Tracked()] if opened else []
        trainer = train(
            model, tokenizer, train_dataset, val_dataset, lora, config, callbacks, settings.kernel(place), last
        )
    figures = summary(trainer, _step(Path(last)) if last else 0)
    if figures["val_loss"] is None or not math.isfinite(figures["val_loss"]):
        raise InputError("train: the loss is not finite; lower train.learning_rate")
    # What FSDP has cut into shards is put together by all processes.
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped) if trainer.is_fsdp_enabled else None
    if leads:
        # peft keeps them as a set, which would be written in another order each time.
        for adapter in trainer.model.peft_config.values():
            if not isinstance(adapter.target_modules, str):
                adapter.target_modules = sorted(adapter.target_modules)
        trainer.model.save_pretrained(str(paths.adapter), state_dict=weights)
        tokenizer.save_pretrained(str(paths.adapter))
        student.save_settings(
            paths.adapter, AdapterSettings(prompt=prompt, tools=catalogue.schemas, quantization=base.quantization)
        )
        write_text(paths.curves, curves(trainer.state.log_history).to_csv(index=False, lineterminator="\n"))
        write_json(paths.figures, figures)
        shutil.rmtree(paths.checkpoints)
        print(
            f"train: validation loss {figures['val_loss']} at step {figures['best_step']}; adapter in {paths.adapter}"
        )
    trainer.accelerator.end_training()


if __name__ == "__main__":
    run(main)
