"""The only reader of params.yaml."""

import dataclasses
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from toolforge.errors import InputError
from toolforge.records import first_fault, read_yaml

PARAMS = Path("params.yaml")


class Params(BaseModel):
    """The base of every `<Stage>Params`: frozen, and strict about unknown keys and types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


T = TypeVar("T")


def load_params(section: str, into: type[T], positive: Sequence[str] = (), **fixed: Any) -> T:
    """The section of params.yaml as `into`: a Params model, or a library's own dataclass with its own key names.

    `fixed` are arguments that the code decides; params.yaml may not hold them. The keys in `positive` must be above
    zero (a library's dataclass does not check that itself). A section may be missing where `into` is a Params model with a
    default for each key. Raises InputError, naming the key, for a section that is missing, a
    key that is unknown, a value of the wrong type or out of range, and a number that YAML reads as a text.
    """
    values = _section(section, optional=_has_defaults(into))
    for key, value in values.items():
        _refuse_text_numbers(f"{section}.{key}", value)
    if issubclass(into, BaseModel):
        try:
            return into(**values, **fixed)
        except ValidationError as error:
            raise InputError(f"{PARAMS}: {section}.{first_fault(error)}") from None
    return _dataclass(section, values, into, positive, fixed)


def _has_defaults(into: type[Any]) -> bool:
    return issubclass(into, BaseModel) and not any(field.is_required() for field in into.model_fields.values())


def _section(section: str, optional: bool) -> dict[str, Any]:
    if not PARAMS.is_file():
        raise InputError(f"{PARAMS}: no such file; run from the repository's root")
    document = read_yaml(PARAMS)
    if optional and isinstance(document, dict) and section not in document:
        return {}
    if not isinstance(document, dict) or not isinstance(document.get(section), dict):
        raise InputError(f"{PARAMS}: no section {section!r}")
    return dict(document[section])


def _refuse_text_numbers(key: str, value: Any) -> None:
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, str):
            try:
                float(item)
            except ValueError:
                continue
            raise InputError(f"{PARAMS}: {key}: YAML reads {item} as a text; write the number with a point, as 2.0e-4")


def _dataclass(
    section: str, values: dict[str, Any], into: type[T], positive: Sequence[str], fixed: dict[str, Any]
) -> T:
    hints = typing.get_type_hints(into)
    known = {field.name for field in dataclasses.fields(into) if field.init} - set(fixed)  # type: ignore[arg-type]
    for key, value in values.items():
        if key not in known:
            raise InputError(f"{PARAMS}: {section}.{key}: {into.__name__} has no such key")
        try:
            TypeAdapter(hints[key], config=ConfigDict(arbitrary_types_allowed=True)).validate_python(value, strict=True)
        except ValidationError as error:
            raise InputError(f"{PARAMS}: {section}.{key}: {first_fault(error)}") from None
        if key in positive and (value is None or not value > 0):
            raise InputError(
                f"{PARAMS}: {section}.{key}: must be greater than 0, not {'null' if value is None else value}"
            )
    try:
        return into(**values, **fixed)
    except ValueError as error:
        raise InputError(f"{PARAMS}: {section}: {error}") from None
