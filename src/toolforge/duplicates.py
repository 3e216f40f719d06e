"""Duplicates: which queries are the same, and which are nearly."""

import re
from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer


def normal(query: str) -> str:
    """The query without case, marks and extra spaces: what makes two rows exact duplicates. Marks between digits
    and signs of arithmetic stay, since they carry meaning.
    """
    return " ".join(re.sub(r"[?!\"'“”‘’,;:]+(?=\s|$)|[.]+(?=\s|$)", " ", query.casefold()).split())


def near_pairs(queries: Sequence[str], threshold: float) -> list[tuple[int, int, float]]:
    """The pairs (i, j, cosine), i < j, in order, whose character n-grams of 2 to 4 have a cosine of at least `threshold`."""
    if len(queries) < 2:
        return []
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), dtype=np.float32).fit_transform(queries)
    pairs = []
    # In blocks: the product of all rows at once would hold most of n * n values.
    for start in range(0, len(queries), 500):
        block = (vectors[start : start + 500] @ vectors.T).tocoo()
        close = block.data >= threshold
        for i, j, cosine in zip(block.row[close] + start, block.col[close], block.data[close], strict=True):
            if i < j:
                pairs.append((int(i), int(j), float(cosine)))
    return sorted(pairs)
