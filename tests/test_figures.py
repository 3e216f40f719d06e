"""README and docs/ say what metrics/ holds."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from toolforge import figures
from toolforge.documents import read_documents
from toolforge.errors import InputError

ROOT = Path(__file__).parent.parent
DOCUMENTS = read_documents(ROOT / "metrics")


@pytest.mark.parametrize(("page", "blocks"), [("README.md", 3), ("docs/export.md", 1)])
def test_the_shipped_pages_have_the_figures_of_the_shipped_metrics(page, blocks):
    text = (ROOT / page).read_text()
    assert len(figures.MARKED.findall(text)) == blocks
    assert figures.filled(text, DOCUMENTS) == text


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_what_a_page_links_to_is_there(page):
    links = re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]*))?\)", page.read_text())
    for path, anchor in links:
        found = (page.parent / path) if path else page
        assert found.exists(), path
        headings = re.findall(r"(?m)^#+ (.*)$", found.read_text()) if anchor else []
        assert not anchor or anchor in [heading.lower().replace(" ", "-") for heading in headings]


def test_what_stands_outside_of_the_marks_stays(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "metrics", tmp_path / "metrics")
    path = tmp_path / "README.md"
    path.write_text("# Mine 99 %\n<!-- figures: accuracy -->\nold\n<!-- end -->\nand so on\n")
    monkeypatch.setattr(sys, "argv", ["figures", str(tmp_path / "metrics"), str(path)])
    figures.main()
    lines = path.read_text().splitlines()
    assert lines[:2] == ["# Mine 99 %", "<!-- figures: accuracy -->"] and lines[-2:] == ["<!-- end -->", "and so on"]
    test, scores = lines[4], DOCUMENTS["eval"]
    assert test.startswith("| **test** | 881 | **") and "old" not in lines
    assert f"**{100 * scores['tool_accuracy']:.1f} % [{100 * scores['tool_accuracy_low']:.1f}, " in test


@pytest.mark.parametrize("metric", ["tool_accuracy", "call_accuracy"])
def test_a_baseline_without_a_metric_has_an_empty_cell(metric):
    rows = figures.filled("<!-- figures: comparison -->\n<!-- end -->\n", DOCUMENTS).splitlines()
    (tfidf,) = [row for row in rows if row.startswith("| TF-IDF")]
    cells = [cell.strip() for cell in tfidf.strip("|").split("|")]
    column = {"tool_accuracy": 2, "call_accuracy": 3}[metric]
    assert bool(cells[column]) == (metric in DOCUMENTS["baselines"]["tfidf"])


def test_another_catalogue_without_suites_has_its_own_rows():
    documents = json.loads(json.dumps(DOCUMENTS))
    scores = documents["eval"]
    scores["by_class"] = {"currency": scores["by_class"]["weather"], "no_tool": scores["by_class"]["no_tool"]}
    del scores["by_unseen_entities"], scores["hard_test"]["by_suite"]
    rows = figures.filled("<!-- figures: accuracy -->\n<!-- end -->\n", documents).splitlines()
    assert [row.split("|")[1].strip(" *") for row in rows[3:7]] == ["test", "currency", "no_tool", "hard_test"]
    assert not any("calculator" in row or "unseen" in row for row in rows)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        # A base from the hub; no teacher's label on a row of test; a val too small for a threshold; a test without no_tool rows.
        (lambda found: [found["baselines"].pop(name) for name in ("untuned_zero_shot", "untuned_few_shot")], "TF-IDF"),
        (lambda found: found["baselines"].pop("teacher"), "TF-IDF"),
        (
            lambda found: [
                part.update(threshold=None, at_threshold=None)
                for part in (found["eval"]["confidence"], found["eval"]["hard_test"]["confidence"])
            ],
            "No threshold was found from which on 99 %",
        ),
        (
            lambda found: found["export"]["calibration"].update(threshold=None, precision=None, coverage=None),
            "from no confidence on",
        ),
        (
            lambda found: found["eval"].update(no_tool_recall=None, over_calling=None),
            "no_tool recall –, over-calling –",
        ),
        (
            lambda found: found["eval"]["by_class"].update(calculator={"n": 0}, currency={"n": 0}),
            "| currency | 0 | – | – |",
        ),
    ],
)
def test_what_another_run_has_not_measured_is_said(change, said):
    documents = json.loads(json.dumps(DOCUMENTS))
    change(documents)
    text = "".join(
        f"<!-- figures: {name} -->\n<!-- end -->\n" for name in ("accuracy", "comparison", "confidence", "parity")
    )
    assert said in figures.filled(text, documents)


def test_a_name_that_no_macro_has_is_refused():
    with pytest.raises(InputError, match=r"figures: speed: figures\.md\.j2 has no macro of that name"):
        figures.filled("<!-- figures: speed -->\n<!-- end -->\n", DOCUMENTS)


def test_metrics_that_are_not_there_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["figures", str(tmp_path), str(ROOT / "README.md")])
    with pytest.raises(InputError, match=r"data\.json: no such file; run dvc repro"):
        figures.main()
    (tmp_path / "data.json").write_text("<<<<<<< HEAD\n{}\n")
    with pytest.raises(InputError, match=r"data\.json: no JSON \(.*\); run dvc repro split$"):
        figures.main()


def test_a_block_without_an_end_is_refused_before_it_swallows_what_follows():
    text = "<!-- figures: accuracy -->\nold\n\n# Mine\n<!-- figures: parity -->\n<!-- end -->\n"
    with pytest.raises(InputError, match="2 blocks begin"):
        figures.filled(text, DOCUMENTS)
