"""What may come next in an answer: a guess that costs little where it is wrong and saves a run of the model where it is right."""

import json
import re

from toolforge.tools import Catalogue

# The tools that an answer has named, and the value that it ends in: its key, how it is opened if it is, and what there is of it.
_TOOLS = re.compile(r'"name": "([^"]+)", "arguments": ')
_VALUE = re.compile(r'"(?P<key>[^"]+)":(?P<opening> "?)?(?P<begun>[^"]*)$')


# The characters that are copied before the model has taken any.
FAR = 8


class Drafts:
    """The shortest way on that the schemas leave, with the query's own words for values."""

    def __init__(self, catalogue: Catalogue) -> None:
        """Note how each argument's value is opened, and what follows it where no optional argument does."""
        self._ways: dict[tuple[str, str], tuple[str, str]] = {}
        for function in (schema["function"] for schema in catalogue.schemas):
            properties = function["parameters"].get("properties", {})
            required = function["parameters"].get("required", [])
            after = "}}]"
            for key, schema in reversed(properties.items()):
                quote = '"' if isinstance(schema, dict) and schema.get("type") == "string" else ""
                self._ways[function["name"], key] = f" {quote}", quote + after
                if key in required:
                    after = f", {json.dumps(key, ensure_ascii=False)}: {quote}"

    def after(self, text: str, query: str) -> str:
        """A text that may follow the answer's `text` so far, empty where there is none."""
        if text == "[":
            return '{"'
        if text.endswith("}}"):
            return "]"
        tools, value = _TOOLS.findall(text), _VALUE.search(text)
        if not tools or not value or (tools[-1], value["key"]) not in self._ways:
            return ""
        opening, after = self._ways[tools[-1], value["key"]]
        begun = value["begun"]
        if opening == " ":
            number = re.search(rf"(?<!\w){re.escape(begun)}([\d.]{{{0 if begun else 1},}})", query)
            return ("" if value["opening"] else opening) + (number[1] + after if number else "")
        if not value["opening"]:
            return opening
        if not begun:
            return ""
        # From where the value's first letters stand in the query, up to a mark that ends a part of a sentence.
        words = rf"(?<!\w){re.escape(begun)}(.*?)(?=[^\w\s]+(?:\s|$)|$)"
        copied = re.search(words, query, re.IGNORECASE | re.DOTALL)
        if not copied:
            return ""
        # The more of it the model has copied, the further it may go on.
        far = FAR + 2 * len(begun)
        return copied[1] + after if len(copied[1]) <= far else copied[1][:far]
