"""How an answer probably begins, by the query's words alone: a linear classifier that is fitted on the train rows in seconds.

It drafts for the router, and is the second opinion in the router's confidence.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from pydantic import Field, ValidationError

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

    beginnings: list[str]
    bias: list[float]
    weights: dict[str, list[float]]

    def likeliest(self, query: str) -> tuple[str, float]:
        """The most probable beginning, and its probability."""
        probabilities = self._probabilities(query)
        best = max(range(len(probabilities)), key=probabilities.__getitem__)
        return self.beginnings[best], probabilities[best]

    def probability(self, query: str, answer: str) -> float:
        """The probability of the way in which an answer begins; 0 for one that no beginning stands for."""
        fits = [n for n, text in enumerate(self.beginnings) if answer.startswith(text)]
        # That of a call of which the schema lists all values begins another one's, too.
        found = max(fits, key=lambda n: len(self.beginnings[n]), default=None)
        return 0.0 if found is None else self._probabilities(query)[found]

    def _probabilities(self, query: str) -> list[float]:
        rows = [self.weights[word] for word in set(words(query)) if word in self.weights]
        scores = [math.fsum(column) for column in zip(self.bias, *rows, strict=True)]
        top = max(scores)
        powers = [math.exp(score - top) for score in scores]
        return [power / sum(powers) for power in powers]


def load_prior(path: Path) -> Prior:
    """The prior in a file. Raises InputError where it is missing or none."""
    try:
        return Prior.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: no prior; run dvc repro") from None
    except ValidationError as error:
        raise InputError(f"{path}: {first_fault(error)}") from None


def words(query: str) -> list[str]:
    """Its words in lower case, every digit as 0, and the pairs of neighbours, with `^` and `$` for the query's ends."""
    tokens = ["^", *_TOKEN.findall(re.sub(r"\d", "0", query.lower())), "$"]
    return tokens + [f"{one} {next_one}" for one, next_one in pairwise(tokens)]


def beginning(calls: Sequence[ToolCall], catalogue: Catalogue) -> str:
    """The text of an answer up to the first value that its schema does not list: `[{"name": "weather", "arguments": {"location": "`; `[]` whole."""
    if not calls:
        return "[]"
    name, arguments = calls[0].name, calls[0].arguments
    schemas = {schema["function"]["name"]: schema["function"]["parameters"] for schema in catalogue.schemas}
    properties = schemas[name].get("properties", {})
    text = f'[{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": {{'
    for number, (key, value) in enumerate(arguments.items()):
        text += f"{', ' if number else ''}{json.dumps(key, ensure_ascii=False)}: "
        schema = properties.get(key)
        if not isinstance(schema, dict) or "enum" not in schema:
            return text + ('"' if isinstance(value, str) else "")
        text += json.dumps(value, ensure_ascii=False)
    return text


def fit(examples: Sequence[Example], catalogue: Catalogue, params: PriorParams) -> Prior:
    """The prior of the highest penalized likelihood. One that tells nothing apart where fewer than two beginnings have `min_rows` rows. Requires an example."""
    # Imported here: a router applies a prior and never fits one.
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    begun = [beginning(example.calls, catalogue) for example in examples]
    rows = Counter(begun)
    kept = [n for n, text in enumerate(begun) if rows[text] >= params.min_rows]
    if len({begun[n] for n in kept}) < 2:
        return Prior(beginnings=sorted(rows), bias=[0.0] * len(rows), weights={})
    vectorizer = CountVectorizer(analyzer=words, binary=True, min_df=params.min_rows)
    counts = vectorizer.fit_transform([examples[n].query for n in kept])
    model = LogisticRegression(C=params.C, max_iter=500).fit(counts, [begun[n] for n in kept])
    coefficients, bias = model.coef_, model.intercept_
    if len(model.classes_) == 2:
        # Of two classes it has one row, of their difference.
        coefficients, bias = ([sign * row / 2 for row in part for sign in (-1, 1)] for part in (coefficients, bias))
    columns = zip(*coefficients, strict=True)
    return Prior(
        beginnings=[str(text) for text in model.classes_],
        bias=[round(float(value), 3) for value in bias],
        weights={
            str(word): [round(float(value), 3) for value in column]
            for word, column in zip(vectorizer.get_feature_names_out(), columns, strict=True)
        },
    )
