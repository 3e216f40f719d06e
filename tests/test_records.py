import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolforge.errors import InputError
from toolforge.records import Example, ToolCall, class_of, line, read_jsonl, read_rows, write_jsonl

EXAMPLE = Example(
    id="a-1",
    query="weather in Oslo",
    calls=[ToolCall(name="weather", arguments={"location": "Oslo"})],
    source="authored",
    group="a",
)


def test_a_line_has_the_fields_in_order_and_no_defaults():
    assert line(EXAMPLE) == (
        '{"id": "a-1", "query": "weather in Oslo", "calls": [{"name": "weather", "arguments": {"location": "Oslo"}}], '
        '"source": "authored", "group": "a"}\n'
    )


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_survives_a_file(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    rows = [EXAMPLE.model_copy(update={"query": text}), EXAMPLE]
    write_jsonl(path, rows)
    assert read_rows(path, Example) == rows


def test_a_line_separator_inside_a_value_ends_no_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [EXAMPLE.model_copy(update={"query": "a\u2028b"})])
    assert [row.query for row in read_rows(path, Example)] == ["a\u2028b"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{oops", "rows.jsonl:2: Invalid JSON"),
        (json.dumps({"id": "x", "query": "q", "calls": [], "source": "s"}), "rows.jsonl:2: group: Field required"),
        (line(EXAMPLE).replace('"a-1"', "7"), "rows.jsonl:2: id: Input should be a valid string"),
        (line(EXAMPLE).replace('"id"', '"note": 1, "id"'), "rows.jsonl:2: note: Extra inputs are not permitted"),
        (line(EXAMPLE).replace('"name": "weather", ', ""), "rows.jsonl:2: calls.0.name: Field required"),
    ],
)
def test_a_bad_line_is_named_with_file_number_and_fault(tmp_path, text, said):
    path = tmp_path / "rows.jsonl"
    path.write_text(line(EXAMPLE) + text)
    with pytest.raises(InputError, match="rows.jsonl:2") as error:
        list(read_jsonl(path, Example))
    assert said in str(error.value)


def test_a_missing_file_and_bytes_that_are_no_text_are_said(tmp_path):
    with pytest.raises(InputError, match=r"none\.jsonl: no such file"):
        read_rows(tmp_path / "none.jsonl", Example)
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": "\xe9"}\n')
    with pytest.raises(InputError, match=r"latin\.jsonl: not UTF-8"):
        read_rows(tmp_path / "latin.jsonl", Example)


def test_a_pipe_is_read_as_a_file_is_and_a_folder_is_none(tmp_path):
    read, write = os.pipe()
    os.write(write, line(EXAMPLE).encode())
    os.close(write)
    assert read_rows(Path(f"/dev/fd/{read}"), Example) == [EXAMPLE]
    os.close(read)
    with pytest.raises(InputError, match="a folder; name a file of rows"):
        read_rows(tmp_path, Example)


def test_a_write_that_fails_leaves_the_old_file_whole_and_nothing_beside_it(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [EXAMPLE])
    before = path.read_bytes()

    def rows():
        yield EXAMPLE
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_jsonl(path, rows())
    assert path.read_bytes() == before
    assert [child.name for child in tmp_path.iterdir()] == ["rows.jsonl"]


def test_the_class_is_the_tool_or_the_number_of_calls():
    call = EXAMPLE.calls[0]
    assert [class_of(calls) for calls in ([], [call], [call, call])] == ["no_tool", "weather", "multi_tool"]
