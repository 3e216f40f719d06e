import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolforge.errors import InputError
from toolforge.records import ToolCall, line
from toolforge.teachers.store import Record, Store, now, request_key


def record(query, model="hand", calls=(), **more):
    more = {"outcome": "label", **more}
    return Record(
        key=request_key(query, "c", model, "p"),
        query=query,
        model=model,
        answer="",
        calls=list(calls) if more["outcome"] == "label" else None,
        tokens=0,
        time=now(),
        **more,
    )


def asked(model):
    return lambda query: [request_key(query, "c", model, "p")]


OSLO = ToolCall(name="weather", arguments={"location": "Oslo"})


def test_what_is_appended_is_there_at_once_and_after_a_restart(tmp_path):
    path = tmp_path / "deep" / "store.jsonl"
    with Store(path, write=True) as store:
        store.append([record("q0", calls=[OSLO]), record("q1", calls=[OSLO])])
        store.append([record("q2", calls=[OSLO])])
        at_once = [store.label(f"q{n}") for n in range(4)]
    again = Store(path)
    assert [again.label(f"q{n}") for n in range(4)] == at_once
    assert at_once[1].calls == [OSLO]
    assert at_once[3] is None


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(st.text(min_size=1), st.booleans()), max_size=20))
def test_every_query_finds_its_own_label(tmp_path_factory, rows):
    rows = [(text.encode(errors="replace").decode() or "?", warm) for text, warm in rows]
    path = tmp_path_factory.mktemp("store") / "store.jsonl"
    with Store(path, write=True) as store:
        for text, warm in rows:
            store.append([record(text, calls=[OSLO] if warm else [])])
    first = {}
    for text, warm in rows:
        first.setdefault(text, [OSLO] if warm else [])
    found = Store(path)
    assert {text: found.label(text).calls for text in first} == first
    assert path.read_bytes().count(b"\n") == len(first)


def test_the_first_answer_of_a_request_wins_in_the_file_and_in_memory(tmp_path):
    path = tmp_path / "store.jsonl"
    with Store(path, write=True) as store:
        store.append([record("q", model="a", calls=[OSLO]), record("q", model="a")])
        store.append([record("q", model="a")])
        store.append([record("q", model="b")])
        assert len(path.read_text().splitlines()) == 2
        for found in (store, Store(path)):
            assert found.label("q").calls == [OSLO]
            assert found.answer("q", asked("b")).calls == []
            assert found.answer("q", asked("c")) is None


def test_a_persons_label_ends_the_asking_and_what_is_blocked_is_no_label(tmp_path):
    with Store(tmp_path / "store.jsonl", write=True) as store:
        store.append([record("q", model="a", outcome="blocked", reason="SAFETY")])
        assert store.label("q") is None
        assert store.answer("q", asked("a")).reason == "SAFETY"
        store.append([record("q", calls=[OSLO])])
        assert store.label("q").calls == [OSLO]
        assert store.answer("q", asked("a")).model == "hand"


@pytest.mark.parametrize("torn", [b'{"key": "ab', '{"key": "\u00e9'.encode()[:-1], b"\0\0\0", b"  "])
def test_a_torn_last_line_is_passed_over_by_a_reader_and_cut_by_a_writer(tmp_path, torn):
    path = tmp_path / "store.jsonl"
    whole = (line(record("q1")) + line(record("q2"))).encode()
    path.write_bytes(whole + torn)
    assert [bool(Store(path).label(q)) for q in ("q1", "q2", "q3")] == [True, True, False]
    assert path.read_bytes() == whole + torn
    with Store(path, write=True) as store:
        assert path.read_bytes() == whole
        store.append([record("q3")])
    assert [bool(Store(path).label(q)) for q in ("q1", "q2", "q3")] == [True] * 3


def test_a_last_line_that_lacks_only_its_end_is_kept(tmp_path):
    path = tmp_path / "store.jsonl"
    path.write_text((line(record("q1")) + line(record("q2")))[:-1])
    assert Store(path).label("q2")
    with Store(path, write=True) as store:
        store.append([record("q3")])
    assert [bool(Store(path).label(q)) for q in ("q1", "q2", "q3")] == [True] * 3


def test_cut_anywhere_no_whole_record_is_lost(tmp_path):
    path = tmp_path / "store.jsonl"
    lines = [line(record(f"q{n}", calls=[OSLO])).encode() for n in range(3)]
    data = b"".join(lines)
    for cut in range(len(lines[0]), len(data), 7):
        path.write_bytes(data[:cut])
        with Store(path, write=True) as store:
            whole = 1 + (cut >= len(lines[0] + lines[1]) - 1) + (cut >= len(data) - 1)
            assert [bool(store.label(f"q{n}")) for n in range(3)] == [n < whole for n in range(3)], cut
            store.append([record("more")])
        assert Store(path).label("more")


@pytest.mark.parametrize(
    ("first", "said"),
    [("{}", "key: Field required"), ("[1]", "Input should be an object"), ('{"key": 1', "Invalid JSON")],
)
def test_a_broken_line_inside_is_said(tmp_path, first, said):
    path = tmp_path / "store.jsonl"
    path.write_text(first + "\n" + line(record("q")))
    with pytest.raises(InputError, match=rf"store\.jsonl:1: {said}"):
        Store(path)


def test_a_label_without_calls_and_a_block_with_calls_are_refused():
    for change in ({"calls": None}, {"outcome": "blocked"}):
        with pytest.raises(ValueError, match="a label has calls"):
            Record(**{**record("q").model_dump(), **change})


def test_two_runs_cannot_write_at_once_and_a_killed_one_leaves_no_lock(tmp_path):
    path = tmp_path / "store.jsonl"
    code = "import sys, time; from pathlib import Path; from toolforge.teachers.store import Store\n"
    code += f"store = Store(Path({str(path)!r}), write=True); print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="another run writes to this store"):
            Store(path, write=True)
        assert Store(path).label("q") is None
        other.kill()
    with Store(path, write=True) as store:
        store.append([record("q")])
    assert Store(path).label("q")


def test_a_store_that_was_replaced_under_a_run_is_said(tmp_path):
    path = tmp_path / "store.jsonl"
    with Store(path, write=True) as store:
        path.rename(tmp_path / "old.jsonl")
        path.touch()
        with pytest.raises(InputError, match="was moved or replaced"):
            store.append([record("q")])


def test_a_full_disk_is_said_and_what_stood_there_stays_whole(tmp_path):
    """A limit on the size of files stands for the full disk: the write is cut short."""
    path = tmp_path / "store.jsonl"
    path.write_text(before := line(record("q0")))
    code = "import resource, signal, sys; from pathlib import Path\n"
    code += "from toolforge.teachers.store import Record, Store\n"
    code += "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400))\n"
    code += f"store = Store(Path({str(path)!r}), write=True)\n"
    code += f"store.append([Record.model_validate_json({line(record('q1'))!r}), Record.model_validate_json({line(record('q2'))!r})])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "File too large" in done.stderr
    assert path.read_text() == before


def test_the_key_tells_requests_apart():
    keys = {
        request_key(*parts)
        for parts in (
            ("q", "c", "m", "p"),
            ("q2", "c", "m", "p"),
            ("q", "c2", "m", "p"),
            ("q", "c", "m2", "p"),
            ("q", "c", "m", "p2"),
        )
    }
    assert len(keys) == 5


def test_an_edit_of_the_code_asks_nothing_again():
    """Whoever has to change this digest makes every stored answer be paid for once more."""
    digest = request_key("weather in Zürich", "c", "m", "p")
    assert digest == "057c88cfda5fdcb8736ca451fcedfcb04029ea7b799c74f9152b9dcd6f6ab9f3"
