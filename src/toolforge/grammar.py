"""What an answer may be: a list of calls that keep to the catalogue, what is copied from the query among them."""

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLTokenizer

from toolforge.copying import Copied, by_tool, pieces
from toolforge.errors import InputError
from toolforge.tools import Catalogue

# The calls that an answer may have: a model that repeats itself ends here.
CALLS = 8

Logits = np.ndarray[Any, np.dtype[np.float32]]

# The JSON of `prompt.answer`, which is json.dumps's. llguidance escapes what JSON cannot hold otherwise and no more, so that no escape spells half
# a surrogate pair.
_FORM = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}

# Keywords beside which "additionalProperties": false would forbid what they allow.
_JOINED = {"allOf", "anyOf", "oneOf", "$ref"}


class Grammar:
    """The answers that a catalogue allows, in the tokens of one model."""

    def __init__(
        self, tokenizer: LLTokenizer, catalogue: Catalogue, copied: Sequence[str] = (), opening: str = ""
    ) -> None:
        """`copied` names the arguments that are parts of the query, as `tool.argument`; `opening` is the white space that an answer begins with.
        Raises InputError for a catalogue whose schemas no grammar can hold, and for an argument that cannot be copied.
        """
        self._tokenizer, self._copied = tokenizer, by_tool(copied, catalogue)
        self._text = text(catalogue, self._copied, opening)
        self._start = self._compile(self._text, "any")
        if self._start.is_error():
            raise InputError(self._fault(catalogue))

    def matcher(self, query: str) -> LLMatcher:
        """One that has seen nothing of the answer to a query yet. Raises InputError for a query too long to be copied from."""
        if not self._copied:
            return self._start.deep_copy()
        # 3 ms for the default catalogue.
        found = self._compile(self._text, query)
        if found.is_error():
            raise InputError("no grammar can hold the answers to this query")
        return found

    def _compile(self, text: str, query: str) -> LLMatcher:
        return LLMatcher(self._tokenizer, f"{text}\n{copies(query)}" if self._copied else text, log_level=0)

    def _fault(self, catalogue: Catalogue) -> str:
        for schema in catalogue.schemas:
            alone = self._compile(text(Catalogue([schema]), self._copied), "any")
            if alone.is_error():
                # What follows the reason is the grammar, line by line.
                reason = re.sub(
                    r"^at \S+ |failed to compile JSON schema: ", "", alone.get_error().partition("\n   1 |")[0]
                )
                return f"tool {schema['function']['name']!r}: no grammar can hold its parameters: {' '.join(reason.split())}"
        return "the catalogue is too large for a grammar"


def check(catalogue: Catalogue, copied: Sequence[str]) -> None:
    """Raises as Grammar does, without a model: what it refuses is refused before one is trained."""
    Grammar(LLTokenizer("byte"), catalogue, copied)


def likeliest(matcher: LLMatcher, logits: Logits) -> int:
    """The token with the highest of the logits, float32[vocabulary], that the grammar takes next."""
    best = int(logits.argmax())
    if matcher.validate_tokens([best]):
        return best
    allowed = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little", count=len(logits))
    return int(np.where(allowed, logits, -np.inf).argmax())


def text(catalogue: Catalogue, copied: Copied | None = None, opening: str = "") -> str:
    """The grammar in llguidance's language: `opening`, then a list of up to CALLS calls, each with its own tool's arguments in the schema's order. Where
    there are `copied` ones it lacks `copies` of a query.
    """
    calls, rules = [], []
    for number, schema in enumerate(catalogue.schemas):
        name, parameters = schema["function"]["name"], schema["function"]["parameters"]
        head = f'{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": '
        calls.append(f'{json.dumps(head)} arguments_{number} "}}"')
        if copied and name in copied:
            rules += _members(f"arguments_{number}", parameters, copied[name])
            continue
        # A tool's arguments are those that its schema names, unless it says otherwise: an open object would invite others.
        if not _JOINED & parameters.keys():
            parameters = {"additionalProperties": False, **parameters}
        rules.append(_json(f"arguments_{number}", parameters))
    return "\n".join([
        f'start: {json.dumps(opening + "[")} (call (", " call){{0,{CALLS - 1}}})? "]"',
        f"call: {' | '.join(calls)}",
        *rules,
    ])  # fmt: skip


def copies(query: str) -> str:
    """The grammar's terminal that holds every part of the query but the empty one, as it stands inside a JSON string."""
    # Escaped piece by piece, so that no escape is cut.
    escaped = [json.dumps(piece, ensure_ascii=False)[1:-1] for piece in pieces(query)]
    return f"PART: %regex {json.dumps({'substring_chunks': escaped})}\nCOPIED: PART & /(?s:.+)/"


def _members(rule: str, parameters: dict[str, Any], copied: Sequence[str]) -> list[str]:
    """The rules of an object of which some members are copied: `rule`_N_1 are the members from the N-th on behind another one, `rule`_N_0 the same as the first."""
    properties, required = parameters["properties"], parameters.get("required", [])
    rules = [f'{rule}: "{{" {rule}_0_0 "}}"']
    for place, (name, schema) in enumerate(properties.items()):
        value = f"{rule}_{place}"
        rules.append(f'{value}: "\\"" COPIED "\\""' if name in copied else _json(value, schema))
        for behind, comma in enumerate(("", ", ")):
            key = json.dumps(f"{comma}{json.dumps(name, ensure_ascii=False)}: ")
            without = "" if name in required else f" | {rule}_{place + 1}_{behind}"
            rules.append(f"{rule}_{place}_{behind}: {key} {value} {rule}_{place + 1}_1{without}")
    return [*rules, *(f'{rule}_{len(properties)}_{behind}: ""' for behind in (0, 1))]


def _json(rule: str, schema: dict[str, Any] | bool) -> str:
    # In JSON Schema `true` is {} and `false` {"not": {}}.
    known = schema if isinstance(schema, dict) else {} if schema else {"not": {}}
    return f"{rule}: %json {json.dumps({**known, 'x-guidance': _FORM})}"
