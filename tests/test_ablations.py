"""What the ablations are run as and how they compare, on answers laid out by hand."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import yaml

from toolforge import ablations
from toolforge.ablations import Result, overrides, row, table
from toolforge.errors import InputError
from toolforge.records import Prediction, ToolCall

TEST = {f"{metric}{end}": 0.5 for metric in ("tool_accuracy", "call_accuracy") for end in ("", "_low", "_high")} | {
    "n": 8
}
GOLD = [ToolCall(name="weather", arguments={"location": "Oslo"})]


def result(right):
    predictions = [
        Prediction(id=str(n), query="q", calls=GOLD, predicted=GOLD if n in right else [], answer="", confidence=0.5)
        for n in range(12)
    ]
    return Result({"val_loss": 0.25, "steps": 150, "seconds": 90}, {**TEST, "hard_test": {**TEST, "n": 4}}, predictions)


def test_changes_are_what_dvc_takes():
    changes = {"train.learning_rate": 2e-4, "split.leave_out": ["hand"], "student.quantization": "none", "lora.r": 64}
    assert overrides(changes) == [
        "-S", "++train.learning_rate=0.0002", "-S", '++split.leave_out=["hand"]', "-S", '++student.quantization="none"', "-S", "++lora.r=64",
    ]  # fmt: skip


def test_a_run_is_compared_row_by_row_with_the_reference():
    found = row("r64", {"lora.r": 64}, result({0, 1, 2}), result(range(2, 12)))
    assert (found["only_here"], found["only_reference"]) == (2, 9)
    # 2 or fewer of 11, twice: 2 * (1 + 11 + 55) / 2 ** 11.
    assert found["p"] == pytest.approx(0.0654)
    assert (found["run"], found["changes"], found["n"], found["hard_n"]) == ("r64", "lora.r=64", 8, 4)
    assert (found["minutes"], found["val_loss"]) == (1.5, 0.25)


def test_runs_that_answered_other_rows_are_not_compared():
    with pytest.raises(InputError, match="^ablations: r64 and the reference did not answer the same rows$"):
        row("r64", {}, replace(result({0}), predictions=result({0}).predictions[1:]), result({0}))


def test_the_table_marks_what_the_rows_carry():
    lines = [
        row("one", {}, result(range(12)), result(range(12))),
        row("two", {"lora.r": 64}, result(range(12)), result(())),
    ]
    shown = table(pd.DataFrame(lines)).splitlines()
    assert len(shown) == 4
    assert "| 1 " in shown[2] and "*" not in shown[2]
    # 2 / 2 ** 12.
    assert "| 0.000488* |" in shown[3] and "50.0 [50.0, 50.0]" in shown[3]


def test_a_reference_that_is_no_run_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["ablations", "train.json", "eval.json", "predictions.jsonl", "out.csv"])
    document = {"ablations": {"common": {}, "reference": "r9", "runs": {"r16": {}}}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(document))))
    with pytest.raises(InputError, match="no run is called 'r9'$"):
        ablations.main()
