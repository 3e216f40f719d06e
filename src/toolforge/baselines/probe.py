"""Logistic regression on a sentence embedding, the head that SetFit puts on one."""

from collections.abc import Sequence

from sklearn.linear_model import LogisticRegression

from toolforge.baselines.embedding import Embedding, Vectors
from toolforge.baselines.labels import named, numbered
from toolforge.records import Example, ToolCall


class Probe:
    """A linear probe: the embedding itself stays as it is."""

    gives_arguments = False

    def __init__(self, train: Sequence[Example], vectors: Vectors, embedding: Embedding) -> None:
        """`vectors` are the queries of train."""
        self._known, numbers = numbered(train)
        self._embedding, self._model = embedding, LogisticRegression(C=10, max_iter=300).fit(vectors, numbers)

    def route(self, query: str) -> list[ToolCall]:
        """The tools of the likeliest label."""
        return named(self._known[self._model.predict(self._embedding([query]))[0]])
