"""What a device is given to do, chosen from what it is: precision, attention, optimizer, checkpointing, and how many rows at once."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch

from toolforge.errors import InputError
from toolforge.memory import Base, Need, Recipe, Saving, estimate

# The part of a GPU's memory that is planned with: the rest is CUDA's own, what its allocator cannot join, and a 4-bit matrix unpacked for a product.
USABLE = 0.85


@dataclass(frozen=True)
class Device:
    """`memory` in bytes; `capability` is a GPU's compute capability, `has_bf16` whether a CPU has units for bf16's products, as AMX is."""

    kind: Literal["cpu", "cuda"]
    name: str
    memory: int
    capability: tuple[int, int] = (0, 0)
    has_bf16: bool = False


def here() -> Device:
    """The first GPU, or the CPU where there is none."""
    if torch.cuda.is_available():
        found = torch.cuda.get_device_properties(0)
        return Device("cuda", found.name, found.total_memory, (found.major, found.minor))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # AVX-512's own bf16 is slower than float32 on a Xeon: 4.8 s for 3.7 a training step, 3.6 queries a second for 6.
    has_bf16 = torch.cpu._is_amx_tile_supported()
    return Device("cpu", f"CPU, {len(os.sched_getaffinity(0))} cores", memory, has_bf16=has_bf16)


def precision(device: Device) -> torch.dtype:
    """What it computes in: bf16 where it has it, fp16 on older GPUs (a T4), fp32 on CPUs without units for bf16."""
    if device.kind == "cuda":
        return torch.bfloat16 if device.capability >= (8, 0) else torch.float16
    return torch.bfloat16 if device.has_bf16 else torch.float32


def attention(device: Device, packed: str, flash_installed: bool) -> str:
    """The name of the attention that keeps packed rows apart: flash-attn's where it is installed and the GPU can run it, else our own, `packed`."""
    fits = device.kind == "cuda" and device.capability >= (8, 0) and flash_installed
    return "flash_attention_2" if fits else packed


@dataclass(frozen=True)
class Plan:
    """How a device trains a recipe. `batch` times `accumulation` are its rows of one step; `fits` says that `need` is within the memory."""

    batch: int
    accumulation: int
    optimizer: str
    saving: Saving
    need: Need
    fits: bool

    def __str__(self) -> str:
        """For people: what was chosen."""
        checkpointing = "with" if self.saving.checkpointing else "without"
        return f"{self.batch} × {self.accumulation} rows a step; {self.optimizer}; {checkpointing} activation checkpointing"


def plan(
    device: Device,
    base: Base,
    recipe: Recipe,
    accumulation: int,
    optimizer: str,
    processes: int = 1,
    sharded: bool = False,
) -> Plan:
    """The first that fits of: as params.yaml says, activation checkpointing, the paged 8-bit optimizer as well, fewer rows at once. The rows of one step
    stay the same, shared by as many processes, each on a device of its own; `sharded` says that FSDP parts the weights between them, which the paged optimizer
    cannot step on. The last of them where none fits. Raises InputError for rows that cannot be shared.

    A CPU trains as params.yaml says: it has no paged optimizer, and its memory swaps.
    """
    rows, left = divmod(recipe.batch * accumulation, processes)
    if left:
        raise InputError(
            f"train.per_device_train_batch_size * train.gradient_accumulation_steps: {processes} processes cannot share the {recipe.batch * accumulation} rows of a step evenly"
        )
    batches = [size for size in range(min(recipe.batch, rows), 0, -1) if rows % size == 0]
    element = precision(device).itemsize
    savings = [Saving(False, False), Saving(False, True), Saving(True, True)]
    if device.kind == "cpu":
        need = estimate(base, replace(recipe, nf4=False, batch=batches[0]), savings[0], element)
        fits = need.total * processes <= device.memory
        return Plan(batches[0], rows // batches[0], optimizer, savings[0], need, fits)
    if sharded:
        savings = savings[:2]
    # Every product unpacks the 4-bit weights anew, so many rows at once are worth more than what checkpointing computes twice.
    for batch in batches:
        for saving in savings:
            need = estimate(base, replace(recipe, batch=batch), saving, element)
            if sharded:
                need = replace(need, weights=need.weights // processes, adapter=need.adapter // processes)
            found = Plan(
                batch=batch,
                accumulation=rows // batch,
                optimizer="paged_adamw_8bit" if saving.paged else optimizer,
                saving=saving,
                need=need,
                fits=need.total <= USABLE * device.memory,
            )
            if found.fits:
                return found
    return found


@contextmanager
def memory_for(settings: str) -> Iterator[None]:
    """Turn the GPU's running out of memory into an InputError of one line that names the settings to lower."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise InputError(f"the GPU's memory is too small; lower {settings}") from None
