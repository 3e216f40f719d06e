"""A scratch clone of the working tree, its data and params shrunk to minutes, and commands in it."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import yaml

from toolforge.records import Example, class_of, read_rows, write_jsonl

ROOT = Path(__file__).parent.parent

# The first training is compiled; for three steps it is not worth its minute and more.
UNCOMPILED = {"TORCHDYNAMO_DISABLE": "1"}

SHRUNK = {
    "templates": {"seeds_per_class": 2, "queries_per_class": 2},
    # Train keeps the templates' rows alone: the audit, the classifiers and the embedding take minutes over all.
    "split": {
        "test_per_class": 2,
        "hard_test_per_suite": 1,
        "val_per_class": 1,
        "val_per_suite": 0,
        "leave_out": ["authored", "hand"],
    },
    # The default's larger steps break the base: what three of them leave does not end its answers.
    "lora": {"r": 16, "lora_alpha": 32, "layers_to_transform": None},
    "train": {
        "learning_rate": 2.0e-3,
        "max_steps": 3,
        "eval_steps": 3,
        "save_steps": 3,
        "logging_steps": 1,
        "warmup_steps": 1,
        "per_device_train_batch_size": 4,
    },
    "prior": {"min_rows": 2},
    "eval": {"max_new_tokens": 24},
    # After three steps few answers end within so many tokens, and the router's may have more: they cannot agree.
    "export": {"max_new_tokens": 24, "queries": 2, "agreement": 0.0, "accuracy_loss": 1.0, "systems_every": 100},
    "baselines": {"latency_queries": 2, "untuned_queries": 2, "answer_tokens": 24},
}


def make(folder):
    """A clone in `folder`, with its own DVC cache and shrunk params, committed."""
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in files:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    thin(folder / "data")
    params = yaml.safe_load((folder / "params.yaml").read_text())
    for section, values in SHRUNK.items():
        params[section].update(values)
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    run(folder, "git", "init", "-q")
    commit(folder)
    return folder


def thin(data):
    """Leave two authored rows of each class and suite in each file, each of a group of its own, and 100 unlabelled queries."""
    for path in (data / "authored").glob("*.jsonl"):
        kept, kinds, groups = [], Counter(), set()
        for row in read_rows(path, Example):
            kind = row.suite or class_of(row.calls)
            if kinds[kind] < 2 and row.group not in groups:
                kinds[kind] += 1
                groups.add(row.group)
                kept.append(row)
        write_jsonl(path, kept)
    path = data / "unlabelled.txt"
    path.write_text("\n".join(path.read_text().split("\n")[:100]) + "\n")


def run(folder, *command, fails=False, compiles=False):
    """Run a command in the clone, with the clone's own code, and return what it printed."""
    environment = {
        **os.environ,
        **({} if compiles else UNCOMPILED),
        "PYTHONPATH": str(folder / "src"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t", "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@t",
        "GEMINI_API_KEYS": "",
    }  # fmt: skip
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def commit(folder):
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-q", "-m", "state")
