"""The student: a base, its tokenizer and chat template, and an adapter."""

import importlib.util
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate.utils import parse_flag_from_env
from peft import PeftConfig, PeftModel
from pydantic import ValidationError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GgufConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from toolforge import device, template
from toolforge.errors import InputError
from toolforge.params import Params
from toolforge.prompt import PromptParams
from toolforge.records import first_fault, write_json
from toolforge.tools import Catalogue

# A file of the adapter's folder.
SETTINGS = "routing.json"


class StudentParams(Params):
    """`base` is a hub id, a local folder, or an installed package that carries one GGUF file. `quantization` is what its weights
    are rounded to when it is loaded: `nf4` is QLoRA's 4-bit NF4 with double quantization; `none` keeps them in `precision()`.
    """

    base: str
    quantization: Literal["nf4", "none"]


def precision() -> torch.dtype:
    """What the device that is here computes in."""
    return device.precision(device.here())


def sharded() -> bool:
    """Whether accelerate's launcher has FSDP cut the weights into shards."""
    return bool(parse_flag_from_env("ACCELERATE_USE_FSDP"))


def quiet() -> None:
    """Keep transformers' own bars and notes off the terminal: a stage shows its own progress."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def carried(base: str) -> Path | None:
    """The one GGUF file of the package that a base is, None for a hub id or a local folder. Raises InputError for a package that is not there."""
    if "/" in base or Path(base).exists():
        return None
    try:
        spec = importlib.util.find_spec(base.replace("-", "_"))
    except ImportError:  # of a name with a dot whose first part is none
        spec = None
    if spec is None or spec.origin is None:
        raise InputError(f"student.base: {base!r} is no local folder, hub id (owner/name) or installed package")
    files = sorted(Path(spec.origin).parent.glob("*.gguf"))
    if len(files) != 1:
        raise InputError(f"student.base: the package {base!r} carries {len(files)} GGUF files, not one")
    return files[0]


def unpack(params: StudentParams, folder: Path, writes: bool = True) -> StudentParams:
    """The base as `load_base` takes it: `params` itself, or, for a package that carries a GGUF file, `folder`, into which that file is unpacked
    as an ordinary transformers model in bf16. Its weights are rounded there already, so that whoever loads the folder, and knows nothing of
    `quantization`, has the very base that the adapter is trained on. Of several processes one `writes`. Raises InputError for a base that is not there.
    """
    file = carried(params.base)
    if file is None:
        return params
    if writes:
        _unpack(file, params.quantization, folder)
    return StudentParams(base=str(folder), quantization="none")


def _unpack(file: Path, quantization: Literal["nf4", "none"], folder: Path) -> None:
    place, name = str(file.parent), file.name
    model = AutoModelForCausalLM.from_pretrained(
        place,
        gguf_file=name,
        quantization_config=GgufConfig(gguf_file=name, dequantize=True),
        dtype=torch.bfloat16,
    )
    # bitsandbytes rounds what is loaded from a file.
    with tempfile.TemporaryDirectory() as scratch:
        model.save_pretrained(scratch)
        rounded = dequantized(load_base(scratch, quantization))
        rounded.to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(place, gguf_file=name).save_pretrained(folder)


def nf4() -> BitsAndBytesConfig:
    """QLoRA's quantization: 4-bit NF4 with double quantization, computing in `precision()`. For FSDP, which cuts only floating-point weights
    into shards, the same bits are kept as such.
    """
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=precision(),
        bnb_4bit_quant_storage=precision() if sharded() else torch.uint8,
    )


def load_base(base: str, quantization: Literal["nf4", "none"]) -> PreTrainedModel:
    """The base in `precision()`, its weights rounded to 4 bits where asked. Raises InputError for a base that is not there.

    On a CPU the 4-bit weights are unpacked once, here, and not anew for every product: the same numbers, faster.
    """
    # Of several GPUs, the one of this process.
    place = torch.cuda.current_device() if torch.cuda.is_available() else "cpu"
    config = nf4() if quantization == "nf4" else None
    _find(base)
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        base,
        dtype=precision(),
        quantization_config=config,
        device_map={"": place},
    )
    return dequantized(model) if place == "cpu" else model


def dequantized(model: PreTrainedModel) -> PreTrainedModel:
    """The model with ordinary weights where it holds 4-bit ones."""
    return model.dequantize() if getattr(model, "is_quantized", False) else model


def load_tokenizer(folder: str) -> PreTrainedTokenizerBase:
    """The tokenizer, its chat template made fit by `template.fit`, with a token to pad with. Raises InputError where the folder or hub id has none."""
    _find(folder)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    if not tokenizer.chat_template:
        raise InputError(f"{folder}: the tokenizer has no chat template; use an instruction-tuned base")
    template.fit(tokenizer, folder)
    # Llama and Mistral bring none.
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_config(base: str) -> PreTrainedConfig:
    """The sizes of a base. Raises InputError for a base that is not there."""
    try:
        return AutoConfig.from_pretrained(base).get_text_config()
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"student.base: {base!r} cannot be loaded: {reason}") from None


def local_config(base: str) -> PreTrainedConfig | None:
    """The sizes of a base as far as this machine knows them, None for a hub id that is not in the hub's cache. Raises InputError for a package or a
    folder that is none.
    """
    file = carried(base)
    if file:
        return AutoConfig.from_pretrained(str(file.parent), gguf_file=file.name)
    if Path(base).exists():
        return load_config(base)
    try:
        return AutoConfig.from_pretrained(base, local_files_only=True).get_text_config()
    except (OSError, ValueError):
        return None


def _find(base: str) -> None:
    if not Path(base, "adapter_config.json").is_file():
        load_config(base)


@dataclass(frozen=True)
class Student:
    """A trained router in memory, and all that its prompts need."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    prompt: PromptParams
    catalogue: Catalogue


class AdapterSettings(Params):
    """What an adapter was trained with beside its weights: the prompt, the catalogue, and what its base's weights are rounded to when loaded."""

    prompt: PromptParams
    tools: list[dict[str, Any]]
    quantization: Literal["nf4", "none"]


def save_settings(folder: Path, settings: AdapterSettings) -> None:
    """Write them into an adapter's folder, so that loading it needs nothing else."""
    write_json(folder / SETTINGS, settings.model_dump())


def load_settings(folder: Path) -> AdapterSettings:
    """Those of an adapter's folder. Raises InputError where it holds none."""
    try:
        return AdapterSettings.model_validate_json((folder / SETTINGS).read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{folder}: no trained adapter ({error.filename} is missing); run dvc repro") from None
    except ValidationError as error:
        raise InputError(f"{folder / SETTINGS}: {first_fault(error)}") from None


def trained_base(folder: Path) -> str:
    """The base of the adapter in a folder, as `load_base` takes it. Raises InputError where the folder holds no adapter."""
    try:
        return str(PeftConfig.from_pretrained(str(folder)).base_model_name_or_path)
    except ValueError as error:
        raise InputError(f"{folder}: no trained adapter: {error}") from None


def load_student(folder: Path) -> Student:
    """The adapter of a folder on the base that its adapter_config.json names. Raises InputError where one is missing."""
    settings = load_settings(folder)
    catalogue = Catalogue(settings.tools)
    base = load_base(trained_base(folder), settings.quantization)
    model = PeftModel.from_pretrained(base, str(folder))
    return Student(model.eval(), load_tokenizer(str(folder)), settings.prompt, catalogue)
