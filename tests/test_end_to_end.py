"""The shipped dvc.yaml in a scratch clone, on the real base, with params shrunk to minutes."""

import json
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest
import yaml
from nbclient import NotebookClient

import cloning
from cloning import ROOT, UNCOMPILED, commit, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    return cloning.make(tmp_path_factory.mktemp("clone") / "toolforge")


def test_from_a_clone_to_experiments(clone):
    run(clone, "dvc", "repro", compiles=True)
    scores = json.loads((clone / "metrics" / "eval.json").read_text())
    assert scores["n"] == 22
    assert scores["hard_test"]["n"] == 13
    assert set(scores["by_class"]) >= {"weather", "no_tool", "multi_tool"}
    predictions = [json.loads(line) for line in (clone / "data" / "predictions.jsonl").read_text().splitlines()]
    assert len(predictions) == 22
    assert all(0 <= prediction["confidence"] <= 1 for prediction in predictions)
    for part in (scores, scores["hard_test"]):
        assert 0 <= part["confidence"]["ece"] <= 1
        assert len(part["confidence"]["escalation"]) == 7
    risks = (clone / "metrics" / "plots" / "risk_coverage.csv").read_text()
    assert risks.startswith("split,coverage,risk,confidence\ntest,")
    assert "\nhard_test,1.0," in risks
    assert not (clone / "models" / "checkpoints").exists()
    assert "step,split,loss" in (clone / "metrics" / "plots" / "loss.csv").read_text()
    commit(clone)

    assert "Data and pipelines are up to date" in run(clone, "dvc", "repro")
    assert_exported(clone)
    table = run(clone, sys.executable, "-m", "toolforge.summary", "metrics", "models/adapter", "models/router")
    assert "tools right" in table
    assert "adapter: models/adapter" in table
    assert "router: models/router" in table

    light = [
        clone / "data" / name
        for name in ("seeds.jsonl", "queries.jsonl", "teacher.jsonl", "split/train.jsonl", "split/test.jsonl")
    ]
    before = [path.read_bytes() for path in light]
    run(clone, "dvc", "repro", "--force", "--single-item", "templates", "teacher", "split")
    assert [path.read_bytes() for path in light] == before

    run(clone, "dvc", "exp", "run", "-n", "wider", "-S", "lora.r=4", "eval")
    config = json.loads((clone / "models" / "adapter" / "adapter_config.json").read_text())
    assert config["r"] == 4
    assert "wider" in run(clone, "dvc", "exp", "show", "--csv")
    # Three steps change no answer, but the loss.
    changed = run(clone, "dvc", "metrics", "diff", "HEAD")
    assert "metrics/train.json" in changed
    assert "val_loss" in changed


def test_ablations_run_what_is_not_there_and_compare_all(clone):
    # What the clone has run is in DVC's cache: r=16, and, by the experiment, r=4.
    run(clone, "git", "checkout", "-q", ".")
    params = yaml.safe_load((clone / "params.yaml").read_text())
    params["ablations"] = {"common": {}, "reference": "as-it-is", "runs": {"as-it-is": {}, "r-4": {"lora.r": 4}}}
    (clone / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    commit(clone)
    read = ("metrics/train.json", "metrics/eval.json", "data/predictions.jsonl", "data/hard_predictions.jsonl")
    command = (sys.executable, "-m", "toolforge.ablations", *read, "metrics/ablations.csv")
    said = run(clone, *command)
    assert "r-4 runs (2 of 2)" in said
    rows = (clone / "metrics" / "ablations.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in rows] == ["run", "as-it-is", "r-4"]
    assert "lora.r=4" in rows[2]
    again = run(clone, *command)
    assert "r-4 is there (2 of 2)" in again
    assert "runs (" not in again
    assert (clone / "metrics" / "ablations.csv").read_text().splitlines() == rows
    params["ablations"]["runs"]["r-4"] = {"lora.r": 8}
    (clone / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    changed = run(clone, *command, fails=True)
    assert "error: ablations: r-4 is there, and was run with other lora settings" in changed
    run(clone, "git", "checkout", "-q", "params.yaml")


def test_the_notebook_runs_from_a_clone_to_a_router(clone, tmp_path, monkeypatch):
    # The export runs anew, what is before it is in the cache; the other run trains nothing that is not there.
    for name, change in (("tiny", "export.systems_every=50"), ("wide", "lora.r=4")):
        (clone / "recipes" / name).write_text(f"--name {name}\n-S {change}\n")
    commit(clone)
    # What the notebook installs is here already, and what the clone has run need not run again.
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "config"))
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config").write_text(f"[cache]\n    dir = {clone / '.dvc' / 'cache'}\n")
    settings = {"PYTHONPATH": tmp_path / "toolforge" / "src", "GEMINI_API_KEYS": "", **UNCOMPILED}
    for name, value in settings.items():
        monkeypatch.setenv(name, str(value))
    run(tmp_path, "git", "clone", "-q", clone, "toolforge")
    (tmp_path / "toolforge" / ".venv").mkdir()
    for path in Path(sys.prefix).iterdir():
        if path.name != "ready":
            (tmp_path / "toolforge" / ".venv" / path.name).symlink_to(path)
    (tmp_path / "toolforge" / ".venv" / "ready").touch()
    notebook = nbformat.read(ROOT / "notebooks" / "kaggle.ipynb", as_version=4)
    cell = next(cell for cell in notebook.cells if cell.source.startswith("REPOSITORY"))
    cell.source = f'REPOSITORY = "{clone}"; RECIPE = "recipes/tiny"; ABLATION = ["recipes/wide"]'
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(out.get("text", "") for cell in notebook.cells for out in cell.get("outputs", []))
    assert "verdict" in printed and "router: models/router" in printed
    assert "[tiny]" in printed and "[wide]" in printed
    names = zipfile.ZipFile(tmp_path / "toolforge" / "router.zip").namelist()
    assert {"model.gguf", "tools.json", "prior.json", "router.json"} <= set(names)
    config = json.loads((tmp_path / "toolforge" / "models" / "adapter" / "adapter_config.json").read_text())
    assert config["r"] == 16


def assert_exported(clone):
    """The router's folder is whole, and what it answers keeps to the catalogue."""
    router = clone / "models" / "router"
    assert {path.name for path in router.iterdir()} == {
        "MODEL_CARD.md", "Modelfile", "README.md", "model.gguf", "prior.json", "router.json", "tools.json",
    }  # fmt: skip
    figures = json.loads((clone / "metrics" / "export.json").read_text())
    assert figures["accuracy"]["exported"]["n"] == figures["n"]
    assert len(figures["systems"]) == 4
    code = (
        "from toolforge import Router; router = Router.load('models/router')\n"
        "routing = router.route('weather in Oslo'); assert not router.catalogue.fault(routing.calls), routing"
    )
    run(clone, sys.executable, "-c", code)


def test_the_adapter_loads_by_its_own_config_and_answers_outside_files(clone):
    """What outsiders do: transformers and peft on the folder alone, and eval on a file without labels."""
    code = (
        "from peft import AutoPeftModelForCausalLM; from transformers import AutoTokenizer\n"
        "model = AutoPeftModelForCausalLM.from_pretrained('models/adapter')\n"
        "tokenizer = AutoTokenizer.from_pretrained('models/adapter')\n"
        "ids = tokenizer.apply_chat_template([{'role': 'user', 'content': 'hi'}], add_generation_prompt=True, return_tensors='pt', return_dict=True)\n"
        "print('generated', model.generate(**ids, max_new_tokens=3).shape)"
    )
    assert "generated" in run(clone, sys.executable, "-c", code)
    (clone / "outside.jsonl").write_text(
        '{"query": "weather in Oslo", "note": 1}\n{"id": 7, "query": "\\u00e9\\u2028?"}\n'
    )
    run(clone, sys.executable, "-m", "toolforge.stages.eval", "models/adapter", "outside.jsonl", "out")
    found = [json.loads(line) for line in (clone / "out" / "predictions.jsonl").read_text().split("\n") if line]
    assert [row["id"] for row in found] == ["1", "7"]
    assert [row["calls"] for row in found] == [None, None]
    assert json.loads((clone / "out" / "eval.json").read_text()) == {"rows": 2}
