"""Regexes and keywords, as people write a router by hand: the query is cut where it may ask several things, and each piece goes to the first rule
that takes it. A piece that none takes needs no tool.
"""

import re
from collections.abc import Callable, Iterator

from toolforge.baselines.rules.amounts import calculator, unit_converter
from toolforge.baselines.rules.moments import datetime
from toolforge.baselines.rules.phrases import dictionary, translate, web_reader
from toolforge.baselines.rules.places import weather
from toolforge.baselines.rules.topics import SEARCHED, web_search, wikipedia
from toolforge.records import ToolCall
from toolforge.tools import Catalogue

NO_TOOL = re.compile(
    r"^(?:please |pls |can you |could you )*(?:do ?n[o']t|never|no need|not the|no not|we don't|i don't want|that wasn't|remind|set|book|cancel|play|turn|dim|call|ring|text|send|order|write|draft|"
    r"compose|rewrite|rephrase|proofread|summari[sz]e this|fix|debug|design|draw|plan|pretend|act as|imagine|sing|rate|read my|back up|change (?:your|my|the)|choose|track|help me (?!say|find out)|suggest|insert|resume|no tools|show me (?:what )?my|cover letter|"
    r"(?:who|what) are you|how are you|what(?:'s| is) your|does your|are you|can you only|(?:hi|hello|hey|thanks|thank you|good (?:morning|night|evening))(?: \w+)?[,.!? ]*$)\b"
    r"|localhost|192\.168|\b(?:poem|haiku|limerick|jokes?|riddle|slogan|your opinion|python|javascript|regex|sql|placeholder|git|this (?:paragraph|sentence|text)|that in a)\b|(?<!:)// |[{};]$",
    re.I,
)


RULES: list[Callable[[str], list[ToolCall]]] = [
    web_reader, translate, dictionary, unit_converter, datetime, calculator, weather, web_search, wikipedia,
]  # fmt: skip
_JOINT = re.compile(
    r"((?:,? (?:and|then|also|plus|oh and|but first)|[,;+&]|,? as well as) (?:then |also |oh )?)(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)",
    re.I,
)


def calls(text: str) -> list[ToolCall]:
    """Those of the first rule that takes the text."""
    if NO_TOOL.search(text):
        return []
    return next(filter(None, (rule(text) for rule in RULES)), [])


def _pieces(sentence: str) -> Iterator[ToolCall]:
    """The calls of a sentence that asks several things: a piece that no rule takes belongs to the one before it, or to none."""
    last, found = "", list[ToolCall]()
    parts = _JOINT.split(sentence)
    for joint, part in zip(["", *parts[1::2]], parts[::2], strict=True):
        alone = calls(part)
        joined = calls(last + joint + part) if last and not alone else []
        if alone:
            yield from found
            last, found = part, alone
        elif len(joined) > len(found):
            last, found = last + joint + part, joined
        elif last:
            last += joint + part
    yield from found


# Quotes, and the letters that re.I takes for i and s and lower() does not.
_PLAIN = str.maketrans("“”«»’‘İıſ", '""""\'\'Iis')


class Keywords:
    """The hand-written router. Calls that the catalogue does not allow are dropped: it was written for this repository's own."""

    gives_arguments = True

    def __init__(self, catalogue: Catalogue) -> None:
        """Nothing is learned."""
        self._catalogue = catalogue

    def route(self, query: str) -> list[ToolCall]:
        """The calls of each sentence, or of all of them together where none has any."""
        query = query.strip().translate(_PLAIN)
        found = list[ToolCall]()
        for sentence in re.split(r"(?<=[.?!])\s+(?=[A-Z\"'0-9])", query):
            whole, pieces = calls(sentence), list(_pieces(sentence))
            # A time and its place may stand in two pieces.
            converted = (
                whole and "from_timezone" in whole[0].arguments and {call.name for call in pieces} == {"datetime"}
            )
            searched = whole and SEARCHED.search(sentence) and {call.name for call in pieces} == {"web_search"}
            found += pieces if len(pieces) > len(whole) and not converted and not searched else whole
        found = found or calls(query)
        return [call for n, call in enumerate(found) if call not in found[:n] and not self._catalogue.fault([call])]
