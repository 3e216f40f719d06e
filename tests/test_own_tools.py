"""The README's worked example: a tenth tool, from its schema to labelled splits."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def block(language: str, holding: str) -> str:
    """The README's code block of this language that holds this text."""
    found = [part.split("```")[0] for part in README.split(f"```{language}\n")[1:] if holding in part.split("```")[0]]
    assert len(found) == 1
    return "\n".join(line.removeprefix("   ") for line in found[0].splitlines())


@pytest.fixture
def repository(tmp_path):
    """The shipped data with the README's tenth tool added."""
    shutil.copytree(ROOT / "data", tmp_path / "data", ignore=shutil.ignore_patterns("split", "*predictions*"))
    shutil.copy(ROOT / "params.yaml", tmp_path)
    data = tmp_path / "data"
    tools = json.loads((data / "tools.json").read_text())
    (data / "tools.json").write_text(json.dumps([*tools, json.loads(block("json", '"function"'))]))
    frames = yaml.safe_load((data / "templates.yaml").read_text())
    (data / "templates.yaml").write_text(yaml.safe_dump({**frames, **yaml.safe_load(block("yaml", "currency:"))}))
    (data / "slots" / "money_name.yaml").write_text(block("yaml", "money_name.yaml"))
    (data / "authored" / "mine.jsonl").write_text(block("json", "mine-1"))
    return tmp_path


def run(folder, stage, fails=False):
    command = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]["cmd"].split()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, *command[1:]], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode != 0) == fails, done.stderr
    return done.stderr


def test_a_tenth_tool_comes_out_as_a_class_of_its_own(repository):
    for stage in ("templates", "teacher", "split"):
        run(repository, stage)
    rows = [json.loads(line) for path in (repository / "data" / "split").glob("*.jsonl") for line in path.open()]
    calls = Counter(call["name"] for row in rows for call in row["calls"])
    assert calls["currency"] >= 30
    assert calls["weather"] >= 500
    (mine,) = [row for row in rows if row["id"] == "mine-1"]
    assert mine["calls"][0]["arguments"] == {"amount": 40, "from": "pounds", "to": "yen"}
    counts = json.loads((repository / "metrics" / "data.json").read_text())
    assert sum(counts[name]["by_class"].get("currency", 0) for name in ("train", "val", "test")) >= 30


def test_a_tool_without_frames_is_said_in_one_line(repository):
    frames = yaml.safe_load((repository / "data" / "templates.yaml").read_text())
    del frames["currency"]
    (repository / "data" / "templates.yaml").write_text(yaml.safe_dump(frames))
    printed = run(repository, "templates", fails=True)
    assert printed.strip() == "error: class 'currency' has no frame"


@pytest.fixture
def authored_alone(repository):
    """Of the data only some authored rows, the tenth tool's among them."""
    for name in ("teacher.jsonl", "seeds.jsonl"):
        (repository / "data" / name).write_text("")
    for path in (repository / "data" / "authored").glob("*.jsonl"):
        path.write_text("".join(line + "\n" for line in path.read_text().split("\n")[:60] if line))
    params = yaml.safe_load((repository / "params.yaml").read_text())
    params["split"].update(test_per_class=2, val_per_class=1)
    (repository / "params.yaml").write_text(yaml.safe_dump(params))
    return repository


def test_a_bad_row_of_ones_own_is_said_with_file_and_line(authored_alone):
    repository = authored_alone
    mine = repository / "data" / "authored" / "mine.jsonl"
    mine.write_text(mine.read_text().replace('"amount": 40', '"amount": "forty"'))
    printed = run(repository, "split", fails=True)
    assert printed.strip() == "error: data/authored/mine.jsonl:1: currency: amount: 'forty' is not of type 'number'"
    assert not (repository / "data" / "split").exists()


def test_a_split_that_would_be_empty_is_said_before_anything_is_trained(authored_alone):
    repository = authored_alone
    (repository / "data" / "authored" / "hard.jsonl").unlink()
    printed = run(repository, "split", fails=True)
    assert printed.startswith("error: data/authored: no row for hard_test; ")
    assert printed.count("\n") == 1
    assert not (repository / "data" / "split").exists()
