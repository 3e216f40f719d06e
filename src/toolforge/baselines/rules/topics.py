"""Subjects: what is recent or local is searched, settled facts are in the encyclopedia."""

import re

from toolforge.records import ToolCall

SEARCHED = re.compile(
    r"^.*?\b(?:search(?: the web| the internet| up| online)?(?: for)?|google|look up(?: online)?|look online for|find me|find out online|find)\b:? (?P<query>.+)",
    re.I,
)
_RECENT = re.compile(
    r"\b(?:news|latest|prices?|scores?|tickets?|near me|opening hours|hours|open (?:on|late|today|now)|timetable|schedule|results?|reviews?|recipes?|stock|shares?|"
    r"exchange rate|rate|best|cheap(?:est)?|this (?:weekend|week|year|season)|tonight|last night|release date|who won|who is (?:leading|winning|playing)|accident|opens|free on|did .* win|restaurants?|hotels?|flights?|"
    r"jobs?|concerts?|fixtures?|kick ?off|in stock|salary|cost|traffic|buy|vs|today'?s|how much (?:is|are|does)|what time (?:does|is)|when (?:does|do|is) .* "
    r"(?:open|close|shut|play|start|next)|currently|(?:usd|eur|gbp|inr|idr|php|aud|cad|jpy|yen|dollars?|euros?|pounds sterling|rupees) (?:in|to))\b", re.I
)  # fmt: skip
# Who speaks of himself, or of what was said before, asks for nothing that can be searched.
_CHAT = re.compile(
    r"^(?:i|i'm|i've|my|our|we|it's|so|before|when(?:ever)? (?:i|you)|back|rate|today's the|yesterday's|for the summer)\b(?!.*\b(?:want|need|know what|like to know|have to find)\b)|\b(?:it|that|does that|you)\W*$|\bthat again|(?:my|our) (?:phone|keys)",
    re.I,
)
_WRAPPER = re.compile(
    r"^(?:(?:so|and|ok|hey|hi|hello|please|kindly|pls|could you|can you|would you|tell me|give me|show me|i(?:'d| would) like to know|i want(?: to know)?|i need(?: to know)?|i have to find (?:a )?|find|a(?= good)|current(?=$)|"
    r"what(?:'s|s| is| are) (?:the )?|the) ?[, ]?)+", re.I
)  # fmt: skip


def web_search(text: str) -> list[ToolCall]:
    """What is to be searched, or anything recent or local, in the user's words without their wrapper."""
    if searched := SEARCHED.search(text):
        query = searched["query"]
    elif _RECENT.search(text) and not _CHAT.search(text):
        query = _WRAPPER.sub("", text)
    else:
        return []
    query = re.sub("^the ", "", query)
    query = re.sub(r"(?:,? (?:please|pls|for me|online|would you))+$", "", query.strip(" ?.!"))
    return [ToolCall(name="web_search", arguments={"query": query})] if query else []


_WIKIPEDIA = [
    re.compile(pattern, re.I)
    for pattern in (
        r"\btell me (?:more |something )?(?:about|abt|of) (?P<subject>.+)",
        r"\bwho(?: exactly)?(?: was| is|'s|s| were| are) (?:the \w+ (?:named |called )?(?=[A-Z]))?(?P<subject>.+)",
        r"\bwho (?:wrote|invented|painted|discovered|founded|built|made|composed|started|directed|created|designed|signed) (?P<subject>.+)",
        r"\b(?:when|where|how|why|in which \w+|what \w+) (?:was|were|did|is|are|does|do) (?P<subject>.+?)(?: (?:born|die|built|founded|invented|discovered|start|end|happen|fall|begin|live|work|put on trial|grow up|found|located|shrink|important|finished|made|painted|written|fought|formed|happen|salty|invented by|contribute|look like|extinct|famous|signed|sink|erupt|rise|collapse|important for .*))(?: .*)?$",
        r"\b(?:capital|population|history|biography|founder|inventor|author|chemical symbol|currency|plot|life|origins?|source|meaning and history|capital and population)s? (?:of|behind) (?P<subject>.+)",
        r"^(?P<subject>[\w' -]+?),? (?:who (?:is|was)(?: (?:s?he|it))?|who$|how (?:big|old|tall|deep)|when|founder|(?:formation|eruption) (?:how|when)|invented by|who came up with it|who was (?:she|he|that)|date)\W*$",
        r"\bwho (?:starred in|came up with|first made|started) (?P<subject>.+)",
        r"\b(?:facts about|where's|purpose of) (?P<subject>.+)",
        r"^(?:is|was) (?P<subject>.+?) (?:born|endangered|extinct)\b",
        r"\bin (?:which|what) year did (?P<subject>.+?) (?:come out|start|end|happen|die|open)",
        r"\bhow (?:tall|old|deep|big|high|long|far|large|many people) (?:was|is|are|were|live in) (?P<subject>.+)",
        r"\bhow (?:does|do) (?P<subject>.+?) work",
        r"\b(?:explain|info(?:rmation)? on|curious about|what(?:'s| is) the story (?:with|of)|wikipedia(?: page)?(?: on| for| about)?|what happened (?:in|at|to)|article on|summary of) (?P<subject>.+)",
        r"\bwhat(?:'s| is| was| were| are|s) (?P<subject>.+)",
        r"\b(?:when was|when is|background on|backround on) (?P<subject>.+)",
        r"\bwhat does (?:the \w+ of )?(?P<subject>.+?) look like",
        r"\bwhat (?:language|currency|religion) (?:do|does|is) .*?\bin (?P<subject>.+)",
        r"^(?P<subject>[\w' -]+?) history\W*$",
        r"\bwant to read about (?P<subject>.+)",
        r"\bin (?:which|what) (?:country|city|year|century) (?:is|was) (?P<subject>.+)",
        r"^(?P<subject>.+?),? who (?:was|is|were) (?:he|she|they|it|that)",
    )
]  # fmt: skip


def wikipedia(text: str) -> list[ToolCall]:
    """The subject of a question of fact: the name in it, where it holds one."""
    for pattern in _WIKIPEDIA:
        if match := pattern.search(text):
            subject = re.sub(
                r"(?:,? (?:please|pls|for me|roughly|all about|about|exactly)|[,?.!;].*| and (?:was|did|what|when|why|how|where|is) .*| - .*)+$",
                "",
                match["subject"].strip(" ?.!"),
                flags=re.I,
            )
            name = re.search(
                r"(?:The )?[A-ZÀ-Þ][\w'’-]+(?: (?:of|the|de|and|a|in|for|on|du|von|ibn|del|la|[A-ZÀ-Þ][\w'’.-]*))*(?: [A-ZÀ-Þ][\w'’-]+)|[A-ZÀ-Þ][\w'’-]+",
                subject,
            )
            if name and re.fullmatch(r" [a-z]+", subject[name.end() :]):
                name = re.match(".*", subject[name.start() :])
            subject = (
                name[0]
                if name and name[0] not in ("I", "I'm")
                else re.sub("^(?:the|a|an|some|first) ", "", subject, flags=re.I)
            )
            if not subject or re.match(
                r"(?:you|your|i|my|me|we|our|it|this|that|he|she|they|there|yourself|his|her|him|wrong|up|on|left|date|remainder|weather|time|place|mistake|in|good|main|best)\b",
                subject,
                re.I,
            ):
                return []
            return [ToolCall(name="wikipedia", arguments={"query": subject})]
    return []
