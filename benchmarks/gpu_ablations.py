"""The ablations of params.yaml where there is a GPU: several at once on it, each in a folder of its own, without DVC.

    python benchmarks/gpu_ablations.py 5 metrics/gpu_ablations.csv

Needs what `dvc repro split` makes. Each run is split (where its changes touch it), train and eval with the changes, as `make ablations` runs them one after the
other; the table is the same, its minutes those of a run beside the others. `seconds` of the whole grid stand on the last line.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from toolforge.ablations import AblationsParams, Changes, Result, row, table
from toolforge.errors import InputError, run
from toolforge.params import load_params
from toolforge.records import Prediction, read_rows, write_text

DATA = Path("data").resolve()
SETTINGS = Path("params.yaml").resolve()
SPLIT = ("tools.json", "authored", "teacher.jsonl", "seeds.jsonl")


def changed(changes: Changes) -> str:
    """params.yaml with the changes."""
    document: dict[str, Any] = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
    document["tracking"]["wandb"] = "disabled"
    for key, value in changes.items():
        *sections, last = key.split(".")
        place = document
        for section in sections:
            place = place[section]
        place[last] = value
    return yaml.safe_dump(document)


def experiment(name: str, changes: Changes, folder: Path) -> Result:
    """Run one in its folder. Raises InputError, with the end of what it printed, for a stage that fails."""
    folder.mkdir(parents=True)
    (folder / "params.yaml").write_text(changed(changes), encoding="utf-8")

    def stage(module: str, *arguments: str | Path) -> None:
        done = subprocess.run(
            [sys.executable, "-m", f"toolforge.stages.{module}", *arguments],
            cwd=folder, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "OMP_NUM_THREADS": "2"},
        )  # fmt: skip
        if done.returncode:
            raise InputError(f"{name}, {module}: {done.stdout[-3000:]}")

    split = DATA / "split"
    if any(key.startswith("split.") for key in changes):
        stage("split", *(DATA / file for file in SPLIT), "split", "data.json")
        split = folder / "split"
    stage(
        "train", DATA / "tools.json", DATA / "systems.yaml", split / "train.jsonl", split / "val.jsonl",
        "adapter", "checkpoints", "loss.csv", "train.json",
    )  # fmt: skip
    stage("eval", "adapter", split / "test.jsonl", "scores", "--hard-test", split / "hard_test.jsonl")
    print(f"{name} is done", flush=True)
    predictions = [
        one
        for file in ("predictions", "hard_predictions")
        for one in read_rows(folder / "scores" / f"{file}.jsonl", Prediction)
    ]
    train, scores = (json.loads((folder / file).read_text()) for file in ("train.json", "scores/eval.json"))
    return Result(train, scores, predictions)


def main() -> None:
    """Run all, and write and print their table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("at_once", type=int, help="runs that share the GPU")
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    params = load_params("ablations", AblationsParams)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(options.at_once) as pool:
        waiting = {
            name: pool.submit(experiment, name, {**params.common, **changes}, Path(scratch) / name)
            for name, changes in params.runs.items()
        }
        results = {name: one.result() for name, one in waiting.items()}
    reference = results[params.reference]
    rows = pd.DataFrame([row(name, params.runs[name], found, reference) for name, found in results.items()])
    write_text(options.out, rows.to_csv(index=False, lineterminator="\n"))
    print(table(rows))
    print(f"{len(rows)} runs, {options.at_once} at once: {time.monotonic() - start:.0f} seconds")


if __name__ == "__main__":
    run(main)
