"""Arguments that are copied: the text to translate and the page to read stand in the query, letter for letter, or they are wrong."""

import re
from collections.abc import Mapping, Sequence
from itertools import accumulate

from toolforge.errors import InputError
from toolforge.params import Params
from toolforge.records import ToolCall
from toolforge.tools import Catalogue

# The copied arguments of each tool that has some.
Copied = Mapping[str, Sequence[str]]

# What the grammar of a copy holds beside the copy itself.
_OBJECT = {"type", "properties", "required", "additionalProperties", "title", "description"}
_STRING = {"type", "minLength", "title", "description"}

# An address from its scheme, `www.` or host to its last letter, digit, slash or equals sign; a word; or one character, for scripts that put no space
# between words are cut anywhere. What seldom stands in an address and often behind one ends it: an end too early costs nothing, since a part may be
# several pieces, and one too late would make the address impossible to copy. No piece takes longer than the query is long.
_PIECE = re.compile(
    r"""(?:https?://|www\.|(?:[a-z0-9][a-z0-9-]{0,62}\.){1,8}[a-z]{2,}/)(?:[!#-&(-+.-:=?-Z_a-z~-]|'(?!s\b))*[a-z0-9/=]
      | (?:(?!https?://)[a-z0-9]|(?<=[a-z0-9])_+(?=[a-z0-9]))+
      | .""",
    re.ASCII | re.DOTALL | re.IGNORECASE | re.VERBOSE,
)


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
        plain = isinstance(schema, dict) and schema.get("type") == "string" and not schema.keys() - _STRING
        if not plain or schema.get("minLength", 0) > 1:
            raise InputError(f"decoding.copied: {name}: only a string without a format of its own can be copied")
        unnamed = set(of_tool.get("required", [])) - of_tool["properties"].keys()
        if of_tool.keys() - _OBJECT or of_tool.get("additionalProperties") or unnamed:
            raise InputError(f"decoding.copied: {name}: the parameters of {tool} are more than a list of arguments")
        found.setdefault(tool, []).append(argument)
    return found


def pieces(query: str) -> list[str]:
    """What a part of the query is made of, in its order, nothing left out: no part begins or ends within a word or an address."""
    return _PIECE.findall(query)


def is_part(value: str, query: str) -> bool:
    """Whether it is one or more of the query's pieces, one behind the other."""
    edges = {0, *accumulate(map(len, pieces(query)))}
    return value != "" and any(query.startswith(value, edge) and edge + len(value) in edges for edge in edges)


def fault(calls: Sequence[ToolCall], query: str, copied: Copied) -> str | None:
    """The first copied argument that is no part of the query, or None."""
    for call in calls:
        for argument in copied.get(call.name, ()):
            value = call.arguments.get(argument)
            if value is not None and not is_part(str(value), query):
                return f"{call.name}.{argument}: {value!r} is no part of the query"
    return None
