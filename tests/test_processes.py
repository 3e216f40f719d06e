"""Several processes train what one does: the train stage on the default base, over gloo."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from toolforge.records import Example, ToolCall, write_jsonl

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow

PLACES = ("Tromsø", "Kirkwall", "Whitby", "Ouagadougou", "Hay-on-Wye", "Szeged", "Puno", "Nan")
ROWS = [
    Example(
        id=str(n),
        query=f"{'so ' * n}do I need an umbrella in {PLACES[n]}?" if n % 3 else f"thanks, that is all {n}",
        calls=[ToolCall(name="weather", arguments={"location": PLACES[n]})] if n % 3 else [],
        source="authored",
        group=str(n),
    )
    for n in range(8)
]


def train(folder: Path, *launch: str, **changes: int) -> tuple[pd.DataFrame, str]:
    """The losses of a run of three steps, each over all 8 rows, and what it printed."""
    folder.mkdir()
    document = yaml.safe_load((ROOT / "params.yaml").read_text())
    document["train"] |= {
        "max_steps": 3, "logging_steps": 1, "eval_steps": 3, "save_steps": 3, "warmup_steps": 1,
        "per_device_train_batch_size": 8, **changes,
    }  # fmt: skip
    document["tracking"]["wandb"] = "disabled"
    (folder / "params.yaml").write_text(yaml.safe_dump(document))
    write_jsonl(folder / "train.jsonl", ROWS)
    write_jsonl(folder / "val.jsonl", ROWS)
    # No compiler: for three steps it is not worth its minute.
    path = str(folder / "bin")
    (folder / "bin").mkdir()
    done = subprocess.run(
        [
            sys.executable, *launch, "-m", "toolforge.stages.train", ROOT / "data" / "tools.json",
            ROOT / "data" / "systems.yaml", "train.jsonl", "val.jsonl", "adapter", "checkpoints", "loss.csv", "train.json",
        ],
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    printed = done.stdout + done.stderr
    if changes:
        assert done.returncode != 0
        return pd.DataFrame(), printed
    assert done.returncode == 0, printed
    assert not (folder / "checkpoints").exists()
    assert json.loads((folder / "train.json").read_text())["steps"] == 3
    return pd.read_csv(folder / "loss.csv"), printed


TWO = ("-m", "torch.distributed.run", "--nproc-per-node", "2")


def test_two_processes_learn_what_one_does(tmp_path):
    alone, _ = train(tmp_path / "one")
    both, printed = train(tmp_path / "two", *TWO)
    assert printed.count("adapter in adapter") == 1
    assert list(both["split"]) == list(alone["split"]) == ["train", "train", "train", "val"]
    # The loss falls by more than the two differ by; without shared gradients or with another scale they would part.
    assert alone["loss"].iloc[0] - alone["loss"].iloc[2] > 0.5
    assert list(both["loss"]) == pytest.approx(list(alone["loss"]), rel=0.03)
    files = [sorted(path.name for path in (tmp_path / name / "adapter").iterdir()) for name in ("one", "two")]
    assert files[0] == files[1] and "adapter_model.safetensors" in files[0]


def test_rows_that_cannot_be_shared_are_refused(tmp_path):
    _, printed = train(tmp_path / "odd", *TWO, per_device_train_batch_size=7)
    assert "2 processes cannot share the 7 rows of a step evenly" in printed
    assert not (tmp_path / "odd" / "loss.csv").exists()
