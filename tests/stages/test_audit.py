import pytest

from toolforge.records import Example, ToolCall
from toolforge.stages.audit import AuditParams, audit, report

PARAMS = AuditParams(folds=3, head=2)
PLACES = "Oslo Rome Lima Cork Pune Bonn Faro Graz Lyon Nara".split()
WORDS = "laconic terse ennui zeal grit woe mirth guile awe tact".split()


def example(name, number, query, tool, **arguments):
    return Example(
        id=f"{name}-{number}",
        query=query,
        calls=[ToolCall(name=tool, arguments=arguments)],
        source="authored",
        group=f"{name}-{number}",
    )


@pytest.fixture
def splits():
    return {
        "train": [example("w", n, f"weather in {p} today", "weather", location=p) for n, p in enumerate(PLACES)]
        + [example("d", n, f"define the word {w}", "dictionary", word=w) for n, w in enumerate(WORDS)],
        "test": [
            example("wrong", 0, "weather in Umeå today", "dictionary", word="Umeå"),
            example("right", 0, "define the word glee", "dictionary", word="glee"),
        ],
    }


def test_a_wrong_label_comes_first_with_what_the_others_say(splits):
    reviews = audit(splits, set(), PARAMS)
    assert [(review.id, review.split, review.suggested) for review in reviews[:1]] == [("wrong-0", "test", "weather")]
    assert [review.quality for review in reviews] == sorted(review.quality for review in reviews)
    assert "right-0" not in {review.id for review in reviews}


def test_a_confirmed_row_stays_on_the_list_and_is_counted(splits):
    reviews = audit(splits, {"wrong-0"}, PARAMS)
    assert reviews[0].confirmed
    counts = report(reviews, 22, 1)
    assert (counts["rows"], counts["head"], counts["head_confirmed"], counts["by_split"]["test"]) == (22, 1, 1, 1)
