"""Other people's system messages, under which a share of the train rows stand: an agent that loads the adapter brings its own."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError

from toolforge.errors import InputError
from toolforge.params import Params
from toolforge.prompt import PromptParams
from toolforge.records import first_fault, read_yaml
from toolforge.tools import Catalogue


class SystemsParams(Params):
    """`share` is the part of the train rows that stand under a foreign system message, 0 to 1."""

    share: float = Field(ge=0, le=1)
    seed: int


def load_systems(path: Path, catalogue: Catalogue) -> list[str]:
    """The system messages of a YAML list, `{names}`, `{signatures}` and `{descriptions}` filled from the catalogue.

    Raises InputError, naming the file, for anything but a list of texts that is not empty.
    """
    try:
        texts = TypeAdapter(list[str]).validate_python(read_yaml(path), strict=True)
    except ValidationError as error:
        raise InputError(f"{path}: {first_fault(error)}") from None
    if not texts:
        raise InputError(f"{path}: no system message")
    functions = [schema["function"] for schema in catalogue.schemas]
    tools = {
        "{names}": ", ".join(catalogue.names),
        "{signatures}": "\n".join(_signature(function) for function in functions),
        "{descriptions}": "\n".join(
            f"- {function['name']}: {function.get('description', '')}" for function in functions
        ),
    }
    for mark, value in tools.items():
        texts = [text.replace(mark, value) for text in texts]
    return texts


def _signature(function: dict[str, Any]) -> str:
    parameters = function["parameters"]
    required = parameters.get("required", [])
    return f"{function['name']}({', '.join(key if key in required else key + '?' for key in parameters.get('properties', {}))})"


def draw(count: int, prompt: PromptParams, foreign: Sequence[str], params: SystemsParams) -> list[PromptParams]:
    """The prompt of each of `count` rows: under a foreign system message for `params.share` of them, else as it is.
    The same seed draws the same.
    """
    chance = random.Random(params.seed)
    return [
        prompt.model_copy(update={"system": chance.choice(foreign)}) if chance.random() < params.share else prompt
        for _ in range(count)
    ]
