"""An adapter and its base as one ordinary model, which transformers, vLLM and llama.cpp's converter load."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from huggingface_hub import snapshot_download
from peft import PeftConfig, get_peft_model, load_peft_weights, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from peft.utils import ModulesToSaveWrapper
from safetensors import safe_open
from safetensors.torch import save_file
from tqdm import tqdm
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedConfig, PreTrainedModel
from transformers.quantizers.base import get_keys_to_not_convert

from toolforge import student
from toolforge.errors import InputError
from toolforge.records import write_json
from toolforge.student import Student

# bfloat16 has 8 bits of a weight, too few for what an adapter adds to it.
KEPT_IN = torch.float16
INDEX = "model.safetensors.index.json"


def merge(adapter: Path, folder: Path) -> None:
    """Save into `folder` the adapter added to the base that it was trained on, with its tokenizer, chat template and end of turn. The
    sums are made in float32 and kept in KEPT_IN. Raises InputError where adapter or base are missing.

    The base is read weight by weight and written in shards like its own: in memory are the adapter and the largest shard.
    """
    name, settings = student.trained_base(adapter), student.load_settings(adapter)
    config = student.load_config(name)
    source = (
        Path(name)
        if Path(name).is_dir()
        else Path(snapshot_download(name, allow_patterns=["*.json", "model*.safetensors"]))
    )
    shards = sorted(source.glob("model*.safetensors"))
    if not shards:
        raise InputError(f"{source}: the base has no model*.safetensors; save it with save_pretrained")
    sums = _Sums(_hollow(config), adapter, settings.quantization == "nf4")
    folder.mkdir(parents=True, exist_ok=True)
    size = 0
    with tqdm(total=sum(file.stat().st_size for file in shards), desc="merging", unit="B", unit_scale=True) as bar:
        for file in shards:
            with safe_open(file, "pt") as weights:
                merged = {key: sums.of(key, weights.get_tensor(key)) for key in weights.keys()}  # noqa: SIM118
            save_file(merged, folder / file.name, metadata={"format": "pt"})
            size += sum(weight.nbytes for weight in merged.values())
            bar.update(file.stat().st_size)
    sums.check()
    if (source / INDEX).is_file():
        index = json.loads((source / INDEX).read_text(encoding="utf-8"))
        write_json(folder / INDEX, {"metadata": {"total_size": size}, "weight_map": index["weight_map"]})
    tokenizer = student.load_tokenizer(str(adapter))
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config.update({**ends, "dtype": KEPT_IN})
    config.save_pretrained(folder)
    GenerationConfig(**ends, do_sample=False).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _hollow(config: PreTrainedConfig) -> PreTrainedModel:
    """The model of a config, every weight of which is one zero that stands in each of its places and takes no memory."""
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            setattr(module, name, _nothing(weight.shape))
    return model


def _nothing(shape: torch.Size) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.zeros(()).expand(shape), requires_grad=False)


class _Sums:
    """What becomes of a base's weights: rounded as they were in training, and with what the adapter adds to them."""

    def __init__(self, base: PreTrainedModel, adapter: Path, nf4: bool) -> None:
        kept = set(get_keys_to_not_convert(base))
        self._rounded = {
            name
            for name, module in base.named_modules()
            if nf4 and isinstance(module, torch.nn.Linear) and name not in kept
        }
        model = get_peft_model(base, PeftConfig.from_pretrained(str(adapter)))
        # Of an embedding that it adds to, an adapter holds the base's weights too.
        weights = {key: one for key, one in load_peft_weights(str(adapter), "cpu").items() if ".base_layer." not in key}
        set_peft_model_state_dict(model, weights)
        prefix = "base_model.model."
        self._adapted = {
            name.removeprefix(prefix): module
            for name, module in model.named_modules()
            if isinstance(module, LoraLayer | ModulesToSaveWrapper)
        }
        self._left = set(self._adapted)

    def of(self, key: str, weight: torch.Tensor) -> torch.Tensor:
        """The merged weight or bias of a key of the base's files."""
        name, _, kind = key.rpartition(".")
        if weight.is_floating_point():
            # As it is loaded for training.
            weight = weight.to(student.precision())
        if kind == "weight" and name in self._rounded:
            weight = _rounded(weight)
        layer = self._adapted.get(name)
        if isinstance(layer, ModulesToSaveWrapper):
            weight = getattr(layer.modules_to_save[layer.active_adapter], kind)
        elif layer is not None and kind == "weight":
            layer.base_layer.weight = torch.nn.Parameter(weight.float(), requires_grad=False)
            layer.merge()
            weight, layer.base_layer.weight = layer.base_layer.weight, _nothing(weight.shape)
        if kind == "weight":
            self._left.discard(name)
        return weight.detach().to(KEPT_IN).contiguous() if weight.is_floating_point() else weight

    def check(self) -> None:
        """Raises InputError where the adapter adds to something that the base's files did not have."""
        if self._left:
            raise InputError(
                f"the base's files have no weight for {min(self._left)}, which the adapter adds to; save the base with save_pretrained"
            )


def _rounded(weight: torch.Tensor) -> torch.Tensor:
    """As bitsandbytes rounds it when the base is loaded, of which `student.nf4` is the configuration."""
    return dequantize_4bit(*quantize_4bit(weight, quant_type="nf4", compress_statistics=True))


def load_merged(folder: Path, trained: Student) -> Student:
    """The merged model of a folder as a student that is prompted as `trained` is, in float32 on a CPU."""
    place = trained.model.device
    # A CPU without half-precision units took three times as long for its float16.
    dtype = torch.float32 if place.type == "cpu" else "auto"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, device_map={"": place})
    return replace(trained, model=model.eval(), tokenizer=student.load_tokenizer(str(folder)))
