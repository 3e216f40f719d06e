"""Each recipe is what `dvc exp run` takes, and gives params that the stages take."""

import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from dvc.cli import parse_args
from dvc.utils.hydra import apply_overrides

from toolforge import params
from toolforge.params import load_params

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "recipes").iterdir())
# What the original project trained, 7B or 8B models each: r, alpha, learning rate.
ORIGINAL = {
    "qwen7b-r64": (64, 128, 2e-4),
    "mistral-r64": (64, 128, 2e-4),
    "mistral-r16": (16, 32, 2e-4),
    "mistral-lr5e4": (64, 128, 5e-4),
    "llama-r64": (64, 128, 2e-4),
}


def changes(recipe):
    """The name and the overrides that DVC's own parser reads in it, its words split as a shell splits `$(cat FILE)`."""
    words = recipe.read_text().split()
    assert words == shlex.split(recipe.read_text()), "the shell would not read these quotes"
    parsed = parse_args(["exp", "run", *words])
    return parsed.name, parsed.set_param


@pytest.fixture(params=RECIPES, ids=lambda recipe: recipe.name)
def document(request, tmp_path, monkeypatch):
    """The name of a recipe, and the params.yaml that DVC makes of the shipped one and its overrides."""
    path = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", path)
    name, overrides = changes(request.param)
    assert name == request.param.name
    # DVC refuses a key that params.yaml does not hold.
    apply_overrides(path, overrides)
    monkeypatch.setattr(params, "PARAMS", path)
    return name, yaml.safe_load(path.read_text())


def test_the_recipes_are_those_that_the_docs_name():
    assert {recipe.name for recipe in RECIPES} == {*ORIGINAL, "qwen3-0.6b", "smollm2-360m", "gemma3-270m"}
    page = (ROOT / "docs" / "gpu.md").read_text()
    assert all(f"`{recipe.name}`" in page for recipe in RECIPES)


def test_the_card_names_the_base_that_is_trained(document):
    name, values = document
    shipped = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert values["export"]["base_model"] == values["student"]["base"] != shipped["export"]["base_model"]
    assert values["export"]["name"] == f"toolforge-{name}"
    family = values["student"]["base"].split("/")[0]
    assert values["export"]["license"] == {"meta-llama": "llama3.1", "google": "gemma"}.get(family, "apache-2.0")


def test_the_original_runs_are_the_originals(document):
    name, values = document
    train, lora = values["train"], values["lora"]
    if name in ORIGINAL:
        assert (lora["r"], lora["lora_alpha"], train["learning_rate"]) == ORIGINAL[name]
        assert train["num_train_epochs"] == 3
    assert train["per_device_train_batch_size"] * train["gradient_accumulation_steps"] == 16
    assert values["student"]["quantization"] == "nf4"
    # The default's are those of the default base.
    assert lora["layers_to_transform"] is None


@pytest.mark.slow
def test_every_stage_takes_the_params(document, tmp_path):
    from peft import LoraConfig
    from trl import SFTConfig

    from toolforge.settings import POSITIVE
    from toolforge.stages.export import ExportParams
    from toolforge.student import StudentParams

    _, values = document
    assert load_params("student", StudentParams).base == values["student"]["base"]
    assert load_params("lora", LoraConfig, POSITIVE, task_type="CAUSAL_LM").r == values["lora"]["r"]
    config = load_params("train", SFTConfig, POSITIVE, output_dir=str(tmp_path), use_cpu=True, bf16=False)
    assert config.learning_rate == values["train"]["learning_rate"]
    assert load_params("export", ExportParams).license == values["export"]["license"]


def test_a_key_that_params_yaml_does_not_hold_is_refused(tmp_path):
    from dvc.exceptions import InvalidArgumentError

    path = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", path)
    with pytest.raises(InvalidArgumentError):
        apply_overrides(path, ["lora.rank=64"])
