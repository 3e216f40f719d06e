"""What of a tool's schema decides which calls fit it, and whether a client's tools are the catalogue's."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, FailFast, JsonValue, model_validator

from toolforge.tools import Catalogue

# The characters, references times the longest definition, that a tool's references may come to: a body can be its square.
DEFINITIONS = 2000


class Parameters(BaseModel):
    """The arguments of a tool, or what an argument that is an object holds."""

    properties: dict[str, "Argument"] = {}
    required: Annotated[frozenset[str], FailFast()] = frozenset()

    @property
    def signature(self) -> str:
        """Names, types, and a `?` where a value may be left out. Strict schemas require all, and have null stand for what is left out."""
        return ", ".join(
            f"{name}{'' if name in self.required and not kind.nullable else '?'}: {kind}"
            for name, kind in sorted(self.properties.items())
        )


class Argument(Parameters):
    """What of an argument's schema decides whether a value fits."""

    type: Annotated[list[str], BeforeValidator(lambda kind: [kind] if isinstance(kind, str) else kind)] = []
    enum: list[JsonValue] = []
    items: "Argument | None" = None
    anyOf: list["Argument"] = []  # noqa: N815 - JSON schema's own word

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, schema: Any) -> Any:
        # JSON schema's `true`: any value fits.
        if schema is True:
            return {}
        return {**schema, "enum": [schema["const"]]} if isinstance(schema, dict) and "const" in schema else schema

    @property
    def nullable(self) -> bool:
        """Whether null fits beside other values."""
        return any("null" in part.type or None in part.enum for part in (self, *self.anyOf))

    def __str__(self) -> str:
        """The types and values, in one order however they are written."""
        parts = [self, *self.anyOf]
        # Of a type that stands twice the inside would be written out twice, and at each level again.
        kinds = sorted({part.kind(name) for part in parts for name in set(part.type)} - {"null"})
        values = sorted({str(value) for part in parts for value in part.enum} - {"None"})
        return "|".join(kinds) + (f" of {'|'.join(values)}" if values else "")

    def kind(self, name: str) -> str:
        """One of its types, with what is inside."""
        if name == "array" and self.items:
            return f"array of ({self.items})"
        return f"object of ({self.signature})" if name == "object" and self.properties else name


def _inlined(schema: Any, known: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_inlined(part, known) for part in schema]
    if not isinstance(schema, dict):
        return schema
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference in known:
        return known[reference]
    return {key: _inlined(value, known) for key, value in schema.items()}


class Function(BaseModel):
    """A tool's name and arguments. Descriptions, titles and defaults are not read."""

    name: str
    parameters: Parameters = Parameters()

    @model_validator(mode="before")
    @classmethod
    def _with_definitions(cls, function: Any) -> Any:
        """With what pydantic defines under `$defs`, an enum or a model, in the place of its references, one level deep."""
        if not isinstance(function, dict) or not isinstance(function.get("parameters"), dict):
            return function
        parameters = dict(function["parameters"])
        definitions = parameters.pop("$defs", None)
        if not isinstance(definitions, dict) or not definitions:
            return function
        longest = max(len(json.dumps(each)) for each in definitions.values())
        if longest * json.dumps(parameters).count('"$ref"') > DEFINITIONS:
            return function
        known = {f"#/$defs/{name}": each for name, each in definitions.items()}
        return {**function, "parameters": _inlined(parameters, known)}

    def __str__(self) -> str:
        """The signature. Two functions that the same calls fit have the same."""
        return f"{self.name}({self.parameters.signature})"


def difference(functions: Sequence[Function], catalogue: Catalogue) -> str | None:
    """How functions differ from the catalogue's, or None. The order does not count, nor do descriptions: names,
    arguments, their types and enums, and which are required do.
    """
    known = {schema["function"]["name"]: Function.model_validate(schema["function"]) for schema in catalogue.schemas}
    given = {function.name: function for function in functions}
    for name, function in known.items():
        if name not in given:
            return f"{name!r} is missing"
        if str(given[name]) != str(function):
            return f"{function} is given as {given[name]}"
    return next((f"{name!r} is not in it" for name in given if name not in known), None)
