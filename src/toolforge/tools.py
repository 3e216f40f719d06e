"""The catalogue: the tools that a query can be routed to, as OpenAI-style function schemas."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, SchemaError
from pydantic import JsonValue

from toolforge.errors import InputError
from toolforge.records import MULTI_TOOL, NO_TOOL, ToolCall


class Catalogue:
    """The tools by name. `schemas` is what a chat template's or a server's `tools=` takes."""

    def __init__(self, schemas: Sequence[dict[str, Any]]) -> None:
        """Raises InputError for a tool without a name, a name given twice, and parameters that are no JSON schema."""
        self.schemas = list(schemas)
        self._validators: dict[str, Draft202012Validator] = {}
        self._properties: dict[str, list[str]] = {}
        if not self.schemas:
            raise InputError("the catalogue holds no tool")
        for number, schema in enumerate(self.schemas, 1):
            function = schema.get("function") if isinstance(schema, dict) else None
            function = function if isinstance(function, dict) else {}
            name = function.get("name")
            if not isinstance(name, str) or not name:
                raise InputError(f"tool {number} has no function.name")
            if name in self._validators:
                raise InputError(f"two tools are named {name!r}")
            if name in (NO_TOOL, MULTI_TOOL):
                raise InputError(f"tool {number}: {name!r} is the name of a class of answers; choose another")
            parameters = function.get("parameters")
            if not isinstance(parameters, dict) or parameters.get("type") != "object":
                raise InputError(f"tool {name!r}: function.parameters is no JSON schema of type object")
            try:
                Draft202012Validator.check_schema(parameters)
            except SchemaError as error:
                raise InputError(f"tool {name!r}: function.parameters is no JSON schema: {error.message}") from None
            self._validators[name] = Draft202012Validator(parameters)
            self._properties[name] = list(parameters.get("properties", {}))

    @property
    def names(self) -> list[str]:
        """The tools' names in the catalogue's order."""
        return list(self._validators)

    @property
    def classes(self) -> list[str]:
        """The classes of answers: every tool, no_tool, multi_tool."""
        return [*self.names, NO_TOOL, MULTI_TOOL]

    @property
    def digest(self) -> str:
        """A hash of the schemas: two catalogues that mean the same to a teacher have the same."""
        return hashlib.sha256(json.dumps(self.schemas, sort_keys=True).encode()).hexdigest()

    def fault(self, calls: Sequence[ToolCall]) -> str | None:
        """What is wrong with the first call that breaks the catalogue, or None."""
        for call in calls:
            if call.name not in self._validators:
                return f"no tool is named {call.name!r}"
            for error in self._validators[call.name].iter_errors(call.arguments):
                place = ".".join(str(part) for part in error.absolute_path)
                return f"{call.name}: {place + ': ' if place else ''}{error.message}"
        return None

    def canonical(self, calls: Sequence[ToolCall]) -> list[ToolCall]:
        """The same calls with arguments in the schema's order and whole numbers written without a point.

        Requires calls without a fault.
        """
        ordered = []
        for call in calls:
            properties = self._properties[call.name]
            known = [key for key in properties if key in call.arguments]
            rest = [key for key in call.arguments if key not in properties]
            ordered.append(ToolCall(name=call.name, arguments={k: _whole(call.arguments[k]) for k in known + rest}))
        return ordered


def _whole(value: JsonValue) -> JsonValue:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def load_tools(path: Path) -> Catalogue:
    """The catalogue in a JSON file. Raises InputError with the file's name."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON: {error}") from None
    if not isinstance(document, list):
        raise InputError(f"{path}: not a list of tools")
    try:
        return Catalogue(document)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
