"""templates: fill the frames with slot values into labelled seeds and into queries for the teacher."""

import argparse
import hashlib
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError

from toolforge import execute
from toolforge.errors import InputError, run
from toolforge.params import Params, load_params
from toolforge.records import Example, Query, Row, ToolCall, class_of, first_fault, read_text, read_yaml, write_jsonl
from toolforge.slots import Value, load_slots
from toolforge.tools import Catalogue, load_tools


class TemplatesParams(Params):
    """How many fills to draw for each of the classes, and the seed of the draw."""

    seed: int
    seeds_per_class: int = Field(gt=0)
    queries_per_class: int = Field(gt=0)


class Frame(Row):
    """A query with slots, `{place}`, and the calls that it means. `{place_2}` is another value of the same slot."""

    query: str = Field(min_length=1)
    calls: list[ToolCall]

    @property
    def group(self) -> str:
        """The family of all fills of this frame."""
        return f"template-{hashlib.sha256(self.query.encode()).hexdigest()[:10]}"


SLOT = re.compile(r"\{(\w+?)(?:_(\d))?\}")
# Fills that repeat an earlier one before a class counts as exhausted.
PATIENCE = 200


def templates(
    frames: Mapping[str, Sequence[Frame]],
    slots: Mapping[str, Sequence[Value]],
    logged: Sequence[str],
    catalogue: Catalogue,
    params: TemplatesParams,
) -> tuple[list[Example], list[Query]]:
    """Seeds, `seeds_per_class` for each class, and queries, `queries_per_class` for each class and then `logged`.

    No fill stands in both. Raises InputError for a frame that names an unknown slot, that breaks the catalogue or
    whose calls do not run, and for a class that cannot be filled that often.
    """
    seeds: list[Example] = []
    queries: list[Query] = []
    for name in catalogue.classes:
        if not frames.get(name):
            raise InputError(f"class {name!r} has no frame")
        fills = _fills(name, frames[name], slots, catalogue, random.Random(f"{params.seed}/{name}"))
        for number, (frame, query, calls) in zip(
            range(params.seeds_per_class + params.queries_per_class), fills, strict=False
        ):
            if number < params.seeds_per_class:
                seeds.append(
                    Example(id=f"seed-{name}-{number}", query=query, calls=calls, source="template", group=frame.group)
                )
            else:
                queries.append(Query(id=f"query-{name}-{number}", query=query, group=frame.group))
    queries += [
        Query(id=f"query-logged-{number}", query=text, group=f"logged-{number}") for number, text in enumerate(logged)
    ]
    return seeds, queries


def _fills(
    name: str,
    frames: Sequence[Frame],
    slots: Mapping[str, Sequence[Value]],
    catalogue: Catalogue,
    draw: random.Random,
) -> Iterator[tuple[Frame, str, list[ToolCall]]]:
    seen: set[str] = set()
    repeats = 0
    while True:
        for frame in draw.sample(frames, len(frames)):
            query, calls = fill(frame, slots, draw)
            _check(name, frame, calls, catalogue)
            if query in seen:
                repeats += 1
                if repeats > PATIENCE:
                    raise InputError(
                        f"class {name!r}: its frames give only {len(seen)} different queries; "
                        "add frames or slot values, or lower templates.seeds_per_class or queries_per_class"
                    )
                continue
            seen.add(query)
            repeats = 0
            yield frame, query, catalogue.canonical(calls)


def fill(frame: Frame, slots: Mapping[str, Sequence[Value]], draw: random.Random) -> tuple[str, list[ToolCall]]:
    """The frame's query and calls with values drawn for its slots: one value for each slot, different ones for
    `{slot}`, `{slot_2}`. An argument that is one slot takes the value's own type.
    """
    wanted: dict[str, list[str]] = {}
    for match in SLOT.finditer(frame.query):
        wanted.setdefault(match[1], [])
        if match[0] not in wanted[match[1]]:
            wanted[match[1]].append(match[0])
    values: dict[str, Value] = {}
    for slot, marks in wanted.items():
        if slot not in slots:
            raise InputError(f"frame {frame.query!r} names the slot {slot!r}, which data/slots lacks")
        if len(marks) > len(slots[slot]):
            raise InputError(
                f"frame {frame.query!r} wants {len(marks)} different values of the slot {slot!r}, which has {len(slots[slot])}"
            )
        values.update(zip(marks, draw.sample(slots[slot], len(marks)), strict=True))

    def put(argument: Any) -> Any:
        if isinstance(argument, list):
            return [put(part) for part in argument]
        if isinstance(argument, dict):
            return {key: put(part) for key, part in argument.items()}
        if not isinstance(argument, str):
            return argument
        unknown = [match[0] for match in SLOT.finditer(argument) if match[0] not in values]
        if unknown:
            raise InputError(f"frame {frame.query!r}: its calls use {unknown[0]}, which its query lacks")
        if argument in values:
            return values[argument].value
        return SLOT.sub(lambda match: str(values[match[0]].value), argument)

    query = SLOT.sub(lambda match: values[match[0]].text, frame.query)
    calls = [ToolCall(name=c.name, arguments={k: put(v) for k, v in c.arguments.items()}) for c in frame.calls]
    return query, calls


def _check(name: str, frame: Frame, calls: Sequence[ToolCall], catalogue: Catalogue) -> None:
    fault = execute.fault(calls, catalogue)
    if not fault and class_of(calls) != name:
        fault = f"its calls are of class {class_of(calls)!r}"
    if fault:
        raise InputError(f"class {name!r}, frame {frame.query!r}: {fault}")


def load_frames(path: Path, catalogue: Catalogue) -> dict[str, list[Frame]]:
    """The frames of each class. Raises InputError for a file that is no mapping of the catalogue's classes to frames."""
    document = read_yaml(path)
    try:
        frames = TypeAdapter(dict[str, list[Frame]]).validate_python(document, strict=True)
    except ValidationError as error:
        raise InputError(f"{path}: {first_fault(error)}") from None
    for name in frames:
        if name not in catalogue.classes:
            raise InputError(f"{path}: {name!r} is no tool of the catalogue, no_tool or multi_tool")
    return frames


def load_logged(path: Path) -> list[str]:
    """Queries without labels, one a line. Raises InputError for a file that is missing or not UTF-8."""
    return [text.strip() for text in read_text(path).split("\n") if text.strip()]


def main() -> None:
    """Read the frames, slots and logged queries; write seeds and queries."""
    parser = argparse.ArgumentParser(prog="toolforge.stages.templates", description=__doc__)
    for name in ("tools", "frames", "slots", "logged", "seeds", "queries"):
        parser.add_argument(name, type=Path)
    paths = parser.parse_args()
    params = load_params("templates", TemplatesParams)
    catalogue = load_tools(paths.tools)
    seeds, queries = templates(
        load_frames(paths.frames, catalogue), load_slots(paths.slots), load_logged(paths.logged), catalogue, params
    )
    write_jsonl(paths.seeds, seeds)
    write_jsonl(paths.queries, queries)
    print(f"templates: {len(seeds)} seeds, {len(queries)} queries for the teacher")


if __name__ == "__main__":
    run(main)
