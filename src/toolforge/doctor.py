"""What is here and whether a training will fit, before it starts: `toolforge doctor`."""

import argparse
import contextlib
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from dvc.exceptions import DvcException
from dvc.utils.hydra import apply_overrides

from toolforge import device, settings, student
from toolforge.device import USABLE, Device, Plan
from toolforge.errors import InputError
from toolforge.memory import PUBLISHED, Base
from toolforge.params import PARAMS

LIBRARIES = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "bitsandbytes",
    "flash-attn",
    "llama-cpp-python",
    "dvc",
)


def report(recipe: Path | None) -> str:
    """Device, precision, versions, and what the training of params.yaml, or of a recipe upon it, needs. Raises InputError for params that are none.

    No network is used: where the base is on the hub only, and none of PUBLISHED, its memory is not known, and a line says so.
    """
    params, lora, config = _settings(recipe)
    place = device.here()
    lines = {
        "device": f"{place.name}, {_gb(place.memory)}",
        "precision": str(device.precision(place)).removeprefix("torch."),
        "attention": settings.kernel(place),
        "versions": ", ".join(f"{name} {found}" for name in LIBRARIES if (found := _version(name))),
        "base": f"{params.base}, {params.quantization}",
    }
    base = _sizes(params.base)
    if base is None:
        lines["memory"] = (
            f"not known: {params.base} is no folder here and not in the hub's cache; `hf download {params.base} config.json` brings its sizes"
        )
    else:
        nf4 = params.quantization == "nf4" and student.carried(params.base) is None
        asked = settings.recipe(config, lora, nf4)
        chosen = device.plan(place, base, asked, config.gradient_accumulation_steps, config.optim.value)
        lines["base"] += f", {(base.rounded + base.kept) / 1e9:.3g} billion weights"
        lines |= _memory(place, chosen, config.max_length)
    return "\n".join(f"{name:<12}{text}" for name, text in lines.items())


def _settings(recipe: Path | None) -> settings.Settings:
    if recipe is None:
        return settings.load(Path("models"))
    if not recipe.is_file():
        raise InputError(f"{recipe}: no such file")
    parser = argparse.ArgumentParser(exit_on_error=False, add_help=False)
    parser.add_argument("-S", "--set-param", action="append", default=[])
    try:
        overrides = parser.parse_known_args(recipe.read_text(encoding="utf-8").split())[0].set_param
    except (argparse.ArgumentError, UnicodeDecodeError) as error:
        raise InputError(f"{recipe}: no recipe: {error}") from None
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copy(PARAMS, scratch)
        with contextlib.chdir(scratch):
            try:
                apply_overrides(PARAMS, overrides)
            except DvcException as error:
                raise InputError(f"{recipe}: {error.__cause__ or error}") from None
            return settings.load(Path("models"))


def _sizes(name: str) -> Base | None:
    config = student.local_config(name)
    return PUBLISHED.get(name) if config is None else Base.of(config)


def _memory(place: Device, chosen: Plan, length: int) -> dict[str, str]:
    need = chosen.need
    usable = USABLE * place.memory if place.kind == "cuda" else place.memory
    if chosen.fits:
        verdict = f"fits: at most {_gb(need.total)} of {_gb(usable)}"
    else:
        verdict = f"does not fit: up to {_gb(need.total)} where {_gb(usable)} can be used; lower {settings.MEMORY}"
    return {
        "weights": _gb(need.weights) + (", for a CPU unpacks 4-bit ones" if place.kind == "cpu" else ""),
        "adapter": f"{_gb(need.adapter)} with gradients and the optimizer's states",
        "activations": f"{_gb(need.activations)}, were all rows {length} tokens long",
        "logits": _gb(need.logits),
        "plan": str(chosen),
        "verdict": verdict,
    }


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"


def _version(name: str) -> str | None:
    try:
        return version(name) + (f" (CUDA {torch.version.cuda})" if name == "torch" and torch.version.cuda else "")
    except PackageNotFoundError:
        return None
