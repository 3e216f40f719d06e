"""A merged model as one GGUF file: llama.cpp's own converter, then its own quantization."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

from llama_cpp import llama_cpp

from toolforge.errors import InputError

# llama.cpp's own mixtures. F16 rounds no activation either. Q6_K rounds in blocks of 256 weights; a matrix whose rows are no multiple of that gets Q8_0.
Quantization = Literal["F16", "Q4_0", "Q6_K", "Q8_0"]


def convert(merged: Path, gguf: Path) -> None:
    """Write a merged model, its tokenizer and its chat template as a GGUF file, no weight rounded.

    Raises InputError with the converter's last line where it fails.
    """
    command = [sys.executable, "-m", "convert_hf_to_gguf", str(merged), "--outfile", str(gguf), "--outtype", "f32"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr + done.stdout).strip().splitlines() or ["it said nothing"]
        raise InputError(f"{merged}: convert_hf_to_gguf failed: {said[-1]}")


def quantize(source: Path, target: Path, kind: Quantization) -> None:
    """Write `source`, a GGUF file, with its weights rounded to `kind`. Raises InputError with llama.cpp's words where it fails."""
    said: list[str] = []
    listen = llama_cpp.llama_log_callback(lambda level, text, data: said.append(text.decode(errors="replace").strip()))
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    llama_cpp.llama_log_set(listen, ctypes.c_void_p())
    failed = llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(params))
    # llama.cpp must not call `listen` once it is gone: no function is its own, stderr.
    llama_cpp.llama_log_set(llama_cpp.llama_log_callback(0), ctypes.c_void_p())
    if failed:
        raise InputError(f"{source}: llama.cpp cannot quantize it to {kind}: {' '.join(said[-1:])}")
