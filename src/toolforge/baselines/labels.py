"""What a way of routing without arguments learns: the tools that a query calls, each as often as it is called."""

from collections.abc import Sequence

from toolforge.records import Example, ToolCall

Label = tuple[str, ...]


def label(calls: Sequence[ToolCall]) -> Label:
    """The calls' names, sorted: unlike `class_of`, it tells apart what the answers of class multi_tool call."""
    return tuple(sorted(call.name for call in calls))


def numbered(train: Sequence[Example]) -> tuple[list[Label], list[int]]:
    """The labels that occur, and each example's as its place among them: scikit-learn takes no tuples."""
    known = sorted({label(example.calls) for example in train})
    return known, [known.index(label(example.calls)) for example in train]


def named(found: Label) -> list[ToolCall]:
    """Calls of these names, their arguments left empty."""
    return [ToolCall(name=name, arguments={}) for name in found]
