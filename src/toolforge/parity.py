"""Whether another form of a model still answers as the trained one does, and as well."""

from collections.abc import Sequence

from toolforge.records import ToolCall
from toolforge.scoring import calls_match

# The calls of each query's answer, None where the answer is not one that the catalogue allows.
Answers = Sequence[Sequence[ToolCall] | None]


def agreements(trained: Answers, other: Answers) -> list[bool]:
    """Whether both forms gave a query the same calls, for each query to which the trained one gave calls that the catalogue allows. To
    the others an exported router, which is held to the catalogue, cannot say the same.
    """
    return [
        two is not None and calls_match(one, two) for one, two in zip(trained, other, strict=True) if one is not None
    ]


def corrects(gold: Answers, answers: Answers) -> list[bool]:
    """Whether each answer is its gold."""
    return [calls is not None and calls_match(calls, answer) for calls, answer in zip(gold, answers, strict=True)]


def fault(form: str, gold: Answers, trained: Answers, other: Answers, agreement: float, loss: float) -> str | None:
    """Why `other` may not stand for `trained`, in one line with the figures, or None where it may: where fewer than `agreement`
    of their calls agree, and where call accuracy falls by more than `loss`, both 0 to 1.
    """
    agreed = agreements(trained, other)
    before, after = sum(corrects(gold, trained)), sum(corrects(gold, other))
    if sum(agreed) >= agreement * len(agreed) and before - after <= loss * len(gold):
        return None
    return (
        f"the {form} model is not the trained one: of {len(agreed)} queries {sum(agreed)} have the same calls "
        f"({sum(agreed) / max(1, len(agreed)):.1%}, at least {agreement:.1%} have to) and of {len(gold)} {after} the right ones, for {before} before "
        f"({(before - after) / len(gold):.1%} fewer, at most {loss:.1%} may be lost)"
    )
