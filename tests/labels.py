"""The matcher that a label is held to."""

from toolforge.copying import by_tool


def matchers(grammar, catalogue, copied):
    """From an example to the matcher of its query. One serves all whose calls copy nothing: a query's own takes milliseconds, and differs from another's
    in what is copied alone.
    """
    shared, of_tools = grammar.matcher("any"), by_tool(copied, catalogue).keys()
    return lambda example: (
        grammar.matcher(example.query) if of_tools & {call.name for call in example.calls} else shared
    )
