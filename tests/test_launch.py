"""accelerate reads launch/ as it is meant; a test of its own (test_processes.py) has two processes train over gloo, which FSDP cannot do without GPUs."""

from pathlib import Path

import pytest
import torch
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from trl import SFTConfig

from toolforge import settings, student
from toolforge.errors import InputError

ROOT = Path(__file__).parent.parent
MANY = sorted((ROOT / "launch").iterdir())


def environment(file, monkeypatch):
    """What `accelerate launch --config_file FILE` sets for its processes, where there are GPUs."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    arguments, _, _ = _validate_launch_command(
        launch_command_parser().parse_args(["--config_file", str(file), "-m", "toolforge.stages.train"])
    )
    return arguments, prepare_multi_gpu_env(arguments)


@pytest.mark.parametrize("file", MANY, ids=lambda file: file.stem)
def test_there_is_a_process_a_gpu(file, monkeypatch):
    arguments, found = environment(file, monkeypatch)
    assert arguments.num_processes == 2
    assert found.get("ACCELERATE_USE_FSDP", "false") == ("true" if file.stem == "fsdp" else "false")


def test_what_fsdp_cuts_into_shards_is_kept_as_floating_point_numbers(monkeypatch):
    _, found = environment(ROOT / "launch" / "fsdp.yaml", monkeypatch)
    assert found["FSDP_VERSION"] == "2"
    assert found["FSDP_CPU_RAM_EFFICIENT_LOADING"] == "false"
    monkeypatch.undo()
    assert student.nf4().bnb_4bit_quant_storage == torch.uint8
    monkeypatch.setenv("ACCELERATE_USE_FSDP", found["ACCELERATE_USE_FSDP"])
    assert student.nf4().bnb_4bit_quant_storage == student.precision()


def test_a_process_that_sees_several_gpus_is_told_how_to_share_them(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(SFTConfig, "n_gpu", property(lambda self: 2))
    # toolforge doctor loads the settings in one process, whatever it sees.
    *_, config = settings.load(tmp_path)
    with pytest.raises(InputError, match="launch: one process sees 2 GPUs; set it to accelerate launch"):
        settings.refuse_several_gpus(config)
