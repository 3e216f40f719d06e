import json

import pytest

from toolforge.errors import InputError
from toolforge.records import ToolCall
from toolforge.tools import Catalogue, load_tools


def tool(name="a", parameters=None):
    return {"type": "function", "function": {"name": name, "parameters": parameters or {"type": "object"}}}


def test_the_shipped_catalogue_holds_the_nine_tools(catalogue):
    assert catalogue.names == [
        "web_search", "calculator", "weather", "wikipedia", "datetime", "dictionary", "translate", "unit_converter", "web_reader",
    ]  # fmt: skip
    assert catalogue.classes[-2:] == ["no_tool", "multi_tool"]


@pytest.mark.parametrize(
    ("schemas", "said"),
    [
        ([], "holds no tool"),
        ([tool(), {"type": "function", "function": {"parameters": {"type": "object"}}}], "tool 2 has no function.name"),
        ([tool(""), tool()], "tool 1 has no function.name"),
        ([tool(), tool()], "two tools are named 'a'"),
        ([tool("no_tool")], "the name of a class of answers"),
        ([tool(parameters={"type": "object", "required": "x"})], "is no JSON schema"),
        ([tool(parameters={"type": "array"})], "is no JSON schema of type object"),
        (["a"], "tool 1 has no function.name"),
    ],
)
def test_a_bad_catalogue_is_refused_with_the_files_name(tmp_path, schemas, said):
    path = tmp_path / "tools.json"
    path.write_text(json.dumps(schemas))
    with pytest.raises(InputError) as error:
        load_tools(path)
    assert str(error.value).startswith(str(path))
    assert said in str(error.value)


def test_a_file_that_is_missing_or_no_json_is_said(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_tools(tmp_path / "tools.json")
    (tmp_path / "tools.json").write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        load_tools(tmp_path / "tools.json")


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("wether", {"location": "Oslo"}, "no tool is named 'wether'"),
        ("weather", {}, "weather: 'location' is a required property"),
        ("weather", {"location": 7}, "weather: location: 7 is not of type 'string'"),
        ("weather", {"location": "Oslo", "day": "today"}, "weather: Additional properties"),
        ("datetime", {"action": "sleep"}, "datetime: action: 'sleep' is not one of"),
        ("unit_converter", {"value": "3", "from": "miles", "to": "feet"}, "value: '3' is not of type 'number'"),
    ],
)
def test_a_call_that_breaks_the_catalogue_has_a_fault(catalogue, name, arguments, said):
    fine = ToolCall(name="weather", arguments={"location": "Oslo"})
    assert said in catalogue.fault([fine, ToolCall(name=name, arguments=arguments)])
    assert catalogue.fault([fine]) is None


def test_canonical_calls_have_the_schemas_order_and_whole_numbers(catalogue):
    (call,) = catalogue.canonical(
        [ToolCall(name="unit_converter", arguments={"to": "feet", "value": 20.0, "from": "miles"})]
    )
    assert json.dumps(call.arguments) == '{"value": 20, "from": "miles", "to": "feet"}'
    (half,) = catalogue.canonical([call.model_copy(update={"arguments": {**call.arguments, "value": 0.5}})])
    assert half.arguments["value"] == 0.5


def test_the_digest_tells_catalogues_apart_by_what_they_say():
    assert Catalogue([tool("a")]).digest != Catalogue([tool("b")]).digest
    shuffled = dict(reversed(tool("a").items()))
    assert Catalogue([shuffled]).digest == Catalogue([tool("a")]).digest
