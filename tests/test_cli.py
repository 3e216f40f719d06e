"""The command line as a shell sees it: what is printed where, and the exit code."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import openai
import pytest

from echoing import serving
from few_shot import save_few_shot
from toolforge.router import Router

TOOLFORGE = [sys.executable, "-c", "from toolforge.cli import main; main(prog_name='toolforge')"]


def toolforge(*arguments, **environment):
    return subprocess.run(
        [*TOOLFORGE, *arguments], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def test_help_shows_examples_as_lines_to_copy():
    for command, example in (
        ((), '  toolforge route "weather in Oslo and 20 C in F"\n'),
        (("route",), "  toolforge route --input queries.jsonl --output routed.jsonl\n"),
        (("serve",), "  TOOLFORGE_API_KEY=secret toolforge serve --host 0.0.0.0\n"),
        (("label",), "  toolforge label --dry-run\n"),
        (("doctor",), "  toolforge doctor recipes/qwen7b-r64\n"),
    ):
        done = toolforge(*command, "--help")
        assert done.returncode == 0 and example in done.stdout


def test_the_shell_completes_commands_and_options():
    done = toolforge(_TOOLFORGE_COMPLETE="bash_complete", COMP_WORDS="toolforge route --thr", COMP_CWORD="2")
    assert done.stdout == "plain,--threshold\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["route"],
        ["route", "hi", "--input", "a.jsonl", "--output", "b.jsonl"],
        ["route", "--input", "a.jsonl"],
        ["route", "hi", "--output", "b.jsonl"],
        ["route", "hi", "--threshold", "1.5"],
        ["serve", "--port", "99999"],
        ["serve", "--timeout", "0"],
        ["serve", "--timeout", "inf"],
        ["serve", "--timeout", "nan"],
        ["route", "hi", "--threshold", "nan"],
        ["nothing"],
    ],
)
def test_wrong_usage_is_2(arguments):
    done = toolforge(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: toolforge" in done.stderr


@pytest.mark.parametrize("command", [["route", "hi"], ["serve"]])
def test_a_folder_that_is_no_router_is_1_and_one_line(command, tmp_path):
    done = toolforge(*command, "--router", str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {tmp_path}: no exported router") and done.stderr.count("\n") == 1


def test_route_imports_neither_server_nor_torch():
    script = "import sys; import toolforge.cli, toolforge.router; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "toolforge.router" in loaded
    assert not {"torch", "transformers", "fastapi", "uvicorn", "openai", "rich", "sklearn", "tqdm"} & set(loaded)


slow = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_few_shot(tmp_path_factory.mktemp("router"))


@pytest.fixture(scope="module")
def router(folder):
    return Router.load(folder)


@slow
def test_doctor_says_whether_a_recipe_fits_and_refuses_one_that_is_none(tmp_path):
    done = toolforge("doctor", "recipes/qwen3-0.6b")
    assert done.returncode == 0
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert lines["base"] == "Qwen/Qwen3-0.6B, nf4, 0.596 billion weights"
    assert lines["verdict"].startswith(("fits: at most ", "does not fit: up to "))
    done = toolforge("doctor", str(tmp_path / "none"))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"error: {tmp_path}/none: no such file"


QUERIES = ["weather in Oslo", "thanks", "define laconic", "20 miles in km"]


@slow
def test_route_prints_what_the_router_says(folder, router):
    expected = router.route("weather in Oslo")
    said = toolforge("route", "weather in Oslo", "--router", str(folder), "--json", "--threshold", "1")
    assert (said.returncode, said.stderr) == (0, "")
    answer = json.loads(said.stdout)
    assert answer.pop("milliseconds") > 0
    assert answer == {**expected.model_dump(exclude={"milliseconds"}), "escalate": True}
    people = toolforge("route", "weather in Oslo", "--router", str(folder), "--threshold", "0").stdout.splitlines()
    assert people[:-1] == [f'{call.name}(location="{call.arguments["location"]}")' for call in expected.calls]
    assert people[-1].startswith(f"confidence {expected.confidence:.2f}, ") and people[-1].endswith(" ms")


@slow
def test_a_query_that_cannot_be_answered_is_1_and_one_line(folder):
    done = toolforge("route", " ", "--router", str(folder))
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "error: the query is empty\n")


@slow
def test_a_file_that_was_interrupted_is_130_and_goes_on(folder, router, tmp_path):
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps({"query": query}) + "\n" for query in QUERIES * 5))
    command = ["route", "--input", str(source), "--output", str(target), "--router", str(folder)]
    process = subprocess.Popen([*TOOLFORGE, *command], stderr=subprocess.PIPE, text=True)
    while not target.exists() or not target.read_text():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert (process.communicate()[1], process.returncode) == ("interrupted\n", 130)
    assert 0 < len(target.read_text().splitlines()) < 20
    assert toolforge(*command).returncode == 0
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    expected = {query: router.route(query).model_dump()["calls"] for query in QUERIES}
    assert [row["routing"]["calls"] for row in rows] == [expected[query] for query in QUERIES] * 5


@slow
def test_serve_answers_as_the_router_does_and_ends_at_sigterm(folder, router):
    command = [*TOOLFORGE, "serve", "--port", "0", "--router", str(folder)]
    with serving(*command) as (process, url), openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        for query in QUERIES:
            expected = router.route(query, router.threshold)
            answer = client.chat.completions.create(model="few-shot", messages=[{"role": "user", "content": query}])
            calls = [call.function for call in answer.choices[0].message.tool_calls or []]
            assert [(call.name, json.loads(call.arguments)) for call in calls] == [
                (call.name, call.arguments) for call in expected.calls
            ]
            assert answer.model_extra["toolforge"]["escalate"] == expected.escalate
        process.send_signal(signal.SIGTERM)
        assert (process.wait(timeout=30), process.stderr.read()) == (0, "")


@slow
def test_an_address_that_is_taken_is_1_and_named(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = toolforge("serve", "--port", str(port), "--router", str(folder))
    assert done.returncode == 1
    assert done.stderr.startswith("error: Address already in use") and str(port) in done.stderr
    assert done.stderr.count("\n") == 1


@slow
def test_other_machines_without_a_key_are_warned_about(folder):
    command = [*TOOLFORGE, "serve", "--port", "0", "--host", "0.0.0.0", "--router", str(folder)]
    for environment, warned in (({}, True), ({"TOOLFORGE_API_KEY": "k"}, False)):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})
        lines = [process.stderr.readline()]
        process.kill()
        process.communicate()
        assert lines[0].startswith("warning: 0.0.0.0 can be reached by other machines") == warned
