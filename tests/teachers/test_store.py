import pytest

from toolforge.errors import InputError
from toolforge.records import Query, ToolCall, line
from toolforge.teachers import recorded
from toolforge.teachers.store import Record, Store, now, request_key


def record(query, model="hand", calls=()):
    return Record(
        key=request_key(query, "c", model, "p"),
        query=query,
        model=model,
        answer="",
        calls=list(calls),
        tokens=0,
        time=now(),
    )


OSLO = ToolCall(name="weather", arguments={"location": "Oslo"})


def test_what_is_appended_is_there_after_a_restart(tmp_path):
    path = tmp_path / "store.jsonl"
    store = Store(path)
    for number in range(3):
        store.append(record(f"q{number}", calls=[OSLO]))
    again = Store(path)
    assert [again.answered(f"q{n}") for n in range(3)] == [store.answered(f"q{n}") for n in range(3)]
    assert again.answered("q1").calls == [OSLO]
    assert again.answered("q3") is None


def test_the_first_answer_wins_in_the_file_and_in_memory(tmp_path):
    path = tmp_path / "store.jsonl"
    store = Store(path)
    store.append(record("q", calls=[OSLO]))
    store.append(record("q"))
    store.append(record("q", model="other"))
    assert len(path.read_text().splitlines()) == 2
    for found in (store, Store(path)):
        assert found.answered("q").calls == [OSLO]
        assert found.asked(request_key("q", "c", "other", "p")).calls == []


@pytest.mark.parametrize("torn", [b'{"key": "ab', '{"key": "\u00e9'.encode()[:-1]])
def test_a_torn_last_line_is_cut_and_the_rest_kept(tmp_path, torn):
    path = tmp_path / "store.jsonl"
    whole = line(record("q1")) + line(record("q2"))
    path.write_bytes(whole.encode() + torn)
    store = Store(path)
    assert path.read_text() == whole
    store.append(record("q3"))
    assert [bool(Store(path).answered(q)) for q in ("q1", "q2", "q3")] == [True] * 3


def test_a_broken_line_inside_is_said(tmp_path):
    path = tmp_path / "store.jsonl"
    path.write_text("{}\n" + line(record("q")))
    with pytest.raises(InputError, match=r"store\.jsonl:1: key: Field required"):
        Store(path)


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
    assert request_key("q", "c", "m", "p") in keys


def test_the_recorded_teacher_keeps_the_order_and_leaves_gaps(tmp_path):
    store = Store(tmp_path / "store.jsonl")
    store.append(record("b", calls=[OSLO]))
    queries = [Query(id=q, query=q, group=q) for q in "abc"]
    assert [found and found.calls for found in recorded.label(queries, store)] == [None, [OSLO], None]
