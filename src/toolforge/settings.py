"""What a training on this device is set to: params.yaml's sections, and what the device decides about them."""

from pathlib import Path

import torch
from peft import LoraConfig
from transformers.training_args import OptimizerNames
from transformers.utils import is_flash_attn_2_available
from trl import SFTConfig

from toolforge import attention, device, student
from toolforge.device import Device, Plan
from toolforge.errors import InputError
from toolforge.memory import TARGETS, Recipe
from toolforge.params import load_params
from toolforge.student import StudentParams

POSITIVE = (
    "r",
    "lora_alpha",
    "learning_rate",
    "num_train_epochs",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "eval_steps",
    "logging_steps",
    "max_length",
)

# What takes less of a GPU's memory where it is lowered.
MEMORY = "train.max_length, train.per_device_train_batch_size (and raise train.gradient_accumulation_steps) or lora.r"

Settings = tuple[StudentParams, LoraConfig, SFTConfig]


def load(checkpoints: Path) -> Settings:
    """What params.yaml says of the base, the adapter and the training. Raises InputError for what it cannot be."""
    precision = student.precision()
    config = load_params(
        "train",
        SFTConfig,
        POSITIVE,
        output_dir=str(checkpoints),
        bf16=precision == torch.bfloat16,
        fp16=precision == torch.float16,
        use_cpu=not torch.cuda.is_available(),
        activation_checkpointing=False,
        completion_only_loss=True,
        # Batches are drawn at random: grouped by length, those of short answers would be all no_tool.
        remove_unused_columns=False,
        eval_strategy="steps",
        save_strategy="steps",
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        report_to="none",
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    lora = load_params("lora", LoraConfig, POSITIVE, task_type="CAUSAL_LM")
    return load_params("student", StudentParams), lora, config


def refuse_several_gpus(config: SFTConfig) -> None:
    """Raises InputError for a process that sees several GPUs, which TRL refuses to share rows between."""
    if config.n_gpu > 1:
        raise InputError(
            f"params.yaml: launch: one process sees {config.n_gpu} GPUs; set it to accelerate launch --config_file launch/ddp.yaml, "
            "or CUDA_VISIBLE_DEVICES=0 for one of them"
        )


def recipe(config: SFTConfig, lora: LoraConfig, nf4: bool) -> Recipe:
    """What of the settings decides about memory. Of `lora.target_modules` that are no list of names, all are counted."""
    targets = lora.target_modules
    names = TARGETS if targets is None or isinstance(targets, str) else [name for name in TARGETS if name in targets]
    return Recipe(nf4, lora.r, names, config.per_device_train_batch_size, config.max_length)


def kernel(place: Device) -> str:
    """The attention that packed rows are trained with there."""
    return device.attention(place, attention.PACKED, is_flash_attn_2_available())


def settle(config: SFTConfig, chosen: Plan) -> None:
    """Write what the device was given to do into the trainer's settings; a CPU's plan only shares the rows between processes."""
    if chosen.batch < config.per_device_train_batch_size:
        # Without a backward pass a row takes a quarter of the memory or less.
        config.per_device_eval_batch_size = min(config.per_device_eval_batch_size, 4 * chosen.batch)
    config.per_device_train_batch_size = chosen.batch
    config.gradient_accumulation_steps = chosen.accumulation
    config.optim = OptimizerNames(chosen.optimizer)
    config.activation_checkpointing = config.gradient_checkpointing = chosen.saving.checkpointing
