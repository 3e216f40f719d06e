"""Arguments that are copied: the text to translate and the page to read stand in the query, letter for letter, or they are wrong."""

from collections.abc import Mapping, Sequence

from toolforge.errors import InputError
from toolforge.params import Params
from toolforge.records import ToolCall
from toolforge.tools import Catalogue

# The copied arguments of each tool that has some.
Copied = Mapping[str, Sequence[str]]

# What the grammar of a copy holds beside the copy itself.
_OBJECT = {"type", "properties", "required", "additionalProperties", "title", "description"}
_STRING = {"type", "minLength", "title", "description"}


class DecodingParams(Params):
    """`copied` names arguments, as `tool.argument`, whose values can only be a part of the query: the decoder allows no other."""

    copied: list[str]


def by_tool(copied: Sequence[str], catalogue: Catalogue) -> Copied:
    """The arguments that `copied` names, by tool. Raises InputError, naming it, for one that the catalogue has not or that is no plain string, and
    where the tool's parameters are more than a list of named arguments.
    """
    parameters = {schema["function"]["name"]: schema["function"]["parameters"] for schema in catalogue.schemas}
    found: dict[str, list[str]] = {}
    for name in copied:
        tool, _, argument = name.rpartition(".")
        of_tool = parameters.get(tool, {})
        schema = of_tool.get("properties", {}).get(argument)
        if schema is None:
            raise InputError(f"decoding.copied: {name}: the catalogue has no such argument; name it as tool.argument")
        if schema.get("type") != "string" or schema.keys() - _STRING or schema.get("minLength", 0) > 1:
            raise InputError(f"decoding.copied: {name}: only a string without a format of its own can be copied")
        if of_tool.keys() - _OBJECT or of_tool.get("additionalProperties"):
            raise InputError(f"decoding.copied: {name}: the parameters of {tool} are more than a list of arguments")
        found.setdefault(tool, []).append(argument)
    return found


def fault(calls: Sequence[ToolCall], query: str, copied: Copied) -> str | None:
    """The first copied argument that is no part of the query, or None."""
    for call in calls:
        for argument in copied.get(call.name, ()):
            value = call.arguments.get(argument)
            if value is not None and str(value) not in query:
                return f"{call.name}.{argument}: {value!r} is no part of the query"
    return None
