"""The report: wrong answers by kind, nothing from elsewhere, and a page that can be read, in a real browser."""

import re
import shutil
import sys
from contextlib import redirect_stdout
from html.parser import HTMLParser
from io import StringIO
from itertools import pairwise

import pandas as pd
import pytest

from browsing import CONTRASTS, chromium, look
from toolforge import report, scoring
from toolforge.errors import InputError
from toolforge.records import Example, Prediction, ToolCall, write_json, write_jsonl

EVIL = "<script>alert(1)</script> & <img src=http://elsewhere/x>"


def weather(location):
    return ToolCall(name="weather", arguments={"location": location})


def define(word):
    return ToolCall(name="dictionary", arguments={"word": word})


def translate(text, to_lang):
    return ToolCall(name="translate", arguments={"text": text, "to_lang": to_lang})


# id, query, gold, predicted, confidence, suite
ROWS = [
    ("right", "Oslo?", [weather("Oslo")], [weather("oslo")], 0.9, ""),
    ("case", "define x in Rome", [define("x"), weather("Rome")], [weather("Rome"), define("X")], 0.9, ""),
    ("tool", EVIL, [weather("<b>Rome</b>")], [define("<b>Rome</b>")], 0.2, "trap"),
    ("missed", "two of them", [weather("Oslo"), weather("Bergen")], [weather("Oslo")], 0.3, "two_calls"),
    ("extra", "one", [weather("Oslo")], [weather("Oslo"), define("one")], 0.4, ""),
    ("called", "hi", [], [define("hi")], 0.5, "trap"),
    ("refused", "Rome", [weather("Rome")], [], 0.6, ""),
    ("word", "define laconic", [define("laconic")], [define("lacnic")], 0.7, ""),
    ("sure word", "define terse", [define("terse")], [define("tense")], 0.99, ""),
    ("both", "hi in Lao", [translate("hi", "Lao")], [translate("hello", "Laos")], 0.1, ""),
    ("unparsed", "eh", [define("eh")], None, 0.8, ""),
]
KINDS = {
    "wrong tool": ["tool"],
    "missed call": ["missed"],
    "extra call": ["extra"],
    "over-calling": ["called"],
    "over-refusal": ["refused"],
    "wrong argument": ["sure word", "word", "both"],
    "unparsable": ["unparsed"],
}


def examples():
    return [
        Example(id=name, query=query, calls=gold, source="authored", group=name, suite=suite)
        for name, query, gold, _, _, suite in ROWS
    ]


def predictions():
    return [
        Prediction(id=name, query=query, calls=gold, predicted=predicted, answer="[{", confidence=sure)
        for name, query, gold, predicted, sure, _ in ROWS
    ]


def names(groups):
    return {name: [mistake.prediction.id for mistake in found] for name, found in groups.items()}


def test_each_wrong_answer_has_one_kind_and_the_surest_stands_first():
    assert names(report.by_kind(report.mistakes(examples(), predictions()))) == KINDS


def test_a_wrong_argument_stands_under_each_argument_that_is_wrong():
    found = report.by_kind(report.mistakes(examples(), predictions()))["wrong argument"]
    expected = {"dictionary.word": ["sure word", "word"], "translate.text": ["both"], "translate.to_lang": ["both"]}
    assert names(report.by_argument(found)) == expected


def test_two_calls_of_one_tool_for_another_pair_are_a_wrong_tool():
    assert report.kind_of([weather("a"), define("b")], [weather("a"), weather("b")]) == "wrong tool"


def test_what_the_other_answer_lacks_is_marked():
    [mistake] = [one for one in report.mistakes(examples(), predictions()) if one.prediction.id == "missed"]
    assert [[value.shared for value in call] for call in mistake.gold] == [[True, True], [True, False]]
    assert [[value.shared for value in call] for call in mistake.predicted] == [[True, True]]


def test_predictions_of_other_rows_are_refused():
    with pytest.raises(InputError, match="'right' is of another row.*dvc repro eval"):
        report.mistakes(examples()[1:], predictions())
    other = [row.model_copy(update={"calls": []}) for row in examples()]
    with pytest.raises(InputError, match="another row"):
        report.mistakes(other, predictions())


CLASSES = ["weather", "dictionary", "translate", "no_tool", "multi_tool"]


def scores(threshold):
    rows = predictions()
    kept = scoring.share([True, True, False], "precision")
    return {
        **scoring.scores(rows, CLASSES),
        "by_argument": scoring.by_argument(rows),
        "by_suite": {"trap": scoring.accuracies(rows[2:3]), "two_calls": scoring.accuracies(rows[3:4])},
        "confidence": {
            "ece": 0.03,
            "ece_uncalibrated": 0.1,
            "brier": 0.07,
            "precision_asked": 0.99,
            "threshold": threshold,
            "at_threshold": None if threshold is None else {"coverage": 0.27, "escalated": 0.73, **kept},
            "escalation": [
                {"threshold": 0.5, "coverage": 0.3, "escalated": 0.7, **scoring.share([True] * 3, "call_accuracy")},
                {"threshold": 1.0, "coverage": 0.0, "escalated": 1.0, "n": 0},
            ],
        },
    }


def write(folder):
    """What the stages write."""
    metrics, data = folder / "metrics", folder / "data"
    for prefix in ("", "hard_"):
        write_jsonl(data / "split" / f"{prefix}test.jsonl", examples())
        write_jsonl(data / f"{prefix}predictions.jsonl", predictions())
    write_json(metrics / "eval.json", {**scores(0.97), "hard_test": scores(None)})
    write_json(metrics / "data.json", {"train": {"rows": 1234, "by_source": {"authored": 1000, "hand": 234}}})
    train = {"val_loss": 0.02, "best_step": 20, "steps": 20, "resumed_at": 5, "tokens": 1, "seconds": 90}
    machine = {"tokens_per_second": 1000, "peak_memory_gb": 3.0, "precision": "bfloat16"}
    write_json(metrics / "train.json", train | machine)
    exported = {name: scoring.share([True] * 4, "call_accuracy") for name in ("trained", "exported")}
    agreement = {"exported": scoring.share([True] * 4, "agreement")}
    facts = {"n": 4, "quantization": "Q8_0", "megabytes": 144.8}
    write_json(metrics / "export.json", {**facts, "accuracy": exported, "agreement": agreement})
    accuracies, tools = scoring.accuracies(predictions()), scoring.share([True, False], "tool_accuracy")
    test = {"student_only": 3, "baseline_only": 1, "p": 0.625, "better": "neither"}
    timed = {"p50_ms": 150.0, "p95_ms": 300.0}
    write_json(
        metrics / "baselines.json",
        {
            "student": {**accuracies, **timed, "by_class": {}},
            "majority": {**tools, "p50_ms": 0.0, "p95_ms": 0.0, "against_student": {"tool_accuracy": test}},
            "teacher": {**accuracies, "against_student": {"tool_accuracy": test, "call_accuracy": test}},
            "wins": [
                {
                    "baseline": "majority",
                    "class": "no_tool",
                    "metric": "tool_accuracy",
                    "student": 0.9,
                    "baseline_accuracy": 1.0,
                }
            ],
        },
    )
    plots = metrics / "plots"
    plots.mkdir()
    pairs = scoring.confusion(predictions())
    pd.DataFrame(pairs).to_csv(plots / "confusion.csv", index=False)
    losses = [(10, "train", 1.9), (20, "train", 0.1), (20, "val", 0.02)]
    pd.DataFrame(losses, columns=["step", "split", "loss"]).to_csv(plots / "loss.csv", index=False)
    curve = [(split, share, share / 4, 1 - share) for split in ("test", "hard_test") for share in (0.1, 0.5, 1.0)]
    columns = ["split", "coverage", "risk", "confidence"]
    pd.DataFrame(curve, columns=columns).to_csv(plots / "risk_coverage.csv", index=False)


def make_report(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["report", "metrics", "data", "report.html", "docs/accuracy.svg"])
        with redirect_stdout(StringIO()) as said:
            report.main()
    return said.getvalue()


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A folder with the report in it, made once: drawing takes seconds."""
    folder = tmp_path_factory.mktemp("reported")
    write(folder)
    assert make_report(folder) == f"report: {(folder / 'report.html').as_uri()}\n"
    return folder


@pytest.fixture
def page(reported):
    return (reported / "report.html").read_text()


def test_a_training_that_was_cut_off_says_from_which_step_its_minutes_are(page):
    assert "20 steps, those from step 5 on in 1.5 minutes" in page


def test_the_text_of_a_row_is_no_markup(page):
    assert "<script" not in page and "<img" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &lt;img" in page
    assert "<b>Rome" not in page and "&lt;b&gt;Rome&lt;/b&gt;" in page


def test_nothing_is_loaded_from_elsewhere(page):
    # As a browser reads it: the text of a query may look like a tag.
    parser, links = HTMLParser(), []
    parser.handle_starttag = lambda tag, found: links.extend(
        value for name, value in found if name in ("src", "href", "xlink:href")
    )
    parser.feed(page)
    assert links and all(link.startswith(("#", "data:")) for link in links)
    assert "@import" not in page and set(re.findall(r"url\((.)", page)) <= {"#"}


def test_every_link_of_the_page_leads_to_a_section_and_no_name_is_given_twice(page):
    ids = re.findall(r'\sid="(.*?)"', page)
    assert len(ids) == len(set(ids)) and set(re.findall(r'href="#(.*?)"', page)) <= set(ids)


def test_headings_go_down_by_one_and_every_chart_has_a_name(page):
    levels = [int(level) for level in re.findall(r"<h(\d)", page)]
    assert levels[0] == 1 and all(after <= before + 1 for before, after in pairwise(levels))
    charts = re.findall(r"<svg .*?>", page)
    assert len(charts) == 2 * 8 and all('role="img" aria-label="' in chart for chart in charts)


def test_the_picture_carries_its_own_colours(reported):
    picture = (reported / "docs" / "accuracy.svg").read_text()
    used, set_here = (set(re.findall(pattern, picture)) for pattern in (r"var\((--\w+)\)", r"(--\w+):"))
    assert used and used <= set_here
    assert "prefers-color-scheme: dark" in picture


@pytest.mark.parametrize(
    ("file", "stage"),
    [
        ("metrics/baselines.json", "baselines"),
        ("metrics/export.json", "export"),
        ("metrics/plots/risk_coverage.csv", "eval"),
        ("data/hard_predictions.jsonl", "eval"),
        ("data/split/test.jsonl", "split"),
    ],
)
def test_a_missing_file_is_named_with_the_stage_to_run(tmp_path, file, stage):
    write(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(InputError, match=f"^{file}: no such file; run dvc repro {stage}$"):
        make_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_suites_are_drawn_where_there_are_any_and_who_answered_fewer_rows_is_shown_so_or_not_at_all(tmp_path):
    write(tmp_path)
    plots = tmp_path / "metrics" / "plots"
    tables = {name: pd.read_csv(plots / f"{name}.csv") for name in ("loss", "confusion", "risk_coverage")}
    answered = {"teacher": predictions()[:1], "untuned": (predictions() * 40)[:30], "student": predictions() * 40}
    compared = {name: scoring.accuracies(rows) for name, rows in answered.items()}
    with_suites = {**scores(0.97), "hard_test": scores(None)}
    without = {**with_suites, "hard_test": {key: part for key, part in scores(None).items() if key != "by_suite"}}
    shown = report.drawn(with_suites, compared, tables)
    assert shown.keys() - report.drawn(without, compared, tables) == {"suites"}
    assert list(shown["routers"][0].args[0]["name"].unique()) == ["untuned (n = 30)", "student"]


@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium is installed; .ci/run installs it")
def test_it_fits_the_window_and_can_be_read_in_light_and_dark(reported, tmp_path_factory):
    grounds = {}
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        browser.get((reported / "report.html").as_uri())
        browser.execute_script("document.querySelectorAll('details').forEach(one => one.open = true)")
        for scheme in ("light", "dark"):
            for width in (360, 1400):
                look(browser, width, scheme)
                assert browser.execute_script("return innerWidth") == width
                assert browser.execute_script("return document.documentElement.scrollWidth") <= width
                shown = browser.execute_script(
                    "return [...document.querySelectorAll('svg')].filter(one => one.checkVisibility()).map(one => one.classList[0])"
                )
                assert shown and set(shown) == {"narrow" if width == 360 else "wide"}
                contrasts = browser.execute_script(CONTRASTS)
                assert len(contrasts) > 100
                # WCAG 2, level AA.
                assert min(contrasts.values()) >= 4.5, contrasts
                colour = "return getComputedStyle(document.querySelector('svg text')).fill"
                ground = "return getComputedStyle(document.body).backgroundColor"
                grounds[scheme] = [browser.execute_script(script) for script in (colour, ground)]
        assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
        assert browser.get_log("browser") == []
    assert all(light != dark for light, dark in zip(*grounds.values(), strict=True))
