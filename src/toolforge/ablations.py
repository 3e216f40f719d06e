"""The ablations of params.yaml as DVC experiments, one after the other, and what they say: `make ablations`.

Each run is the experiment of its name on the current commit: `dvc exp show` lists it, `dvc exp apply` brings it back, and a run that is there is not
run again. DVC's queue is not used: with several workers it hangs.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dvc.api
import pandas as pd
import yaml
from dvc.utils.hydra import apply_overrides
from pydantic import JsonValue

from toolforge import paired, scoring
from toolforge.errors import InputError, run
from toolforge.params import PARAMS, Params, load_params
from toolforge.records import Prediction, read_yaml, write_text

STAGE = "eval"
Changes = dict[str, JsonValue]


class AblationsParams(Params):
    """The changes to params.yaml by run, written as `-S` takes them; `common` holds those of all runs. Every run is compared with `reference`."""

    common: Changes
    reference: str
    runs: dict[str, Changes]


def overrides(changes: Mapping[str, JsonValue]) -> list[str]:
    """The changes as arguments of `dvc exp run`: values as JSON, which Hydra reads too, and `++` also for keys that params.yaml leaves to the library."""
    return [part for key, value in changes.items() for part in ("-S", f"++{key}={json.dumps(value)}")]


def finished() -> dict[str, str]:
    """The current commit's experiments: the revision of each name, by which a branch or a tag may be called, too."""
    names, revisions = (_dvc("exp", "list", what, capture=True).split() for what in ("--name-only", "--sha-only"))
    return dict(zip(names, revisions, strict=True))


def check(name: str, revision: str, changes: Mapping[str, JsonValue]) -> None:
    """Raises InputError where a run that is there was made with other params than it would be made with now: its figures would stand
    beside the wrong settings.
    """
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(shutil.copy(PARAMS, scratch))
        # As `dvc exp run -S` would write them.
        apply_overrides(path, overrides(changes)[1::2])
        wanted = read_yaml(path)
    were = yaml.safe_load(dvc.api.read(str(PARAMS), rev=revision))
    for section in wanted:
        # Which other runs there are does not count.
        if section != "ablations" and wanted[section] != were.get(section):
            raise InputError(
                f"ablations: {name} is there, and was run with other {section} settings than params.yaml has now; to run it anew: dvc exp remove {name}"
            )


def experiment(name: str, changes: Mapping[str, JsonValue]) -> None:
    """Run one, in a folder of its own, up to the evaluation. Raises InputError where it fails; its own words stand above."""
    _dvc("exp", "run", "--temp", "-n", name, *overrides(changes), STAGE)


def _dvc(*arguments: str, capture: bool = False) -> str:
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], capture_output=capture, text=True, check=False)
    if done.returncode:
        said = (done.stderr or "").strip().splitlines()
        raise InputError(f"ablations: dvc {' '.join(arguments)} failed{': ' + said[-1] if said else ''}")
    return done.stdout or ""


@dataclass(frozen=True)
class Result:
    """What an experiment measured, and its predictions for test and hard_test together."""

    train: Mapping[str, Any]
    scores: Mapping[str, Any]
    predictions: Sequence[Prediction]


def result(revision: str, train: Path, scores: Path, predictions: Sequence[Path]) -> Result:
    """That of an experiment, from its revision's files."""

    def read(path: Path) -> str:
        return str(dvc.api.read(path.as_posix(), rev=revision, encoding="utf-8"))

    rows = [Prediction.model_validate_json(line) for path in predictions for line in read(path).split("\n") if line]
    return Result(json.loads(read(train)), json.loads(read(scores)), rows)


def row(
    name: str,
    changes: Mapping[str, JsonValue],
    found: Result,
    reference: Result,
) -> dict[str, Any]:
    """One run's line of the table. `only_here` and `only_reference` count the rows, of test and hard_test, of which one of the two has all calls
    right and the other has not, and `p` is McNemar's for them. Raises InputError where the two did not answer the same rows.
    """
    if [one.id for one in found.predictions] != [one.id for one in reference.predictions]:
        raise InputError(f"ablations: {name} and the reference did not answer the same rows")
    pairs = paired.compare(scoring.corrects(found.predictions), scoring.corrects(reference.predictions))
    test, train = found.scores, found.train
    accuracies = {
        f"{prefix}{key}": part[key]
        for prefix, part in (("", test), ("hard_", test["hard_test"]))
        for metric in ("tool_accuracy", "call_accuracy")
        for key in (metric, f"{metric}_low", f"{metric}_high")
    }
    return {
        "run": name,
        "changes": " ".join(f"{key}={json.dumps(value)}" for key, value in changes.items()),
        "n": test["n"],
        "hard_n": test["hard_test"]["n"],
        **accuracies,
        "only_here": pairs.only_one,
        "only_reference": pairs.only_other,
        "p": pairs.p,
        "val_loss": train["val_loss"],
        "steps": train["steps"],
        "minutes": round(train["seconds"] / 60, 1),
    }


def table(rows: pd.DataFrame) -> str:
    """The runs as a Markdown table, for the terminal and for the README. `*` marks a difference that holds (p < 0.01)."""
    accuracy = {
        title: [
            f"{100 * one[key]:.1f} [{100 * one[key + '_low']:.1f}, {100 * one[key + '_high']:.1f}]"
            for _, one in rows.iterrows()
        ]
        for title, key in (
            ("tools", "tool_accuracy"),
            ("calls", "call_accuracy"),
            ("hard tools", "hard_tool_accuracy"),
            ("hard calls", "hard_call_accuracy"),
        )
    }
    p = [f"{value:.3g}{'*' if value < 0.01 else ''}" for value in rows["p"]]
    shown = pd.DataFrame(
        {
            "run": rows["run"],
            "changes": rows["changes"],
            **accuracy,
            "p": p,
            "val loss": rows["val_loss"],
            "min": rows["minutes"],
        }
    )
    return str(shown.to_markdown(index=False, disable_numparse=True))


def main() -> None:
    """Run what is not there yet, and write and print the table of all."""
    parser = argparse.ArgumentParser(prog="toolforge.ablations", description=__doc__)
    parser.add_argument("train", type=Path, help="where the experiments' training figures lie")
    parser.add_argument("scores", type=Path, help="and their scores")
    parser.add_argument("predictions", type=Path, nargs="+", help="and their predictions")
    parser.add_argument("out", type=Path, help="the table as CSV")
    paths = parser.parse_args()
    params = load_params("ablations", AblationsParams)
    if params.reference not in params.runs:
        raise InputError(f"params.yaml: ablations.reference: no run is called {params.reference!r}")
    there = finished()
    for number, (name, changes) in enumerate(params.runs.items(), 1):
        if name in there:
            check(name, there[name], {**params.common, **changes})
            print(f"ablations: {name} is there ({number} of {len(params.runs)})")
            continue
        print(f"ablations: {name} runs ({number} of {len(params.runs)})", flush=True)
        experiment(name, {**params.common, **changes})
    there = finished()
    results = {name: result(there[name], paths.train, paths.scores, paths.predictions) for name in params.runs}
    reference = results[params.reference]
    rows = pd.DataFrame([row(name, params.runs[name], found, reference) for name, found in results.items()])
    write_text(paths.out, rows.to_csv(index=False, lineterminator="\n"))
    print(table(rows))


if __name__ == "__main__":
    run(main)
