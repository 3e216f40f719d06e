"""Whether another form of a model still answers as the trained one does, and as well."""

from collections.abc import Sequence

from toolforge.records import ToolCall
from toolforge.scoring import calls_match

# The calls of each query's answer, None where the answer is not one that the catalogue allows.
Answers = Sequence[Sequence[ToolCall] | None]


def agreements(trained: Answers, other: Answers) -> list[bool]:
    """Whether both forms gave a query the same calls, or both none that the catalogue allows, for each query."""
    return [
        one is another if one is None or another is None else calls_match(one, another)
        for one, another in zip(trained, other, strict=True)
    ]


def corrects(gold: Answers, answers: Answers) -> list[bool]:
    """Whether each answer is its gold."""
    return [calls is not None and calls_match(calls, answer) for calls, answer in zip(gold, answers, strict=True)]


def fault(form: str, gold: Answers, trained: Answers, other: Answers, agreement: float, loss: float) -> str | None:
    """Why `other` may not stand for `trained`, in one line with the figures, or None where it may: where fewer than `agreement`
    of the calls agree, and where call accuracy falls by more than `loss`, both 0 to 1.
    """
    rows = len(gold)
    agree = sum(agreements(trained, other))
    before, after = sum(corrects(gold, trained)), sum(corrects(gold, other))
    if agree >= agreement * rows and before - after <= loss * rows:
        return None
    return (
        f"the {form} model is not the trained one: of {rows} queries {agree} have the same calls ({agree / rows:.1%}, at least "
        f"{agreement:.1%} have to) and {after} the right ones, for {before} before ({(before - after) / rows:.1%} fewer, at most "
        f"{loss:.1%} may be lost)"
    )
