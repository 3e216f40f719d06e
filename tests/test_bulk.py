"""A file of queries: kept keys, faults with their place, and a run that goes on where another stopped."""

import fcntl
import json
import subprocess
import sys

import pytest

from echoing import ROOT, TOO_LONG, echo_router
from toolforge.bulk import route_file
from toolforge.errors import InputError

ROWS = [
    {"id": "a", "query": "Tromsø", "calls": [], "more": {"n": [1, 2.5, None]}},
    {"id": "b", "query": "hi"},
    {"id": "c", "query": "Oslo and Rome"},
]


@pytest.fixture
def files(tmp_path):
    source, target = tmp_path / "in.jsonl", tmp_path / "new" / "out.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return source, target


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Counting:
    """A router that says how often it was asked, and is interrupted at a query."""

    def __init__(self, stop=None):
        self.router, self.asked, self.stop = echo_router(), [], stop

    def route(self, query, threshold):
        if query == self.stop:
            raise KeyboardInterrupt
        self.asked.append(query)
        return self.router.route(query, threshold)


def test_a_second_run_says_that_all_is_answered_and_asks_nothing(files, capsys):
    route_file(echo_router(), *files, threshold=0.8)
    assert capsys.readouterr().err == ""
    before, again = files[1].read_bytes(), Counting()
    route_file(again, *files, threshold=0.1)
    assert (files[1].read_bytes(), again.asked) == (before, [])
    assert capsys.readouterr().err.startswith(f"{files[1]}: 3 of 3 rows are answered already")


def test_every_row_keeps_its_keys_and_gets_its_routing(files):
    route_file(echo_router(), *files, threshold=0.8)
    out = rows(files[1])
    assert [{key: row[key] for key in row if key != "routing"} for row in out] == ROWS
    assert [[call["arguments"]["location"] for call in row["routing"]["calls"]] for row in out] == [
        ["Tromsø"], [], ["Oslo", "Rome"],
    ]  # fmt: skip
    assert all(row["routing"]["escalate"] for row in out)


@pytest.mark.parametrize(
    "torn", ["", "{", '{"query": "Os', '{"query": "Oslo and Rome", "id": "c", "routing": {"calls": [{"name": "wea']
)
def test_a_run_that_was_cut_off_goes_on_and_ends_as_if_it_had_not_been(files, torn):
    with pytest.raises(KeyboardInterrupt):
        route_file(Counting(stop="Oslo and Rome"), *files, threshold=None)
    files[1].write_text(files[1].read_text() + torn)
    second, third = Counting(), Counting()
    route_file(second, *files, threshold=None)
    route_file(third, *files, threshold=None)
    assert (second.asked, third.asked) == (["Oslo and Rome"], [])
    assert [row["query"] for row in rows(files[1])] == [row["query"] for row in ROWS]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "in.jsonl:4: Invalid JSON"),
        ('{"text": "Oslo"}', "in.jsonl:4: query: Field required"),
        ('{"query": 7}', "in.jsonl:4: query: Input should be a valid string"),
        ('{"query": "too long"}', f"in.jsonl:4: {TOO_LONG}"),
        ('{"query": " "}', "in.jsonl:4: the query is empty"),
    ],
)
def test_a_bad_row_is_said_with_file_and_line(files, line, says):
    source, target = files
    source.write_text(source.read_text() + line + "\n")
    with pytest.raises(InputError, match=says):
        route_file(echo_router(), source, target, threshold=None)


@pytest.mark.parametrize("there", ["in.jsonl", "other.jsonl", "longer.jsonl"])
def test_an_output_that_answers_something_else_is_left_alone(files, there):
    source, target = files
    route_file(echo_router(), source, target, threshold=None)
    done = target.read_text()
    output = source.parent / there
    if there == "other.jsonl":
        output.write_text(done.replace("Tromsø", "Narvik"))
    if there == "longer.jsonl":
        output.write_text(done + done.splitlines(keepends=True)[-1])
    before = output.read_bytes()
    with pytest.raises(InputError, match=there):
        route_file(echo_router(), source, output, threshold=None)
    assert output.read_bytes() == before


@pytest.mark.parametrize(
    "text",
    [
        # A file of queries, one of notes, an answer to another row, and one that answers all and goes on: none ends with a line's end.
        json.dumps(ROWS[0]),
        "\n".join(map(json.dumps, ROWS)),
        "remember the milk",
        '{"query": "Narvik", "id": "a", "routing": {"ca',
        '{"query": "Tromsø", "id": "z", "calls": [], "rout',
    ],
)
def test_a_file_that_is_no_output_is_left_as_it_is(files, text):
    source, target = files
    target.parent.mkdir()
    target.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="out.jsonl"):
        route_file(echo_router(), source, target, threshold=None)
    assert target.read_text(encoding="utf-8") == text


def test_a_source_that_is_named_as_its_own_output_loses_nothing(files):
    source, _ = files
    source.write_text(source.read_text().removesuffix("\n"))
    before = source.read_bytes()
    with pytest.raises(InputError, match="in.jsonl:1: routing"):
        route_file(echo_router(), source, source, threshold=None)
    assert source.read_bytes() == before


def test_answers_to_rows_that_have_other_keys_now_are_not_taken_for_theirs(files):
    source, target = files
    route_file(echo_router(), source, target, threshold=None)
    source.write_text(source.read_text().replace('"b"', '"B"'))
    with pytest.raises(InputError, match=r"out.jsonl:2: does not answer .*in.jsonl:2"):
        route_file(echo_router(), source, target, threshold=None)


def test_an_output_can_be_routed_again(files):
    source, target = files
    route_file(echo_router(), source, target, threshold=0.0)
    route_file(echo_router(), target, target.with_name("again.jsonl"), threshold=1.0)
    assert [row["routing"]["escalate"] for row in rows(target.with_name("again.jsonl"))] == [True] * 3


def test_a_second_run_beside_the_first_is_refused_and_writes_nothing(files):
    route_file(echo_router(), *files, threshold=None)
    before = files[1].read_bytes()
    with files[1].open("a") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="out.jsonl: another run is writing it"):
            route_file(echo_router(), *files, threshold=None)
    assert files[1].read_bytes() == before


def test_a_row_that_holds_nan_is_gone_on_behind(files):
    files[0].write_text('{"query": "Oslo", "score": NaN}\n{"query": "hi"}\n')
    with pytest.raises(KeyboardInterrupt):
        route_file(Counting(stop="hi"), *files, threshold=None)
    second = Counting()
    route_file(second, *files, threshold=None)
    assert second.asked == ["hi"]


def test_the_output_may_be_a_pipe(files):
    code = (
        "import sys; from pathlib import Path; from echoing import echo_router; from toolforge.bulk import route_file\n"
        "route_file(echo_router(), Path(sys.argv[1]), Path('/dev/stdout'), None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, files[0]],
        cwd=ROOT / "tests",
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert [json.loads(line)["query"] for line in done.stdout.splitlines()] == [row["query"] for row in ROWS]
