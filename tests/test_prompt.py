import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolforge.prompt import PromptParams, answer, parse, render
from toolforge.records import ToolCall

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
CALLS = st.lists(
    st.builds(ToolCall, name=WORDS, arguments=st.dictionaries(WORDS, st.one_of(WORDS, st.integers(-(2**53), 2**53))))
)


def test_an_answer_is_the_fields_own_json():
    calls = [ToolCall(name="weather", arguments={"location": "São Paulo"})]
    assert answer(calls) == '[{"name": "weather", "arguments": {"location": "São Paulo"}}]'
    assert answer([]) == "[]"


@given(CALLS)
def test_what_is_answered_parses_to_the_same_calls(calls):
    assert parse(answer(calls)) == calls


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no",
        "{}",
        '[{"name": "a"}]',
        '[{"name": "a", "arguments": {}, "x": 1}]',
        "[]]",
        '[{"name": "a", "arguments": {"x": 1e999}}]',
        '[{"name": "a", "arguments": {"x": [NaN]}}]',
    ],
)
def test_anything_else_does_not_parse(text):
    assert parse(text) is None


def test_the_prompt_holds_the_query_and_the_catalogue_only_where_asked(catalogue):
    closed = render("hi", PromptParams(system="Route.", tools="none"), catalogue)
    assert closed == {
        "conversation": [{"role": "system", "content": "Route."}, {"role": "user", "content": "hi"}],
        "tools": None,
    }
    opened = render("hi", PromptParams(system="", tools="schemas"), catalogue)
    assert opened["conversation"] == [{"role": "user", "content": "hi"}]
    assert [schema["function"]["name"] for schema in opened["tools"]] == catalogue.names
