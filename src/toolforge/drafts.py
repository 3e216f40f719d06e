"""What may come next in an answer: a guess that costs little where it is wrong and saves a run of the model where it is right."""

import json
import re

from toolforge.prior import Prior
from toolforge.tools import Catalogue

# Where an answer ends: in the name of a tool, or in a value, with its key, how it is opened, what there is of it, and how it is closed.
_NAME = re.compile(r'"name": "([^"]+)$')
_TOOLS = re.compile(r'"name": "([^"]+)", "arguments": ')
_VALUE = re.compile(r'"(?P<key>[^"]+)":(?P<opening> "?)?(?P<begun>[^"]*)(?P<closing>"}*)?$')

# The characters that are copied before the model has taken any.
FAR = 30
# The probability from which a beginning is drafted: of val's answers, 0.3 and 0.5 save as much time.
LIKELY = 0.3


class Drafts:
    """How the prior says that an answer begins, and then the shortest way on that the schemas leave, with the query's own words for
    values.
    """

    def __init__(self, catalogue: Catalogue, prior: Prior | None = None) -> None:
        """Note how each argument's value is opened, what it may be, and what follows it where no optional argument does. Without a
        prior nothing is guessed before the model has begun.
        """
        self._prior, self._names = prior, list[str]()
        self._ways: dict[tuple[str, str], tuple[str, str, list[str]]] = {}
        for function in (schema["function"] for schema in catalogue.schemas):
            self._names.append(function["name"])
            properties = function["parameters"].get("properties", {})
            required = function["parameters"].get("required", [])
            after = "}}]"
            for key, schema in reversed(properties.items()):
                kind = schema if isinstance(schema, dict) else {}
                quote = '"' if kind.get("type") == "string" else ""
                self._ways[function["name"], key] = (
                    f" {quote}",
                    quote + after,
                    [choice for choice in kind.get("enum", []) if isinstance(choice, str)],
                )
                if key in required:
                    after = f", {json.dumps(key, ensure_ascii=False)}: {quote}"

    def after(self, text: str, query: str) -> str:
        """A text that may follow the answer's `text` so far, empty where there is none."""
        likeliest = self._prior.likeliest(query, text) if self._prior else None
        if likeliest and likeliest[1] >= LIKELY:
            return likeliest[0][len(text) :]
        if text == "[":
            return '{"'
        if text.endswith("}}"):
            return "]"
        if name := _NAME.search(text):
            return _rest(name[1], self._names, '"')
        tools, value = _TOOLS.findall(text), _VALUE.search(text)
        if not tools or not value or (tools[-1], value["key"]) not in self._ways:
            return ""
        opening, after, choices = self._ways[tools[-1], value["key"]]
        begun, closing = value["begun"], value["closing"]
        if opening == " ":
            number = re.search(rf"(?<!\w){re.escape(begun)}([\d.]{{{0 if begun else 1},}})", query)
            return ("" if value["opening"] else opening) + (number[1] + after if number else "")
        if closing:
            return after.removeprefix(closing) if after.startswith(closing) else ""
        if begun:
            return _rest(begun, choices, after) if choices else _copy(begun, query, after)
        return "" if value["opening"] else opening


def _rest(begun: str, choices: list[str], after: str) -> str:
    return next((choice[len(begun) :] + after for choice in choices if choice.startswith(begun)), "")


def _copy(begun: str, query: str, after: str) -> str:
    """How the query goes on behind the value's letters so far, up to a mark that ends a part of a sentence. Where the query does not hold them all: how the
    word or number that they end in goes on, without thousands commas.
    """
    # Eight marks at most: without a bound the search is quadratic in a query of nothing but marks.
    words = rf"(?<!\w){re.escape(begun)}(.*?)(?=[^\w\s]{{1,8}}(?:\s|$)|$)"
    copied = re.search(words, query, re.IGNORECASE | re.DOTALL)
    if copied:
        # The more of it the model has copied, the further it may go on.
        far = FAR + 2 * len(begun)
        return copied[1] + after if len(copied[1]) <= far else copied[1][:far]
    last = re.split(r"[\s(]", begun)[-1]
    word = re.search(rf"(?<!\w){re.escape(last)}(\w*(?:[.,]\d+)*)", query, re.IGNORECASE) if last else None
    return word[1].replace(",", "") if word else ""
