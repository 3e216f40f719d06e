"""audit: find the labels that a model trained on all other groups would not give, worst first, for a person to read."""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cleanlab.rank import get_label_quality_scores, order_label_issues
from pydantic import Field
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import LabelEncoder

from toolforge.errors import InputError, run
from toolforge.params import Params, load_params
from toolforge.records import Example, Row, ToolCall, class_of, read_rows, read_text, write_json, write_jsonl


class AuditParams(Params):
    """Into how many folds of whole groups the rows are cut, and how many rows of the list's head must be confirmed."""

    folds: int = Field(ge=2)
    head: int = Field(gt=0)


class Review(Row):
    """A row whose class the others speak against: `suggested` is the class that they give it, `quality` (0 to 1, low is
    bad) their probability of the label's own class. `confirmed` says that a person read it and let the label stand.
    """

    id: str
    split: str
    query: str
    calls: list[ToolCall]
    suggested: str
    quality: float
    confirmed: bool


def audit(splits: Mapping[str, Sequence[Example]], confirmed: set[str], params: AuditParams) -> list[Review]:
    """The rows whose out-of-fold class is another than their label's, in the order of cleanlab's self-confidence
    (Northcutt et al. 2021), worst first. No group stands on both sides of a fold.
    """
    rows = [(name, example) for name, examples in splits.items() for example in examples]
    groups = [example.group for _, example in rows]
    if len(set(groups)) < params.folds:
        raise InputError(
            f"audit.folds: {params.folds} folds of {len(set(groups))} groups of rows; lower it, or write more"
        )
    encoder = LabelEncoder()
    labels = encoder.fit_transform([class_of(example.calls) for _, example in rows])
    model = make_pipeline(
        make_union(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True),
        ),
        LogisticRegression(C=10, max_iter=300),
    )
    probabilities = cross_val_predict(
        model,
        [example.query for _, example in rows],
        labels,
        groups=groups,
        cv=GroupKFold(params.folds),
        method="predict_proba",
    )
    quality = get_label_quality_scores(labels, probabilities, method="self_confidence")
    suspects = probabilities.argmax(1) != labels
    order = order_label_issues(suspects, labels, probabilities, rank_by="self_confidence")
    return [
        Review(
            id=rows[n][1].id,
            split=rows[n][0],
            query=rows[n][1].query,
            calls=rows[n][1].calls,
            suggested=str(encoder.inverse_transform(probabilities[[n]].argmax(1))[0]),
            quality=round(float(quality[n]), 4),
            confirmed=rows[n][1].id in confirmed,
        )
        for n in order
    ]


def report(reviews: Sequence[Review], rows: int, head: int) -> dict[str, Any]:
    """How many rows were audited, how many the others speak against, and what of the list's head is confirmed."""
    return {
        "rows": rows,
        "suspect": len(reviews),
        "by_split": dict(sorted(Counter(review.split for review in reviews).items())),
        "head": min(head, len(reviews)),
        "head_confirmed": sum(review.confirmed for review in reviews[:head]),
    }


def main() -> None:
    """Read the splits and the ids that a person confirmed; write the list to read and its counts."""
    parser = argparse.ArgumentParser(prog="toolforge.stages.audit", description=__doc__)
    for name in ("split", "confirmed", "reviews", "counts"):
        parser.add_argument(name, type=Path)
    paths = parser.parse_args()
    params = load_params("audit", AuditParams)
    if not paths.confirmed.is_file():
        raise InputError(
            f"{paths.confirmed}: no such file; make it, empty, and put in an id a line as you confirm rows"
        )
    confirmed = set(read_text(paths.confirmed).split())
    splits = {path.stem: read_rows(path, Example) for path in sorted(paths.split.glob("*.jsonl"))}
    reviews = audit(splits, confirmed, params)
    counts = report(reviews, sum(len(examples) for examples in splits.values()), params.head)
    write_jsonl(paths.reviews, reviews)
    write_json(paths.counts, counts)
    print(
        f"audit: {counts['suspect']} of {counts['rows']} labels to read; {counts['head_confirmed']} of the first {counts['head']} confirmed"
    )


if __name__ == "__main__":
    run(main)
