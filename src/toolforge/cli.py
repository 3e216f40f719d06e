"""The command line: `toolforge label`."""

from pathlib import Path

import click

from toolforge.errors import run


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Route an agent's queries to its tools."""


@main.command()
@click.option(
    "--dry-run", is_flag=True, help="Print the requests, tokens and cost that a run would take, and ask nothing."
)
@click.option("--queries", type=click.Path(path_type=Path), default=Path("data/queries.jsonl"), show_default=True)
@click.option("--store", type=click.Path(path_type=Path), default=Path("data/recorded.jsonl"), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("data/teacher.jsonl"), show_default=True)
@click.option("--tools", type=click.Path(path_type=Path), default=Path("data/tools.json"), show_default=True)
@click.option("--labels", type=click.Path(path_type=Path), default=Path("data/LABELS.md"), show_default=True)
def label(dry_run: bool, **files: Path) -> None:
    r"""Label the queries as params.yaml's `teacher` section says, without DVC around it.

    \b
    toolforge label --dry-run
    toolforge label --queries mine.jsonl --store mine.store.jsonl --out mine.labels.jsonl
    """
    # Imported here: another command need not wait for it.
    from toolforge.params import load_params
    from toolforge.stages import teacher

    def command() -> None:
        params, paths = load_params("teacher", teacher.TeacherParams), teacher.Paths(**files)
        if dry_run:
            click.echo(teacher.dry_run(paths, params))
        else:
            teacher.label(paths, params)

    run(command)
