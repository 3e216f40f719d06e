"""An adapter and its base as one ordinary model, which transformers, vLLM and llama.cpp's converter load."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from peft import PeftConfig, PeftModel
from transformers import AutoModelForCausalLM, GenerationConfig

from toolforge import student
from toolforge.student import Student

# bfloat16 has 8 bits of a weight, too few for what an adapter adds to it.
KEPT_IN = torch.float16


def merge(adapter: Path, quantization: Literal["nf4", "none"], folder: Path) -> None:
    """Save into `folder` the adapter added to the base that it was trained on, 4-bit rounding and all, with its tokenizer, chat template
    and end of turn. The sums are made in float32 and kept in KEPT_IN. Raises InputError for a base that is not there.
    """
    base = student.load_base(str(PeftConfig.from_pretrained(str(adapter)).base_model_name_or_path), quantization)
    # A GPU keeps 4-bit weights packed, and peft would round the sum to 4 bits again.
    if getattr(base, "is_quantized", False):
        base = base.dequantize()
    merged = PeftModel.from_pretrained(base.float(), str(adapter)).merge_and_unload().to(KEPT_IN)
    tokenizer = student.load_tokenizer(str(adapter))
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    merged.config.update(ends)
    merged.generation_config = GenerationConfig(**ends, do_sample=False)
    merged.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def load_merged(folder: Path, trained: Student) -> Student:
    """The merged model of a folder as a student that is prompted as `trained` is."""
    model = AutoModelForCausalLM.from_pretrained(folder, device_map={"": trained.model.device})
    return replace(trained, model=model.eval(), tokenizer=student.load_tokenizer(str(folder)))
