"""The figures of README and docs/, from metrics/: what stands there between `<!-- figures: NAME -->` and `<!-- end -->`. Part of `make report`."""

import argparse
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from toolforge.documents import read_documents
from toolforge.errors import InputError, run
from toolforge.records import write_text

MARKED = re.compile(r"(<!-- figures: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
ROUTERS = {
    "student": "**the trained router**",
    "majority": "the commonest answer",
    "keywords": "keywords and regexes by hand, arguments included",
    "tfidf": "TF-IDF of words and characters, logistic regression",
    "nearest": "nearest queries of train, all-MiniLM-L6-v2",
    "semantic_router": "semantic-router's defaults on that embedding",
    "probe": "logistic regression on that embedding",
    "untuned_zero_shot": "the untuned base with the catalogue",
    "untuned_few_shot": "the same with an example of each class",
    "teacher": "the teacher",
}


def filled(text: str, documents: Mapping[str, Any]) -> str:
    """The text with its marked blocks made anew; `documents` are those of metrics/ by name. Raises InputError for a block that does not end or that figures.md.j2 has no macro for."""
    begun, ended = (text.count(mark) for mark in ("<!-- figures: ", "<!-- end -->"))
    if not begun == ended == len(MARKED.findall(text)):
        raise InputError(f"figures: {begun} blocks begin with <!-- figures: NAME -->, {ended} end with <!-- end -->")
    environment = Environment(autoescape=False, undefined=StrictUndefined)
    environment.filters |= {"percent": _percent, "interval": _interval, "ms": _milliseconds}
    template = environment.from_string(files("toolforge").joinpath("figures.md.j2").read_text(encoding="utf-8"))
    scores = documents["eval"]
    pairs = zip(scores["confidence"]["escalation"], scores["hard_test"]["confidence"]["escalation"], strict=True)
    module = template.make_module({**documents, "routers": ROUTERS, "pairs": list(pairs)})

    def block(match: re.Match[str]) -> str:
        made = getattr(module, match[2], None)
        if made is None:
            raise InputError(f"figures: {match[2]}: figures.md.j2 has no macro of that name")
        return f"{match[1]}{made().strip()}\n{match[4]}"

    return MARKED.sub(block, text)


def _percent(share: float | None) -> str:
    """A share; what no row was there for is a dash."""
    return "–" if share is None else f"{100 * share:.1f} %"


def _interval(part: Mapping[str, Any], metric: str) -> str:
    if metric not in part:
        return "–"
    value, low, high = (100 * part[metric + end] for end in ("", "_low", "_high"))
    return f"{value:.1f} % [{low:.1f}, {high:.1f}]"


def _milliseconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def main() -> None:
    """Rewrite the PAGES from METRICS."""
    parser = argparse.ArgumentParser(prog="toolforge.figures", description=__doc__)
    parser.add_argument("metrics", type=Path)
    parser.add_argument("pages", type=Path, nargs="+")
    paths = parser.parse_args()
    documents = read_documents(paths.metrics)
    made = {page: filled(page.read_text(encoding="utf-8"), documents) for page in paths.pages}
    for page, text in made.items():
        write_text(page, text)


if __name__ == "__main__":
    run(main)
