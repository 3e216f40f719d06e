"""An adapter and its base as one ordinary model, which transformers, vLLM and llama.cpp's converter load."""

from dataclasses import replace
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, GenerationConfig

from toolforge import student
from toolforge.student import Student

# bfloat16 has 8 bits of a weight, too few for what an adapter adds to it.
KEPT_IN = torch.float16


def merge(adapter: Path, folder: Path) -> None:
    """Save into `folder` the adapter added to the base that it was trained on, with its tokenizer, chat template and end of turn. The
    sums are made in float32 and kept in KEPT_IN. Raises InputError where adapter or base are missing.
    """
    # peft would round a sum with 4-bit weights to 4 bits again.
    trained_base = student.load_trained_base(adapter, student.load_settings(adapter))
    base = student.dequantized(trained_base).float()
    merged = PeftModel.from_pretrained(base, str(adapter)).merge_and_unload().to(KEPT_IN)
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
