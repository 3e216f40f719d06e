"""When: the clock and the calendar."""

import re

from dateutil import parser
from pydantic import JsonValue

from toolforge.baselines.rules.amounts import NUMBER, digits, number
from toolforge.baselines.rules.places import WHEN, place, town
from toolforge.records import ToolCall

_TIME = re.compile(
    r"\d{1,2}(?:[:.]\d\d)? in the (?:morning|afternoon|evening)|\d{1,2} o'clock(?: in the (?:morning|afternoon|evening))?|"
    r"\d{1,2}(?:[:.h]\d\d)? ?[ap]\.?m\b\.?|\d{1,2}[:h]\d\d|noon|midday|midnight",
    re.I,
)
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_DATE = rf"(?:\d{{4}}-\d\d-\d\d|\d{{1,2}}(?:st|nd|rd|th)?(?: of)? {_MONTH}(?:,? \d{{4}})?|{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?\b(?:,? \d{{4}})?)"
_SPAN = rf"(?P<amount>{NUMBER}|a|an) (?P<unit>business day|working day|day|week|fortnight|month|year|hour|minute)s?"
_ZONE = r"utc|gmt|[ecmp][sd]?t|cet|ist|jst|utc[+-]\d+"
_MOVED = re.compile(
    rf"{_SPAN} (?P<way>from now|from today|from|ago|before|after|earlier than|later than|hence)(?: (?P<date>{_DATE}|[A-Z][\w' ]+|today))?", re.I
)  # fmt: skip
_IN = re.compile(rf"(?:date|day)\b.*\b(?:in|after|add|plus) {_SPAN}\b", re.I)
_BETWEEN = re.compile(rf"(?:between|from) (?P<start>{_DATE}) (?:and|to|until|till) (?P<end>{_DATE})", re.I)
_COUNTED = re.compile(
    r"\b(?:how (?:many|much) (?:days|weeks|months|sleeps|time|longer|long)|how (?:long|far|soon)|days|weeks|countdown|time left)\b.*?"
    rf"\b(?:until|till|til|to|since|before|away is|ago was) (?P<date>{_DATE}|[\w'’ ]+)",
    re.I,
)
_WEEKDAY = re.compile(
    rf"\b(?:weekday|day of the week|(?:what|which) day|how (?:many days|long)|fall on)\b.*?(?P<date>{_DATE})|"
    rf"(?P<first>{_DATE}).*\b(?:weekday|day of the week|what day|which day|how many days)",
    re.I,
)
_TODAY = re.compile(
    r"is (?:it|today) (?:still )?\w+day(?: or \w+day)?\W*|.*\bwhat (?:day|date)(?: and (?:day|date|time))? (?:is it|are we|we are|is today).*", re.I
)  # fmt: skip
_NOW = re.compile(
    r"\b(?:what(?:'s| is|s)? (?:the )?(?:(?:current|local|exact) )?(?:time|date|day)|time (?:is it|now|in|have they)|current (?:\w+ )?time|today'?s date|"
    r"the (?:time|date)|clock|utc now|what day)\b|\btime\b\W*(?:now|please|pls)?\W*$",
    re.I,
)
_TIMETABLE = re.compile(
    r"\b(?:kick ?off|flight|train|bus|shop|open|close|shut|play|start|next|first time|last time|on time)\b", re.I
)


def datetime(text: str) -> list[ToolCall]:
    """A date moved, days counted, a time in another zone, or the clock."""
    text = digits(re.sub(r"\b(?:a|one) (?=day|week|month|year|hour|fortnight)", "1 ", text))
    arguments = _add(text) or _diff(text) or _convert(text) or _now(text)
    return [ToolCall(name="datetime", arguments=arguments)] if arguments else []


def _add(text: str) -> dict[str, JsonValue]:
    moved = _MOVED.search(text) or _IN.search(text)
    if not moved:
        return {}
    said = moved.groupdict()
    back = (said.get("way") or "").lower() in ("ago", "before", "earlier than")
    amount = 1 if said["amount"].lower() in ("a", "an") else number(said["amount"])
    date = said.get("date") or "today"
    start = {} if date == "today" else {"date": _day(date)}
    return {"action": "add", "amount": -amount if back else amount, "unit": f"{said['unit'].lower()}s", **start}


def _diff(text: str) -> dict[str, JsonValue]:
    if between := _BETWEEN.search(text):
        return {"action": "diff", "date": _day(between["end"]), "from_date": _day(between["start"])}
    if counted := _COUNTED.search(text):
        date = re.sub(r"^(?:the )?(?:start|end) of |^my |,.*| this year$| again$| please$| days$", "", counted["date"])
        if not re.search(r"\b(?:then|it|we|i|you|get|cook|boil|drive|learn|go|that|the moon)\b", date, re.I):
            return {"action": "diff", "date": _day(date)}
    if weekday := _WEEKDAY.search(text):
        return {"action": "diff", "date": _day(weekday["date"] or weekday["first"])}
    return {}


def _convert(text: str) -> dict[str, JsonValue]:
    clock = _TIME.search(text)
    if not clock or _TODAY.fullmatch(text):
        return {}
    before, after = text[: clock.start()], text[clock.end() :]
    parts = re.split(r",? (?:what|wat|in|to|is|for|at|so|when|hour|time|that|->|>|it)\b(?:'s)?|[,?>]", after)
    ends = rf"(?: time| is (?:what|when).*|[ ,]+{WHEN})+$"
    zones = [zone for part in parts if (zone := _zone(re.sub(ends, "", part.strip(" ?!.,"), flags=re.I)))]
    beside = re.match(rf"\W*(?:time\W*)?({_ZONE})\b", after, re.I)
    if len(zones) == 1 and beside and zones[0].upper() != beside[1].upper():
        zones = [beside[1], *zones]
    if len(zones) == 1 and re.search(r"\b(?:what|wat|time|in)\b", text, re.I):
        known = town(before)
        zones = [known if known != zones[0] else "", *zones]
    if len(zones) < 2:
        return {}
    source = {"from_timezone": zones[0]} if zones[0] else {}
    return {"action": "convert", "time": _clock(clock[0]), **source, "timezone": zones[1]}


def _now(text: str) -> dict[str, JsonValue]:
    if _TODAY.fullmatch(text):
        return {"action": "now"}
    if not _NOW.search(text) or _TIMETABLE.search(text):
        return {}
    if named := re.search(rf"\b({_ZONE})\b", text, re.I):
        return {"action": "now", "timezone": named[0]}
    behind = re.sub(r"^.*?\b(?:time|date)\b(?= (?:is|in|now|over|right|have|at))", "", text, flags=re.I)
    where = place(re.sub(r"\btime\b\W*$", "", behind))
    return {"action": "now", **({"timezone": where} if _zone(where) else {})}


def _zone(name: str) -> str:
    if re.fullmatch(_ZONE, name.strip(), re.I):
        return name.strip()
    return town(name) or (name if re.fullmatch(r"[A-ZÀ-Þ][\w'’-]+(?: [A-ZÀ-Þ][\w'’-]+)*", name) else "")


def _clock(text: str) -> str:
    """HH:MM of 24 hours."""
    text = text.lower()
    if text in ("noon", "midday", "midnight"):
        return "00:00" if text == "midnight" else "12:00"
    hour, minute = map(int, [*re.findall(r"\d+", text), "0"][:2])
    late = re.search(r"p\.?m|afternoon|evening", text) and hour < 12
    early = re.search(r"a\.?m|morning", text) and hour == 12
    return f"{hour + 12 * bool(late) - 12 * bool(early):02}:{minute:02}"


def _day(text: str) -> str:
    """YYYY-MM-DD where day, month and year are given, else the words."""
    text = text.strip(" ?!.,")
    if re.search(r"\d{4}", text):
        try:
            return parser.parse(text.replace(" of ", " ")).date().isoformat()
        except (ValueError, OverflowError):
            return text
    return text
