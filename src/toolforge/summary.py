"""The end of `make repro`: the metrics as a short table, and where the adapter and the router lie."""

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from toolforge.documents import read_documents
from toolforge.errors import run


def summary(scores: dict[str, Any]) -> Table:
    """The accuracies of test and hard_test with their Wilson 95 % intervals: overall, then by class or suite."""
    table = Table(title="accuracy, with 95 % intervals")
    for name in ("", "n", "tools right", "tools and arguments right"):
        table.add_column(name, justify="right" if name == "n" else "left")
    hard = scores["hard_test"]
    for title, part, groups in (("test", scores, scores["by_class"]), ("hard_test", hard, hard.get("by_suite", {}))):
        table.add_row(title, *_cells(part), style="bold")
        for name, group in groups.items():
            table.add_row(f"  {name}", *_cells(group))
        table.add_section()
    return table


def _cells(part: dict[str, Any]) -> list[str]:
    return [str(part["n"])] + [
        f"{part[name]:.3f}  [{part[f'{name}_low']:.3f}, {part[f'{name}_high']:.3f}]" if name in part else ""
        for name in ("tool_accuracy", "call_accuracy")
    ]


def main() -> None:
    """Print the table of METRICS/eval.json, one line of METRICS/train.json, and the paths of adapter and router."""
    parser = argparse.ArgumentParser(prog="toolforge.summary", description=__doc__)
    for name in ("metrics", "adapter", "router"):
        parser.add_argument(name, type=Path)
    paths = parser.parse_args()
    documents = read_documents(paths.metrics, ("eval", "train"))
    scores, train = documents["eval"], documents["train"]
    console = Console()
    console.print(summary(scores))
    part = f" from step {train['resumed_at']:,} on" if train["resumed_at"] else ""
    console.print(
        f"parse rate {scores['parse_rate']}, macro F1 {scores['macro_f1']}, no_tool recall {scores['no_tool_recall']}, "
        f"over-refusal {scores['over_refusal']}; trained{part} in {train['seconds'] / 60:.0f} min at {train['tokens_per_second']} tokens/s"
    )
    console.print(f"adapter: {paths.adapter}")
    console.print(f"router: {paths.router}")


if __name__ == "__main__":
    run(main)
