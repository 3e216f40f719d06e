"""Holds dvc.yaml to the code: the modules that a stage imports, the params that it loads, the paths that it is given."""

import ast
import itertools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "toolforge"
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())

# Where a run is logged and which experiments there are changes no result: a change of it runs no stage anew, so no stage lists it.
UNLISTED = {"tracking", "ablations"}


def imports(module: str) -> set[str]:
    """The local modules that a module imports, at any depth, itself included."""
    found, left = set(), [module]
    while left:
        name = left.pop()
        path = PACKAGE.joinpath(*name.split(".")[1:]).with_suffix(".py")
        if name in found or not path.is_file():
            continue
        found.add(name)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                left += [alias.name for alias in node.names if alias.name.startswith("toolforge.")]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("toolforge"):
                left += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def source(module: str) -> str:
    return "src/" + module.replace(".", "/") + ".py"


def outputs(stage: dict) -> set[str]:
    listed = [item for key in ("outs", "metrics", "plots") for item in stage.get(key, [])]
    return {next(iter(item)) if isinstance(item, dict) else item for item in listed}


def test_stages_modules_and_params_have_the_same_names():
    modules = {path.stem for path in (PACKAGE / "stages").glob("*.py")} - {"__init__"}
    assert set(STAGES) == modules
    assert (
        set(PARAMS)
        == set(STAGES) | {"launch", "student", "prompt", "systems", "lora", "confidence", "decoding"} | UNLISTED
    )
    assert all(stage["desc"] for stage in STAGES.values())


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_lists_each_local_module_that_it_imports_and_no_other(name):
    listed = {dep for dep in STAGES[name]["deps"] if dep.startswith("src/")}
    assert listed == {source(module) for module in imports(f"toolforge.stages.{name}")}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_lists_the_params_sections_that_it_loads(name):
    trees = [ast.parse((ROOT / source(module)).read_text()) for module in imports(f"toolforge.stages.{name}")]
    loaded = {
        node.args[0].value
        for node in itertools.chain.from_iterable(map(ast.walk, trees))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "load_params"
    }
    assert loaded - UNLISTED == set(STAGES[name]["params"])


@pytest.mark.parametrize("name", STAGES)
def test_the_paths_of_a_command_are_the_stages_deps_and_outs(name):
    stage = STAGES[name]
    # What stands before python sets the process's environment.
    words = shlex.split(re.sub(r"\$\(.*?\)", "", stage["cmd"]).replace("${launch}", PARAMS["launch"]))
    python, dash_m, module, *arguments = words[sum("=" in word for word in words) :]
    assert (python, dash_m, module) == ("python", "-m", f"toolforge.stages.{name}")
    paths = {argument for argument in arguments if "/" in argument}
    declared = set(stage["deps"]) | outputs(stage)
    # Checkpoints are neither input nor output: they let a killed run go on, and are gone after it.
    assert paths - declared <= {"models/checkpoints"}
    folders = {argument for argument in arguments if not argument.startswith("-")}
    for path in outputs(stage):
        assert path in paths or any(path.startswith(f"{folder}/") for folder in folders), path


def test_no_path_into_data_models_or_metrics_stands_in_the_code():
    for path in sorted(PACKAGE.rglob("*.py")):
        found = [
            node.value
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node.value.startswith(("data/", "models/", "metrics/"))
        ]
        defaults = {"teacher.py": {"data/tools.json", "data/LABELS.md"}}
        defaults["cli.py"] = defaults["teacher.py"] | {
            "data/queries.jsonl",
            "data/recorded.jsonl",
            "data/teacher.jsonl",
            "models/router",
        }
        allowed = defaults.get(path.name, set())
        assert set(found) <= allowed, path


@pytest.mark.parametrize("name", ["templates", "teacher", "split"])
def test_the_light_stages_import_no_torch(name):
    code = f"import sys, toolforge.stages.{name}; print(sorted({{'torch', 'transformers', 'google.genai', 'openai'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
