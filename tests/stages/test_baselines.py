"""The comparison, on answers laid out by hand, and the whole stage on a dozen rows."""

import json

import pytest

from few_shot import ROOT, save_few_shot
from toolforge.baselines.majority import Majority
from toolforge.errors import InputError
from toolforge.records import Example, Prediction, ToolCall, write_jsonl
from toolforge.router import Router
from toolforge.stages import baselines
from toolforge.stages.baselines import Routed, compare, of_student, routed, spaced, table

CLASSES = ["weather", "dictionary", "no_tool", "multi_tool"]


def weather(place):
    return [ToolCall(name="weather", arguments={"location": place})]


def define(word):
    return [ToolCall(name="dictionary", arguments={"word": word})]


def example(number, query, calls):
    return Example(id=f"e{number}", query=query, calls=calls, source="authored", group=f"g{number}")


ROWS = [example(n, f"weather in city {n}", weather(f"city {n}")) for n in range(12)]
ROWS += [example(n, f"define word {n}", define(f"word {n}")) for n in range(12, 15)]


def answers(right, wrong=None):
    """The gold calls of the rows in `right`, and `wrong` for the others."""
    return {n: row.calls if n in right else wrong for n, row in enumerate(ROWS)}


@pytest.mark.parametrize(
    "student, baseline, test",
    [
        # Of 9 rows that one of the two has right, 8 or more for either: 2 * (1 + 9) / 2 ** 9.
        (range(9), {0, 14}, {"student_only": 8, "baseline_only": 1, "p": 0.0391, "better": "neither"}),
        # 10 of 10: 2 / 2 ** 10.
        (range(10), set(), {"student_only": 10, "baseline_only": 0, "p": 0.00195, "better": "student"}),
        (set(), range(10), {"student_only": 0, "baseline_only": 10, "p": 0.00195, "better": "baseline"}),
        ({1, 2}, {1, 2}, {"student_only": 0, "baseline_only": 0, "p": 1.0, "better": "neither"}),
    ],
)
def test_mcnemar_counts_the_rows_that_only_one_has_right(student, baseline, test):
    found = compare(ROWS, Routed(answers(student)), {"other": Routed(answers(baseline))}, CLASSES)
    assert found["other"]["against_student"] == {"tool_accuracy": test, "call_accuracy": test}


def test_tools_may_be_right_where_arguments_are_not():
    other = Routed(answers(range(3), wrong=weather("nowhere")))
    found = compare(ROWS, Routed(answers(range(15))), {"other": other}, CLASSES)
    assert (found["other"]["tool_accuracy"], found["other"]["call_accuracy"]) == (0.8, 0.2)
    assert found["other"]["against_student"]["tool_accuracy"]["student_only"] == 3
    assert found["other"]["against_student"]["call_accuracy"]["student_only"] == 12
    assert found["student"]["tool_accuracy"] == 1.0 and found["student"]["n"] == 15
    assert found["other"]["by_class"]["weather"]["call_accuracy"] == 0.25
    assert set(found["other"]["by_class"]) == {"weather", "dictionary"}


def test_a_baseline_without_arguments_is_held_to_the_tools_alone():
    other = Routed(answers(range(15)), [1.0, 2.0, 3.0], gives_arguments=False)
    found = compare(ROWS, Routed(answers(range(14))), {"other": other}, CLASSES)["other"]
    assert "call_accuracy" not in found and list(found["against_student"]) == ["tool_accuracy"]
    assert (found["p50_ms"], found["p95_ms"]) == (2.0, 2.9)


def test_a_baseline_that_answered_some_rows_is_compared_on_those():
    some = {n: ROWS[n].calls for n in (0, 13, 14)}
    found = compare(ROWS, Routed(answers(range(14))), {"some": Routed(some)}, CLASSES)
    assert found["some"]["n"] == 3
    assert found["some"]["against_student"]["tool_accuracy"]["baseline_only"] == 1
    assert found["wins"] == [
        {"baseline": "some", "class": "dictionary", "metric": metric, "student": 0.5, "baseline_accuracy": 1.0}
        for metric in ("tool_accuracy", "call_accuracy")
    ]


def test_the_table_says_where_a_baseline_is_ahead():
    other = Routed(answers({12, 13, 14}), gives_arguments=False)
    found = compare(ROWS, Routed(answers(range(12)), [1.0, 2.0]), {"other": other}, CLASSES)
    shown = table(found)
    columns = {column.header: list(column.cells) for column in shown.columns}
    assert columns[""] == ["student", "other"]
    assert columns["tools"] == ["80 [54.8 93]", "20 [7.05 45.2]"] and columns["calls"][1] == ""
    assert columns["better"] == ["", "neither"]
    assert columns["ms p50"] == ["1.5", ""]
    assert shown.caption == "more tools right than the student: other on dictionary"


def test_places_are_spread_over_all_rows():
    assert spaced(10, 4) == [0, 2, 5, 7]
    assert spaced(3, 4) == [0, 1, 2]


def test_some_queries_are_timed_and_all_are_answered():
    found = routed("majority", Majority(ROWS), ROWS, range(2, 15), 5)
    assert list(found.answers) == list(range(2, 15))
    assert len(found.milliseconds) == 5 and not found.gives_arguments


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    return save_few_shot(tmp_path_factory.mktemp("router"))


def predictions(rows):
    return [
        Prediction(id=row.id, query=row.query, calls=row.calls, predicted=row.calls, answer="", confidence=1.0)
        for row in rows
    ]


def test_each_row_of_test_needs_its_own_prediction(router):
    asked = Router.load(router)
    found = of_student(ROWS[:2], predictions(reversed(ROWS[:2])), asked, 2)
    assert found.answers == {0: ROWS[0].calls, 1: ROWS[1].calls} and len(found.milliseconds) == 2
    with pytest.raises(InputError, match="^row 'e1' of test has no prediction; run dvc repro eval$"):
        of_student(ROWS[:2], predictions(ROWS[:1]), asked, 2)
    with pytest.raises(InputError, match="^row 'e0'"):
        of_student([ROWS[0].model_copy(update={"query": "another"})], predictions(ROWS[:1]), asked, 2)


def test_a_query_that_the_router_cannot_answer_is_timed_too(router):
    rows = [example(0, "word " * 1100, []), ROWS[1]]
    asked = Router.load(router)
    with pytest.raises(InputError):
        asked.route(rows[0].query)
    assert len(of_student(rows, predictions(rows), asked, 2).milliseconds) == 2


def test_the_stage_from_files_to_figures(tmp_path, router, write_params, monkeypatch, capsys):
    places, words = "Oslo Rome Lima Cork Pune Bonn".split(), "laconic terse ennui zeal grit woe".split()
    train = [example(n, f"weather in {place}", weather(place)) for n, place in enumerate(places)]
    train += [example(n, f"define {word}", define(word)) for n, word in enumerate(words, 20)]
    train += [example(40 + n, text, []) for n, text in enumerate(("hello there", "thanks a lot", "good morning"))]
    test = [example(90, "weather in Graz", weather("Graz")), example(91, "define guile", define("guile"))]
    labels = [example(99, "Define guile?", define("guile")).model_copy(update={"source": "a-teacher"})]
    for name, rows in {"train": train, "test": test, "teacher": labels, "predictions": predictions(test)}.items():
        write_jsonl(tmp_path / f"{name}.jsonl", rows)
    write_params({
        "baselines": {
            "seed": 7, "latency_queries": 2, "k": 3, "examples": 1, "untuned_queries": 2, "answer_tokens": 60,
        },
        "student": {"base": "owner/on-a-hub", "quantization": "none"},
        "decoding": {"copied": []},
    })  # fmt: skip
    files = [tmp_path / f"{name}.jsonl" for name in ("train", "test", "teacher", "predictions")]
    arguments = [ROOT / "data" / "tools.json", *files, router, tmp_path / "baselines.json"]
    monkeypatch.setattr("sys.argv", ["baselines", *map(str, arguments)])
    baselines.main()
    figures = json.loads((tmp_path / "baselines.json").read_text())
    named = ["majority", "keywords", "tfidf", "nearest", "semantic_router", "probe", "teacher"]
    assert list(figures) == ["student", *named, "wins"]
    right = {name: figures[name]["tool_accuracy"] for name in named}
    # Towns and words that train lacks are no nearer to it than semantic-router's threshold.
    assert right == dict.fromkeys(named, 1.0) | {"majority": 0.5, "semantic_router": 0.0}
    assert figures["keywords"]["call_accuracy"] == figures["student"]["call_accuracy"] == 1.0
    assert figures["teacher"]["n"] == 1 and figures["keywords"]["n"] == 2
    assert figures["wins"] == []
    said = capsys.readouterr().out
    assert "student.base owner/on-a-hub is no package with a GGUF file; the untuned base is left out" in said
    assert "semantic_router" in said and "7 compared with the student on 2 rows" in said
