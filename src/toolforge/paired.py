"""Two ways of answering the same rows: does either have more right than chance would give it?"""

from collections.abc import Sequence
from dataclasses import dataclass

from statsmodels.stats.contingency_tables import mcnemar


@dataclass(frozen=True)
class Paired:
    """How many rows only one of the two has right, and McNemar's exact p (McNemar 1947) of the two being equally good."""

    only_one: int
    only_other: int
    p: float


def compare(one: Sequence[bool], other: Sequence[bool]) -> Paired:
    """`one` and `other` say of each row, in one order, whether it is right. Raises ValueError where they are not of one length."""
    pairs = list(zip(one, other, strict=True))
    only_one, only_other = pairs.count((True, False)), pairs.count((False, True))
    p = float(mcnemar([[0, only_one], [only_other, 0]], exact=True).pvalue)
    return Paired(only_one, only_other, float(f"{p:.3g}"))
