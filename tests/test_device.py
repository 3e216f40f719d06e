"""What is chosen for which device, by worked examples; and what running out of memory says."""

from dataclasses import replace

import pytest
import torch

from toolforge.attention import PACKED
from toolforge.device import USABLE, Device, attention, here, memory_for, plan, precision
from toolforge.errors import InputError
from toolforge.memory import TARGETS, Base, Recipe, Saving, estimate

T4 = Device("cuda", "Tesla T4", 15_835_660_288, (7, 5))
A10 = Device("cuda", "A10G", 23_600_000_000, (8, 6))
H100 = Device("cuda", "H100", 85_000_000_000, (9, 0))
CPU = Device("cpu", "CPU", 25_000_000_000, has_bf16=True)
# vocabulary, hidden, inner, layers, heads, key heads, head, tied: as the hub's config.json files have them.
QWEN7B = Base(152064, 3584, 18944, 28, 28, 4, 128, False)
SMOLLM2 = Base(49152, 576, 1536, 30, 9, 3, 64, True)
R64 = Recipe(nf4=True, rank=64, targets=TARGETS, batch=16, length=512)


def test_precision_is_bf16_where_it_exists():
    assert [precision(one) for one in (T4, A10, H100, CPU, replace(CPU, has_bf16=False))] == [
        torch.float16, torch.bfloat16, torch.bfloat16, torch.bfloat16, torch.float32,
    ]  # fmt: skip


def test_flash_attention_runs_only_where_it_is_installed_and_the_gpu_can():
    assert attention(H100, PACKED, flash_installed=True) == "flash_attention_2"
    for place, installed in ((H100, False), (T4, True), (CPU, True)):
        assert attention(place, PACKED, installed) == PACKED


@pytest.mark.parametrize("accumulation", [1, 4])
def test_a_cpu_trains_as_params_yaml_says(accumulation):
    for memory in (1, CPU.memory):
        found = plan(replace(CPU, memory=memory), SMOLLM2, R64, accumulation, "adamw_torch_fused")
        assert (found.batch, found.accumulation, found.optimizer) == (16, accumulation, "adamw_torch_fused")
        assert not found.saving.paged and not found.saving.checkpointing
        assert found.fits == (memory > 1)


def test_the_7b_recipe_on_real_gpus():
    on = {place.name: plan(place, QWEN7B, R64, 1, "adamw_torch_fused") for place in (T4, A10, H100)}
    assert str(on["H100"]) == "16 × 1 rows a step; adamw_torch_fused; without activation checkpointing"
    assert str(on["A10G"]) == "16 × 1 rows a step; paged_adamw_8bit; with activation checkpointing"
    assert str(on["Tesla T4"]) == "8 × 2 rows a step; paged_adamw_8bit; with activation checkpointing"
    assert all(found.fits for found in on.values())


def test_a_small_base_needs_no_saving_on_a_t4():
    found = plan(T4, SMOLLM2, R64, 1, "adamw_torch_fused")
    assert (found.batch, found.saving) == (16, Saving(paged=False, checkpointing=False))


@pytest.mark.parametrize(("batch", "accumulation"), [(16, 1), (4, 4), (12, 1), (1, 16)])
def test_whatever_the_memory_the_rows_of_a_step_stay_and_the_choice_is_the_first_that_fits(batch, accumulation):
    before = None
    for gigabytes in range(5, 100, 3):
        place = replace(T4, memory=gigabytes * 10**9)
        found = plan(place, QWEN7B, replace(R64, batch=batch), accumulation, "adamw_torch_fused")
        assert found.batch * found.accumulation == batch * accumulation
        assert found.batch <= batch
        assert found.fits == (found.need.total <= USABLE * place.memory)
        assert (found.optimizer == "paged_adamw_8bit") == found.saving.paged
        # More memory never makes the choice thriftier.
        rank = (found.fits, found.batch, not found.saving.paged, not found.saving.checkpointing)
        assert before is None or rank >= before
        before = rank
    assert before == (True, batch, True, True)


def test_where_nothing_fits_the_thriftiest_is_tried():
    found = plan(replace(T4, memory=10**9), QWEN7B, R64, 1, "adamw_torch_fused")
    assert not found.fits
    assert (found.batch, found.accumulation, found.optimizer) == (1, 16, "paged_adamw_8bit")


def test_shards_part_the_weights_and_leave_out_the_paged_optimizer():
    whole, part = (
        plan(replace(T4, memory=10**9), QWEN7B, R64, 1, "adamw_torch_fused", 2, cut) for cut in (False, True)
    )
    assert (part.optimizer, part.saving) == ("adamw_torch_fused", Saving(paged=False, checkpointing=True))
    assert part.need.weights == whole.need.weights // 2
    assert part.need.activations == whole.need.activations


@pytest.mark.parametrize(("amx", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_cpu_computes_in_bf16_where_it_has_amx(monkeypatch, amx, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    place = here()
    assert precision(place) == expected
    assert place.memory > 10**8


def test_out_of_memory_is_one_line_that_names_the_settings():
    with (
        pytest.raises(InputError, match="^the GPU's memory is too small; lower eval.batch_size$"),
        memory_for("eval.batch_size"),
    ):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    with pytest.raises(ValueError, match="other"), memory_for("eval.batch_size"):
        raise ValueError("other")


@pytest.mark.parametrize(
    ("base", "billions"),
    [
        (QWEN7B, 7.616),
        (SMOLLM2, 0.1345),
        (Base(32768, 4096, 14336, 32, 32, 8, 128, False), 7.248),
    ],
)
def test_the_weights_counted_are_those_that_are_published(base, billions):
    assert (base.rounded + base.kept) / 1e9 == pytest.approx(billions, rel=1e-3)


def test_the_papers_example_of_double_quantization():
    """QLoRA, section 3: double quantization takes 0.127 bits a weight where single takes 0.5."""
    weights = estimate(QWEN7B, R64, Saving(False, False), 2).weights - 2 * QWEN7B.kept
    assert weights * 8 / QWEN7B.rounded == pytest.approx(4.127)
