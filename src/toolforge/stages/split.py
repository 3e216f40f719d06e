"""split: merge all labelled rows, clean them, and cut them by group into train, val, test and hard_test."""

import argparse
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field
from scipy.cluster.hierarchy import DisjointSet

from toolforge import copying, execute, grammar, scoring
from toolforge.copying import Copied, DecodingParams
from toolforge.duplicates import near_pairs, normal
from toolforge.errors import InputError, run
from toolforge.params import Params, load_params
from toolforge.records import Example, class_of, read_jsonl, write_json, write_jsonl
from toolforge.tools import Catalogue, load_tools

SPLITS = ("train", "val", "test", "hard_test")
AUTHORED = "authored"
# Sources that are no teacher's: the rows' and the frames' own calls.
GOLD = (AUTHORED, "template")


class SplitParams(Params):
    """How many authored rows each split takes, and from which cosine of character n-grams two queries are near
    duplicates. `entities` names the arguments whose values make a test row seen or unseen. Rows of the sources in `leave_out` are cut as all
    are and then taken out of train, so that an ablation without them has the same val and tests.
    """

    seed: int
    near_duplicate: float = Field(gt=0, le=1)
    test_per_class: int = Field(gt=0)
    hard_test_per_suite: int = Field(gt=0)
    val_per_class: int = Field(gt=0)
    val_per_suite: int = Field(ge=0)
    entities: list[str]
    leave_out: list[str]


@dataclass(frozen=True)
class Row:
    """An example and the file and line that it stands in."""

    where: str
    example: Example


@dataclass(frozen=True)
class Splits:
    """The rows of each split, how many rows were dropped for which reason, and the pairs (gold, teacher's) of two labels of
    one query.
    """

    rows: dict[str, list[Example]]
    dropped: dict[str, int]
    labelled_twice: list[tuple[Example, Example]]


def split(rows: Sequence[Row], catalogue: Catalogue, params: SplitParams, copied: Copied | None = None) -> Splits:
    """Cut the rows, best source first in `rows`, so that no group and no near duplicate stands on both sides. Rows whose calls have a `copied` argument
    that is no part of the query are dropped: no router could answer them so.

    Only authored rows come into val, test and hard_test; hard_test takes those with a suite. Raises InputError, naming file
    and line, for a label that breaks the catalogue or does not run.
    """
    by_query: dict[str, list[Row]] = defaultdict(list)
    dropped: dict[str, int] = {}
    for row in rows:
        checked = _check(row, catalogue)
        if copying.fault(checked.example.calls, checked.example.query, copied or {}):
            _count(dropped, "not_copied", 1)
        else:
            by_query[normal(checked.example.query)].append(checked)
    kept = _resolve(by_query.values(), dropped)
    kept, near = _drop_near_duplicates(kept, params.near_duplicate, dropped)
    cut = _cut(_join(kept, near), params)
    parts: dict[str, list[Example]] = {name: [] for name in SPLITS}
    for row in kept:
        parts[cut[row.example.id]].append(row.example)
    train = "\n".join(
        text for example in parts["train"] for text in (example.query.casefold(), *_values(example, params.entities))
    )
    parts["test"] = [_mark_unseen(example, train, params.entities) for example in parts["test"]]
    with_all = len(parts["train"])
    parts["train"] = [example for example in parts["train"] if example.source not in params.leave_out]
    if len(parts["train"]) < with_all:
        _count(dropped, "left_out", with_all - len(parts["train"]))
    return Splits(parts, dropped, _labelled_twice(by_query.values()))


def _check(row: Row, catalogue: Catalogue) -> Row:
    fault = execute.fault(row.example.calls, catalogue)
    if fault:
        raise InputError(f"{row.where}: {fault}")
    return Row(row.where, row.example.model_copy(update={"calls": catalogue.canonical(row.example.calls)}))


def _resolve(same_queries: Iterable[list[Row]], dropped: dict[str, int]) -> list[Row]:
    kept = []
    for same in same_queries:
        best = [row for row in same if row.example.source == same[0].example.source]
        if any(row.example.calls != best[0].example.calls for row in best):
            _count(dropped, "contradictory", len(same))
            continue
        kept.append(same[0])
        for row in same[1:]:
            _count(dropped, "duplicate" if row.example.calls == same[0].example.calls else "outvoted", 1)
    return kept


def _labelled_twice(same_queries: Iterable[list[Row]]) -> list[tuple[Example, Example]]:
    pairs = []
    for same in same_queries:
        gold = [row.example for row in same if row.example.source in GOLD]
        if gold:
            pairs += [(gold[0], row.example) for row in same if row.example.source not in GOLD]
    return pairs


Pair = tuple[Row, Row, float]


def _drop_near_duplicates(
    rows: Sequence[Row], threshold: float, dropped: dict[str, int]
) -> tuple[list[Row], list[Pair]]:
    """Without the later row of each near-duplicate pair of one class; and the pairs that are left."""
    pairs = near_pairs([row.example.query for row in rows], threshold)
    gone: set[int] = set()
    for first, second, _ in pairs:
        if first not in gone and _class(rows[first]) == _class(rows[second]) and second not in gone:
            gone.add(second)
    _count(dropped, "near_duplicate", len(gone))
    kept = [row for number, row in enumerate(rows) if number not in gone]
    return kept, [(rows[a], rows[b], s) for a, b, s in pairs if a not in gone and b not in gone]


def _join(rows: Sequence[Row], near: Sequence[Pair]) -> list[list[Row]]:
    """The rows in families: one group each, and groups with a near duplicate between them together."""
    groups = DisjointSet(row.example.group for row in rows)
    for first, second, _ in near:
        groups.merge(first.example.group, second.example.group)
    families: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        families[str(groups[row.example.group])].append(row)
    return list(families.values())


def _cut(families: Iterable[list[Row]], params: SplitParams) -> dict[str, str]:
    """The split of each row by id. Families are taken in the order of their hash, so that a new one moves only those that a quota then has no room for."""
    taken: Counter[tuple[str, str]] = Counter()
    cut = {}
    for family in sorted(families, key=lambda family: _hash(f"{params.seed}/{family[0].example.group}")):
        part = "train"
        suites = {row.example.suite for row in family}
        if all(row.example.source == AUTHORED for row in family) and len(suites) == 1:
            suite = suites.pop()
            kind = suite or _class(family[0])
            quotas = (
                (("hard_test", params.hard_test_per_suite), ("val", params.val_per_suite))
                if suite
                else (("test", params.test_per_class), ("val", params.val_per_class))
            )
            part = next((name for name, quota in quotas if taken[name, kind] < quota), "train")
            taken[part, kind] += len(family)
        cut.update({row.example.id: part for row in family})
    return cut


def _mark_unseen(example: Example, train: str, entities: Sequence[str]) -> Example:
    values = _values(example, entities)
    unseen = bool(values) and not any(value in train for value in values)
    return example.model_copy(update={"unseen_entities": unseen})


def _values(example: Example, entities: Sequence[str]) -> list[str]:
    return [str(call.arguments[key]).casefold() for call in example.calls for key in entities if key in call.arguments]


def _class(row: Row) -> str:
    return class_of(row.example.calls)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _count(counts: dict[str, int], reason: str, n: int) -> None:
    counts[reason] = counts.get(reason, 0) + n


def report(splits: Splits) -> dict[str, Any]:
    """The counts by split, class, source and suite, what was dropped, and by class how often a teacher's label is gold's."""

    def count(examples: Sequence[Example]) -> dict[str, Any]:
        return {
            "rows": len(examples),
            "by_class": dict(sorted(Counter(class_of(example.calls) for example in examples).items())),
            "by_source": dict(sorted(Counter(example.source for example in examples).items())),
            "by_suite": dict(sorted(Counter(example.suite for example in examples if example.suite).items())),
            "unseen_entities": sum(example.unseen_entities for example in examples),
        }

    pairs: dict[str, list[tuple[Example, Example]]] = defaultdict(list)
    for pair in splits.labelled_twice:
        pairs[class_of(pair[0].calls)].append(pair)
    return {
        **{name: count(examples) for name, examples in splits.rows.items()},
        "dropped": splits.dropped,
        "teacher_agreement": {
            name: {
                **scoring.share([scoring.tools_match(g.calls, t.calls) for g, t in of], "tool_agreement"),
                **scoring.share([scoring.calls_match(g.calls, t.calls) for g, t in of], "call_agreement"),
            }
            for name, of in sorted(pairs.items())
        },
    }


def load_rows(paths: Iterable[Path]) -> list[Row]:
    """The examples of the files. Raises InputError for a line that is none and for an id that stands twice."""
    rows: list[Row] = []
    where: dict[str, str] = {}
    for path in paths:
        for number, example in read_jsonl(path, Example):
            place = f"{path}:{number}"
            if example.id in where:
                raise InputError(f"{place}: id {example.id!r} stands at {where[example.id]} already")
            where[example.id] = place
            rows.append(Row(place, example))
    return rows


def main() -> None:
    """Read the authored files, the teacher's labels and the seeds; write the splits and the counts. Refuses a catalogue that no answer can be held to."""
    parser = argparse.ArgumentParser(prog="toolforge.stages.split", description=__doc__)
    for name in ("tools", "authored", "teacher", "seeds", "out", "counts"):
        parser.add_argument(name, type=Path)
    paths = parser.parse_args()
    params = load_params("split", SplitParams)
    files = [*sorted(paths.authored.glob("*.jsonl")), paths.teacher, paths.seeds]
    catalogue = load_tools(paths.tools)
    copied = load_params("decoding", DecodingParams).copied
    grammar.check(catalogue, copied)
    splits = split(load_rows(files), catalogue, params, copying.by_tool(copied, catalogue))
    empty = [name for name, examples in splits.rows.items() if not examples]
    if empty:
        raise InputError(
            f"{paths.authored}: no row for {', '.join(empty)}; val and test are cut from authored rows without a suite, "
            "hard_test from those with one, train from what is left and `split.leave_out` does not name"
        )
    for name, examples in splits.rows.items():
        write_jsonl(paths.out / f"{name}.jsonl", examples)
    write_json(paths.counts, report(splits))
    print("split:", ", ".join(f"{len(examples)} {name}" for name, examples in splits.rows.items()))


if __name__ == "__main__":
    run(main)
