"""The GPU's benchmark is ready: on small shapes it runs through wherever it is, and without a GPU it says so."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from toolforge.records import Example, ToolCall, write_jsonl

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


def bench(folder, *options):
    # No compiler: for a few steps it is not worth its minute.
    path = folder / "bin"
    path.mkdir()
    rows = [
        Example(
            id=str(n), query=f"do I need umbrella number {n} in Tromsø, or in any of the towns near it?", source="authored",
            calls=[ToolCall(name="weather", arguments={"location": "Tromsø"})], group=str(n),
        )
        for n in range(24 * 80)
    ]  # fmt: skip
    write_jsonl(folder / "train.jsonl", rows)
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu.py", folder / "train.jsonl", folder / "out.json", *options],
        cwd=ROOT,
        env={**os.environ, "PATH": str(path), "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_both_ways_of_training_are_measured_on_the_same_rows_at_equal_loss(tmp_path):
    bench(tmp_path, "--tiny")
    tiny = json.loads((tmp_path / "out.json").read_text())["tiny"]
    assert set(tiny) == {"long_rows", "train_rows"}
    for found in tiny.values():
        ours, plain = found["toolforge"], found["plain_trl"]
        assert ours["loss_of_last_steps"] == pytest.approx(plain["loss_of_last_steps"], rel=0.02)
        assert ours["tokens_per_second"] > 0 and ours["share_of_peak"] > 0
        assert found["ratio"] == pytest.approx(ours["tokens_per_second"] / plain["tokens_per_second"], abs=0.01)


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU")
def test_without_a_gpu_one_line_says_so(tmp_path):
    assert bench(tmp_path).splitlines()[-1] == "bench-gpu: no GPU here; nothing is measured"
    assert not (tmp_path / "out.json").exists()
