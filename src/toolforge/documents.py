"""What the stages wrote, read for people: a file that lacks is said with the stage that makes it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from toolforge.errors import InputError

# The stage that writes each JSON file of metrics/ that is read here.
STAGES = {"data": "split", "train": "train", "eval": "eval", "export": "export", "baselines": "baselines"}


def written(path: Path, stage: str) -> Path:
    """The path. Raises InputError where no file lies there, naming the stage to run."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; run dvc repro {stage}")
    return path


def read_documents(metrics: Path, names: Iterable[str] = STAGES) -> dict[str, Any]:
    """The documents of metrics/ by name, all of STAGES or those named. Raises InputError for the first that lacks or is no JSON."""
    return {name: _read(written(metrics / f"{name}.json", STAGES[name]), STAGES[name]) for name in names}


def _read(path: Path, stage: str) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path}: no JSON ({error}); run dvc repro {stage}") from None
