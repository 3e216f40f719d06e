"""The chat format, in one place for training, evaluation and serving.

A prompt is one user turn, the query, under a fixed system turn; the completion is a JSON list of calls. The base's own chat template
does the rest.
"""

import json
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import TypeAdapter

from toolforge.params import Params
from toolforge.records import ToolCall
from toolforge.tools import Catalogue

# Stands for the query in a prompt that is cut there; no template holds it.
QUERY = "\ue000"


class PromptParams(Params):
    """`tools: none` leaves the catalogue out (a closed one is learned); `schemas` puts it into the prompt through
    the template's own `tools=`. An empty `system` leaves that turn to the template.
    """

    system: str
    tools: Literal["none", "schemas"]


def render(query: str, params: PromptParams, catalogue: Catalogue) -> dict[str, Any]:
    """The prompt as arguments of `tokenizer.apply_chat_template`: `conversation`, and `tools` or None."""
    system = [{"role": "system", "content": params.system}] if params.system else []
    return {
        "conversation": [*system, {"role": "user", "content": query}],
        "tools": catalogue.schemas if params.tools == "schemas" else None,
    }


def answer(calls: Sequence[ToolCall]) -> str:
    """The completion that says these calls: `[{"name": ..., "arguments": {...}}]`, `[]` for no tool."""
    return json.dumps([call.model_dump() for call in calls], ensure_ascii=False)


_CALLS = TypeAdapter(list[ToolCall])


def parse(text: str) -> list[ToolCall] | None:
    """The calls that a completion says, or None where it is not a JSON list of calls, and where a number in it is infinite or NaN."""
    try:
        calls = _CALLS.validate_json(text)
        json.dumps([call.arguments for call in calls], allow_nan=False)
    except ValueError:
        return None
    return calls
