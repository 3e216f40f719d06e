"""The command line: `toolforge route`, `toolforge serve`, `toolforge label`, `toolforge doctor`."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolforge.errors import run

if TYPE_CHECKING:
    from toolforge.router import Routing

# What a command needs is imported inside it: `toolforge route` waits for no server, and no command for torch.
# D301 asks for raw docstrings, but click's \b, which keeps the lines below it as they are, is the character.

FILE = click.Path(path_type=Path)


class Number(click.FloatRange):
    """A number within bounds. Click's own lets NaN pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is no number", param, ctx)
        return number


router_option = click.option(
    "--router", "folder", type=FILE, default=Path("models/router"), show_default=True, help="The router's folder."
)
threshold_option = click.option(
    "--threshold", type=Number(0, 1), help="Escalate below this confidence. [default: the router's own]"
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="toolforge")
def main() -> None:
    """Route an agent's queries to its tools.

    \b
    toolforge route "weather in Oslo and 20 C in F"
    toolforge serve --port 8000

    Exit codes: 0 done; 1 bad input, in one line on stderr; 2 wrong usage; 130 interrupted.

    \b
    Shell completion, for bash (or zsh_source, fish_source):
    eval "$(_TOOLFORGE_COMPLETE=bash_source toolforge)"
    """  # noqa: D301


@main.command()
@click.argument("query", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text for people.")
@click.option("--input", "source", type=FILE, help="JSONL rows that have a `query`; their other keys are kept.")
@click.option("--output", "target", type=FILE, help="The same rows with a `routing`. An earlier run is gone on with.")
@router_option
@threshold_option
def route(
    query: str | None, as_json: bool, source: Path | None, target: Path | None, folder: Path, threshold: float | None
) -> None:
    """Say which tools a QUERY calls, or those of each row of a file.

    \b
    toolforge route "weather in Oslo and 20 C in F"
    toolforge route --json "define laconic" | jq .calls
    toolforge route --input queries.jsonl --output routed.jsonl
    """  # noqa: D301
    if (query is None) == (source is None):
        raise click.UsageError("give either a QUERY or --input and --output")
    if (source is None) != (target is None):
        raise click.UsageError("--input and --output go together")

    def command() -> None:
        from toolforge.router import Router

        router = Router.load(folder)
        limit = router.threshold if threshold is None else threshold
        if source and target:
            from toolforge.bulk import route_file

            route_file(router, source, target, limit)
        elif query is not None:
            routing = router.route(query, limit)
            click.echo(json.dumps(routing.model_dump(), ensure_ascii=False) if as_json else _for_people(routing))

    run(command)


def _for_people(routing: "Routing") -> str:
    calls = []
    for call in routing.calls:
        values = (f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in call.arguments.items())
        calls.append(f"{click.style(call.name, bold=True)}({', '.join(values)})")
    sure = f"confidence {routing.confidence:.2f}, {routing.milliseconds:.0f} ms"
    if routing.escalate:
        sure = click.style(f"{sure}, below the threshold: ask a bigger model", fg="yellow")
    return "\n".join([*(calls or ["no tool"]), sure])


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option("--api-key", envvar="TOOLFORGE_API_KEY", show_envvar=True, help="What clients of /v1 have to send.")
@click.option("--queue", type=click.IntRange(1), default=64, show_default=True, help="How many queries may wait.")
@click.option("--timeout", type=Number(0, 86400, min_open=True), default=30, show_default=True, help="In seconds.")
@click.option("--max-body", type=click.IntRange(1), default=1 << 20, show_default=True, help="In bytes.")
@router_option
@threshold_option
def serve(
    host: str,
    port: int,
    api_key: str | None,
    queue: int,
    timeout: float,
    max_body: int,
    folder: Path,
    threshold: float | None,
) -> None:
    """Serve OpenAI's /v1/chat/completions, and a page to try it at /.

    \b
    toolforge serve
    TOOLFORGE_API_KEY=secret toolforge serve --host 0.0.0.0

    SIGTERM ends it once every accepted request is answered.
    """  # noqa: D301

    def command() -> None:
        from toolforge import server
        from toolforge.router import Router

        router = Router.load(folder)
        limit = router.threshold if threshold is None else threshold
        settings = server.Settings(limit, api_key, queue, timeout, max_body)
        server.serve(router, host, port, settings)

    run(command)


@main.command()
@click.option(
    "--dry-run", is_flag=True, help="Print the requests, tokens and cost that a run would take, and ask nothing."
)
@click.option("--queries", type=FILE, default=Path("data/queries.jsonl"), show_default=True)
@click.option("--store", type=FILE, default=Path("data/recorded.jsonl"), show_default=True)
@click.option("--out", type=FILE, default=Path("data/teacher.jsonl"), show_default=True)
@click.option("--tools", type=FILE, default=Path("data/tools.json"), show_default=True)
@click.option("--labels", type=FILE, default=Path("data/LABELS.md"), show_default=True)
def label(dry_run: bool, **files: Path) -> None:
    """Label the queries as params.yaml's `teacher` section says, without DVC around it.

    \b
    toolforge label --dry-run
    toolforge label --queries mine.jsonl --store mine.store.jsonl --out mine.labels.jsonl
    """  # noqa: D301

    def command() -> None:
        from toolforge.params import load_params
        from toolforge.stages import teacher

        params, paths = load_params("teacher", teacher.TeacherParams), teacher.Paths(**files)
        if dry_run:
            click.echo(teacher.dry_run(paths, params))
        else:
            teacher.label(paths, params)

    run(command)


@main.command()
@click.argument("recipe", type=FILE, required=False)
def doctor(recipe: Path | None) -> None:
    """Say what is here, and whether the training of params.yaml, or of a RECIPE upon it, fits its memory.

    \b
    toolforge doctor
    toolforge doctor recipes/qwen7b-r64
    """  # noqa: D301

    def command() -> None:
        from toolforge import doctor, student

        student.quiet()
        click.echo(doctor.report(recipe))

    run(command)
