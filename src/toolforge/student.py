"""The student: a base, its tokenizer and chat template, an adapter, and greedy answers."""

import importlib.util
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftConfig, PeftModel
from pydantic import ValidationError
from tqdm import tqdm
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    DynamicCache,
    GgufConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from toolforge import device, template
from toolforge.errors import InputError
from toolforge.params import Params
from toolforge.prompt import PromptParams, render
from toolforge.records import first_fault, write_json
from toolforge.tools import Catalogue

# A file of the adapter's folder.
SETTINGS = "routing.json"

# The last place, as an index and not as a number: of that the models make a slice whose rows lie apart, for which PyTorch copies the
# vocabulary's matrix once a row of the batch. It took half the time of an evaluation.
LAST = torch.tensor([-1])


class StudentParams(Params):
    """`base` is a hub id, a local folder, or an installed package that carries one GGUF file. `quantization` is what its weights
    are rounded to when it is loaded: `nf4` is QLoRA's 4-bit NF4 with double quantization; `none` keeps them in `precision()`.
    """

    base: str
    quantization: Literal["nf4", "none"]


def precision() -> torch.dtype:
    """What the device that is here computes in."""
    return device.precision(device.here())


def quiet() -> None:
    """Keep transformers' own bars and notes off the terminal: a stage shows its own progress."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def carried(base: str) -> Path | None:
    """The one GGUF file of the package that a base is, None for a hub id or a local folder. Raises InputError for a package that is not there."""
    if "/" in base or Path(base).exists():
        return None
    spec = importlib.util.find_spec(base.replace("-", "_"))
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
    """QLoRA's quantization: 4-bit NF4 with double quantization, computing in `precision()`."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=precision(),
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


@dataclass(frozen=True)
class Answer:
    """A raw answer, and the model's probability of all its tokens, 0 to 1."""

    text: str
    confidence: float


def generate(student: Student, queries: Sequence[str], batch_size: int, max_new_tokens: int) -> list[Answer]:
    """The greedy answer to each query, in their order. Batches hold queries of like length; a bar shows progress."""
    prompts = [
        student.tokenizer.apply_chat_template(
            **render(query, student.prompt, student.catalogue), add_generation_prompt=True, return_dict=False
        )
        for query in queries
    ]
    order = sorted(range(len(queries)), key=lambda number: len(prompts[number]), reverse=True)
    answers: dict[int, Answer] = {}
    with tqdm(total=len(queries), desc="answering", unit="query", disable=len(queries) <= batch_size) as bar:
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            found = _generate(student, [prompts[number] for number in batch], max_new_tokens)
            answers.update(zip(batch, found, strict=True))
            bar.update(len(batch))
    return [answers[number] for number in range(len(queries))]


@torch.inference_mode()
def _generate(student: Student, prompts: Sequence[list[int]], max_new_tokens: int) -> list[Answer]:
    # Not the library's generate(): it keeps a batch whole until its longest answer ends, and most end early with `[]`.
    tokenizer, model = student.tokenizer, student.model
    inputs = tokenizer.pad({"input_ids": list(prompts)}, padding_side="left", return_tensors="pt").to(model.device)
    mask = inputs["attention_mask"]
    tokens, positions = inputs["input_ids"], (mask.cumsum(1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    answers: list[list[int]] = [[] for _ in prompts]
    log_probabilities = [0.0] * len(prompts)
    open_rows = list(range(len(prompts)))
    for _ in range(max_new_tokens):
        out = model(tokens, attention_mask=mask, position_ids=positions, past_key_values=cache, logits_to_keep=LAST)
        best, chosen = out.logits[:, -1].float().log_softmax(-1).max(-1)
        for row, token, log_probability in zip(open_rows, chosen.tolist(), best.tolist(), strict=True):
            answers[row].append(token)
            log_probabilities[row] += log_probability
        going = (chosen != tokenizer.eos_token_id).nonzero()[:, 0]
        if not len(going):
            break
        if len(going) < len(open_rows):
            open_rows = [open_rows[number] for number in going.tolist()]
            cache.batch_select_indices(going)
        tokens, positions = chosen[going, None], positions[going, -1:] + 1
        mask = torch.nn.functional.pad(mask[going], (0, 1), value=1)
    texts = tokenizer.batch_decode(answers, skip_special_tokens=True)
    return [Answer(text.strip(), math.exp(p)) for text, p in zip(texts, log_probabilities, strict=True)]
