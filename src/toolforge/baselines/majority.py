"""The answer that train holds most often, whatever the query."""

from collections import Counter
from collections.abc import Sequence

from toolforge.baselines.labels import label, named
from toolforge.records import Example, ToolCall


class Majority:
    """Reads no query: what a model has to beat to have learned anything."""

    gives_arguments = False

    def __init__(self, train: Sequence[Example]) -> None:
        """Count the labels of train."""
        self._calls = named(Counter(label(example.calls) for example in train).most_common(1)[0][0])

    def route(self, query: str) -> list[ToolCall]:
        """The same for every query."""
        return self._calls
