"""The queries of train that lie nearest by a sentence embedding: a vote of them, and as semantic-router counts them."""

from collections import defaultdict
from collections.abc import Sequence

from toolforge.baselines.embedding import Embedding, Vectors, near
from toolforge.baselines.labels import label, named
from toolforge.records import Example, ToolCall


class Nearest:
    """The label whose queries have the largest sum of cosines among the `k` nearest."""

    gives_arguments = False

    def __init__(self, train: Sequence[Example], vectors: Vectors, embedding: Embedding, k: int) -> None:
        """`vectors` are the queries of train."""
        self._labels = [label(example.calls) for example in train]
        self._vectors, self._embedding, self._k = vectors, embedding, k

    def route(self, query: str) -> list[ToolCall]:
        """The tools of that label."""
        scores = self._near(query)
        return named(max(scores, key=lambda found: sum(scores[found])))

    def _near(self, query: str) -> dict[tuple[str, ...], list[float]]:
        scores = defaultdict(list)
        for place, cosine in near(self._embedding([query])[0], self._vectors, self._k):
            scores[self._labels[place]].append(cosine)
        return scores


class SemanticRouter(Nearest):
    """semantic-router as it comes (aurelio-labs/semantic-router, routers/base.py, and its HuggingFaceEncoder, which is this embedding): each label
    is a route with its queries as utterances, the highest mean cosine among the 5 nearest wins, and where none of its cosines is above 0.5,
    there is no route. The mean forgets how many of the 5 a route has, so that one near query outweighs four.
    """

    K, THRESHOLD = 5, 0.5

    def __init__(self, train: Sequence[Example], vectors: Vectors, embedding: Embedding) -> None:
        """`vectors` are the queries of train."""
        super().__init__(train, vectors, embedding, self.K)

    def route(self, query: str) -> list[ToolCall]:
        """The tools of the route; no route is no tool."""
        scores = self._near(query)
        best = max(scores, key=lambda found: sum(scores[found]) / len(scores[found]))
        return named(best) if max(scores[best]) > self.THRESHOLD else []
