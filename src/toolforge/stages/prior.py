"""prior: fit how an answer begins to the words of its query, in seconds."""

import argparse
from pathlib import Path

from toolforge.errors import InputError, run
from toolforge.params import load_params
from toolforge.prior import PriorParams, fit
from toolforge.records import Example, read_rows, write_text
from toolforge.tools import load_tools


def main() -> None:
    """Read the train rows; write the prior."""
    parser = argparse.ArgumentParser(prog="toolforge.stages.prior", description=__doc__)
    for name in ("tools", "train", "prior"):
        parser.add_argument(name, type=Path)
    paths = parser.parse_args()
    params = load_params("prior", PriorParams)
    examples = read_rows(paths.train, Example)
    if not examples:
        raise InputError(f"{paths.train}: no row to fit to")
    found = fit(examples, load_tools(paths.tools), params)
    write_text(paths.prior, found.model_dump_json() + "\n")
    print(
        f"prior: {len(found.beginnings)} beginnings by {len(found.weights)} words and pairs of words; in {paths.prior}"
    )


if __name__ == "__main__":
    run(main)
