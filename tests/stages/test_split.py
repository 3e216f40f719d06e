from collections import Counter
from pathlib import Path

import pytest

from toolforge.errors import InputError
from toolforge.records import Example, ToolCall, class_of, write_jsonl
from toolforge.stages.split import Row, SplitParams, load_rows, report, split

PARAMS = SplitParams(
    seed=1,
    near_duplicate=0.8,
    test_per_class=2,
    hard_test_per_suite=1,
    val_per_class=2,
    val_per_suite=1,
    entities=["location"],
    leave_out=[],
)
WORDS = ["apples", "brick", "cello", "drums", "eagle", "fjord", "glove", "harps", "inlet", "jumps", "kites", "lemon"]
PLACES = ["Oslo", "Rome", "Lima", "Cork", "Pune", "Bonn", "Faro", "Graz", "Lyon", "Nara", "Split", "Umeå"]
ASKED = [
    "do I need an umbrella in {}", "{} forecast pls", "how hot does it get today over in {}", "is it snowing around {} yet",
    "what should I wear for a walk through {}", "{} wind speed", "tell me tomorrow's conditions at {}",
    "will the sun shine on our wedding in {}", "humidity in {} right now", "any storms near {}?",
    "is {} foggy this morning", "rain chance {}",
]  # fmt: skip


def row(number, query, calls=(), source="authored", group=None, suite=""):
    example = Example(
        id=f"{source}-{number}",
        query=query,
        calls=[ToolCall(name=n, arguments=a) for n, a in calls],
        source=source,
        group=group or f"{source}-{number}",
        suite=suite,
    )
    return Row(f"{source}.jsonl:{number}", example)


@pytest.fixture
def rows():
    return [
        row(n, asked.format(p), [("weather", {"location": p})])
        for n, (asked, p) in enumerate(zip(ASKED, PLACES, strict=True))
    ]


def ids(splits, name):
    return [example.id for example in splits.rows[name]]


def test_every_row_lands_once_and_only_authored_ones_outside_train(rows, catalogue):
    seeds = [
        row(n, f"{word} {n * 97}", [("weather", {"location": p})], "template")
        for n, (word, p) in enumerate(zip(WORDS, PLACES, strict=True))
    ]
    hard = [
        row(50 + n, f"{word} {place}ish", suite="trap")
        for n, (word, place) in enumerate(zip(WORDS, PLACES, strict=True))
    ]
    splits = split(rows + hard + seeds, catalogue, PARAMS)
    assert {name: len(part) for name, part in splits.rows.items()} == {
        "train": 12 + 8 + 10,
        "val": 3,
        "test": 2,
        "hard_test": 1,
    }
    landed = Counter(example.id for part in splits.rows.values() for example in part)
    assert set(landed.values()) == {1}
    for name in ("val", "test", "hard_test"):
        assert {example.source for example in splits.rows[name]} == {"authored"}
    assert [example.suite for example in splits.rows["hard_test"]] == ["trap"]


def test_what_is_left_out_leaves_train_alone(rows, catalogue):
    hand = [row(n, f"{word} {n * 97}", [("weather", {"location": "Oslo"})], "hand") for n, word in enumerate(WORDS)]
    whole = split(rows + hand, catalogue, PARAMS)
    without = split(rows + hand, catalogue, PARAMS.model_copy(update={"leave_out": ["hand"]}))
    assert len(whole.rows["train"]) - len(without.rows["train"]) == 12 == without.dropped["left_out"]
    assert {example.source for example in without.rows["train"]} == {"authored"}
    for name in ("val", "test", "hard_test"):
        assert without.rows[name] == whole.rows[name]


def test_the_cut_is_the_same_twice_and_a_new_row_moves_no_other(rows, catalogue):
    first = split(rows, catalogue, PARAMS)
    assert split(rows, catalogue, PARAMS) == first
    more = split([*rows, row(99, "bring a scarf to Vaduz?", [("weather", {"location": "Vaduz"})])], catalogue, PARAMS)
    moved = [name for name in first.rows for gone in set(ids(first, name)) - set(ids(more, name))]
    assert len(moved) <= 2  # the new row can push one out of test and one out of val
    assert "train" not in moved


def test_a_group_stays_together(rows, catalogue):
    family = [Row(r.where, r.example.model_copy(update={"group": f"f{n // 3}"})) for n, r in enumerate(rows)]
    splits = split(family, catalogue, PARAMS)
    homes = {}
    for name, part in splits.rows.items():
        for example in part:
            homes.setdefault(example.group, set()).add(name)
    assert len(homes) == 4
    assert all(len(home) == 1 for home in homes.values())


def test_duplicates_contradictions_and_outvoted_labels_are_dropped_and_counted(rows, catalogue):
    oslo, rome = [("weather", {"location": "Oslo"})], [("weather", {"location": "Rome"})]
    extra = [
        row(20, "Rain in   Oslo", oslo),
        row(21, "rain in oslo?", oslo),
        row(22, "snow in Oslo", oslo),
        row(23, "Snow in Oslo!", rome),
        row(24, "fog in Oslo", oslo),
        row(25, "fog in oslo", rome, "template"),
        row(26, "could you tell me about the weather in Oslo for this coming weekend", oslo),
        row(27, "could you tell me about the weather in Oslo for this coming weekend pls", oslo),
    ]
    splits = split(rows + extra, catalogue, PARAMS)
    assert splits.dropped == {"duplicate": 1, "contradictory": 2, "outvoted": 1, "near_duplicate": 1}
    kept = {example.id for part in splits.rows.values() for example in part}
    assert {"authored-20", "authored-24", "authored-26"} <= kept
    assert not {"authored-21", "authored-22", "authored-23", "template-25", "authored-27"} & kept


def test_near_duplicates_of_two_classes_go_to_the_same_side(rows, catalogue):
    asked = "could you tell me about the weather in Oslo for this coming weekend"
    contrast = [
        row(n, f"{asked} {tail}", calls)
        for n, (tail, calls) in enumerate([("please", [("weather", {"location": "Oslo"})]), ("please not", [])], 30)
    ]
    for seed in range(12):
        splits = split(rows + contrast, catalogue, PARAMS.model_copy(update={"seed": seed}))
        homes = [
            name
            for name, part in splits.rows.items()
            for example in part
            if example.id in ("authored-30", "authored-31")
        ]
        assert len(homes) == 2
        assert len(set(homes)) == 1


def test_a_bad_label_is_refused_with_its_file_and_line(rows, catalogue):
    for calls, said in (
        ([("wether", {"location": "Oslo"})], "no tool is named"),
        ([("calculator", {"expression": "12 +"})], "does not run"),
        ([("unit_converter", {"value": 1, "from": "miles", "to": "liters"})], "do not convert"),
    ):
        with pytest.raises(InputError, match=rf"authored\.jsonl:77: .*{said}"):
            split([*rows, row(77, "oops", calls)], catalogue, PARAMS)


def test_a_test_row_is_unseen_only_if_train_holds_none_of_its_entities(rows, catalogue):
    train_only = [row(40 + n, f"{p} is nice", [], "template") for n, p in enumerate(PLACES[:5])]
    # One that train's query spells otherwise, and its label right.
    train_only.append(row(45, "nice there", [("weather", {"location": PLACES[5]})], "template"))
    splits = split(rows + train_only, catalogue, PARAMS.model_copy(update={"test_per_class": 10}))
    flags = {example.calls[0].arguments["location"]: example.unseen_entities for example in splits.rows["test"]}
    assert len(flags) == 10
    assert {place: flags[place] for place in flags} == {place: place not in PLACES[:6] for place in flags}
    assert report(splits)["test"]["unseen_entities"] == sum(flags.values()) > 0


def test_an_id_may_stand_once(tmp_path):
    example = row(1, "hi").example
    write_jsonl(tmp_path / "a.jsonl", [example])
    write_jsonl(tmp_path / "b.jsonl", [example])
    with pytest.raises(InputError, match=r"b\.jsonl:1: id 'authored-1' stands at .*a\.jsonl:1"):
        load_rows([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])


def test_the_report_counts_what_landed(rows, catalogue):
    splits = split(rows, catalogue, PARAMS)
    counts = report(splits)
    assert counts["test"]["rows"] == 2
    assert counts["train"]["by_class"] == Counter(class_of(e.calls) for e in splits.rows["train"])
    assert counts["train"]["by_source"] == {"authored": 8}


def test_the_shipped_authored_rows_pass_the_gate(catalogue):
    root = Path(__file__).parent.parent.parent / "data" / "authored"
    rows = load_rows(sorted(root.glob("*.jsonl")))
    assert len(rows) >= 2400
    splits = split(rows, catalogue, PARAMS.model_copy(update={"test_per_class": 80, "hard_test_per_suite": 30}))
    by_class = Counter(class_of(example.calls) for example in splits.rows["test"])
    assert {name: by_class[name] >= 80 for name in catalogue.classes} == dict.fromkeys(catalogue.classes, True)
    suites = Counter(example.suite for example in splits.rows["hard_test"])
    assert len(suites) == 13
    assert min(suites.values()) >= 30


def test_a_teachers_labels_are_held_to_gold_where_both_exist(rows, catalogue):
    query, gold = rows[0].example.query, rows[0].example.calls
    taught = [
        row(1, query.upper() + "?", [(gold[0].name, gold[0].arguments)], "gemini-x"),
        row(2, rows[1].example.query, [("weather", {"location": "Paris"})], "gemini-x"),
        row(3, rows[2].example.query, [], "gemini-x"),
        row(4, "a query that no one else labelled", [], "gemini-x"),
    ]
    (agreement,) = report(split([*rows, *taught], catalogue, PARAMS))["teacher_agreement"].items()
    assert agreement[0] == "weather"
    assert (agreement[1]["n"], agreement[1]["tool_agreement"], agreement[1]["call_agreement"]) == (3, 0.6667, 0.3333)


def test_a_row_whose_copied_argument_is_no_part_of_its_query_is_dropped_and_counted(rows, catalogue):
    told = [row(n, query, [("translate", {"text": "good night", "to_lang": "Thai"})], source="hand") for n, query in enumerate(
        ("good night in thai", "how would a thai wish a good  night", "Good Night, but in Thai please")
    )]  # fmt: skip
    splits = split([*rows, *told], catalogue, PARAMS, {"translate": ["text"]})
    assert splits.dropped["not_copied"] == 2
    assert sum(one.source == "hand" for part in splits.rows.values() for one in part) == 1
