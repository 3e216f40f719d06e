"""How an answer probably begins, by the query's words alone: a linear classifier that is fitted on the train rows in seconds.

The router drafts with it.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from pydantic import Field, FiniteFloat, ValidationError, model_validator

from toolforge.errors import InputError
from toolforge.params import Params
from toolforge.records import Example, Row, ToolCall, first_fault
from toolforge.tools import Catalogue

# Numbers, words and single marks.
_TOKEN = re.compile(r"0+(?:[.,]0+)*|\w+|[^\w\s]")


class PriorParams(Params):
    """The train rows that a beginning, a word or a pair of words needs to be told from others, and `LogisticRegression`'s C."""

    min_rows: int = Field(gt=0)
    C: float = Field(gt=0)


class Prior(Row):
    """The probabilities of `beginnings`, texts that answers begin with: the softmax of `bias` and of the `weights` of the words and pairs
    of words that the query has, in the beginnings' order.
    """

    beginnings: list[str] = Field(min_length=1)
    bias: list[FiniteFloat]
    weights: dict[str, list[FiniteFloat]]

    @model_validator(mode="after")
    def _even(self) -> "Prior":
        if any(len(row) != len(self.beginnings) for row in (self.bias, *self.weights.values())):
            raise ValueError(f"bias and each of the weights need {len(self.beginnings)} numbers, one for a beginning")
        return self

    def likeliest(self, query: str, begun: str) -> tuple[str, float] | None:
        """The most probable of the beginnings that go on from `begun`, and its probability among all that start so; None where none goes on."""
        starts = [n for n, text in enumerate(self.beginnings) if text.startswith(begun)]
        going_on = [n for n in starts if self.beginnings[n] != begun]
        if not going_on:
            return None
        probabilities = self._probabilities(query)
        best = max(going_on, key=probabilities.__getitem__)
        return self.beginnings[best], probabilities[best] / sum(probabilities[n] for n in starts)

    def _probabilities(self, query: str) -> list[float]:
        rows = [self.weights[word] for word in set(words(query)) if word in self.weights]
        # A set has another order in each process: exact sums do not depend on it.
        scores = [math.fsum(column) for column in zip(self.bias, *rows, strict=True)]
        top = max(scores)
        powers = [math.exp(score - top) for score in scores]
        total = math.fsum(powers)
        return [power / total for power in powers]


def load_prior(path: Path) -> Prior:
    """The prior in a file. Raises InputError for a file that is missing or is no prior."""
    try:
        return Prior.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; dvc repro makes it") from None
    except ValidationError as error:
        raise InputError(f"{path}: {first_fault(error)}") from None


def words(query: str) -> list[str]:
    """Its words in lower case, every digit as 0, and the pairs of neighbours; at the query's ends nothing is the neighbour."""
    tokens = _TOKEN.findall(re.sub(r"\d", "0", query.lower()))
    return tokens + [f"{one} {other}" for one, other in pairwise(["", *tokens, ""])]


def beginning(calls: Sequence[ToolCall], catalogue: Catalogue) -> str:
    """The text of an answer up to the first value that is no string of its schema's enum: `[{"name": "weather", "arguments": {"location": "`; `[]`
    whole. Requires calls that the catalogue allows.
    """
    if not calls:
        return "[]"
    name, arguments = calls[0].name, calls[0].arguments
    function = next(schema["function"] for schema in catalogue.schemas if schema["function"]["name"] == name)
    properties = function["parameters"].get("properties", {})
    text = f'[{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": {{'
    for number, (key, value) in enumerate(arguments.items()):
        text += f"{', ' if number else ''}{json.dumps(key, ensure_ascii=False)}: "
        schema = properties.get(key)
        if not isinstance(value, str):
            return text
        if not isinstance(schema, dict) or "enum" not in schema:
            return text + '"'
        text += json.dumps(value, ensure_ascii=False)
    return text


def fit(examples: Sequence[Example], catalogue: Catalogue, params: PriorParams) -> Prior:
    """The prior of the highest penalized likelihood; that of the beginnings' frequencies alone where fewer than two of them have `min_rows` rows. Requires
    an example, and calls that the catalogue allows.
    """
    # Imported here: a router applies a prior and never fits one.
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    begun = [beginning(example.calls, catalogue) for example in examples]
    rows = Counter(begun)
    kept = [n for n, text in enumerate(begun) if rows[text] >= params.min_rows]
    if len({begun[n] for n in kept}) < 2:
        return Prior(beginnings=list(rows), bias=[math.log(count) for count in rows.values()], weights={})
    vectorizer = CountVectorizer(analyzer=words, binary=True, min_df=params.min_rows)
    counts = vectorizer.fit_transform([examples[n].query for n in kept])
    model = LogisticRegression(C=params.C, max_iter=500).fit(counts, [begun[n] for n in kept])
    coefficients, bias = model.coef_, model.intercept_
    if len(model.classes_) == 2:
        # Of two classes it has one row, of their difference.
        coefficients, bias = ([sign * row / 2 for row in part for sign in (-1, 1)] for part in (coefficients, bias))
    columns = zip(*coefficients, strict=True)
    # To three places the file has half the size, and the probabilities the same two.
    return Prior(
        beginnings=[str(text) for text in model.classes_],
        bias=[round(float(value), 3) for value in bias],
        weights={
            str(word): [round(float(value), 3) for value in column]
            for word, column in zip(vectorizer.get_feature_names_out(), columns, strict=True)
        },
    )
