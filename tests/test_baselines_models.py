"""The ways of routing that the student is compared with: the real embedding and base, rows of the test's own."""

from pathlib import Path

import pytest

from few_shot import GGUF
from toolforge.baselines import teacher, untuned
from toolforge.baselines.embedding import Embedding
from toolforge.baselines.labels import label, named, numbered
from toolforge.baselines.majority import Majority
from toolforge.baselines.nearest import Nearest, SemanticRouter
from toolforge.baselines.probe import Probe
from toolforge.baselines.tfidf import Tfidf
from toolforge.baselines.untuned import Untuned
from toolforge.records import Example, ToolCall


def example(number, query, *names, source="authored"):
    calls = [ToolCall(name=name, arguments={}) for name in names]
    return Example(id=str(number), query=query, calls=calls, source=source, group=str(number))


TRAIN = [
    example(n, query, *names)
    for n, (query, names) in enumerate(
        [
            ("weather in Oslo today", ["weather"]),
            ("will it rain in Lima tomorrow", ["weather"]),
            ("forecast for Cork this weekend", ["weather"]),
            ("is it snowing in Graz right now", ["weather"]),
            ("what does laconic mean", ["dictionary"]),
            ("define the word ennui", ["dictionary"]),
            ("synonym for terse", ["dictionary"]),
            ("meaning of the word zeal", ["dictionary"]),
            ("thanks, you are great", []),
            ("hello, how are you", []),
            ("good morning my friend", []),
            ("tell me a joke please", []),
            ("weather in Rome and define the word grit", ["weather", "dictionary"]),
            ("define the word awe and will it rain in Pune", ["dictionary", "weather"]),
            ("what does woe mean and is it snowing in Bonn", ["dictionary", "weather"]),
        ]
    )
]
ASKED = {
    "will it snow in Faro tomorrow": ("weather",),
    "what does guile mean": ("dictionary",),
    "hello my friend, thanks": (),
}


@pytest.fixture(scope="module")
def embedding():
    return Embedding()


@pytest.fixture(scope="module")
def vectors(embedding):
    return embedding([row.query for row in TRAIN])


def test_a_label_counts_the_tools_in_any_order():
    assert label(TRAIN[12].calls) == label(TRAIN[13].calls) == ("dictionary", "weather")
    assert label([]) == () and label(named(("a", "a", "b"))) == ("a", "a", "b")
    known, numbers = numbered(TRAIN)
    assert [known[number] for number in numbers] == [label(row.calls) for row in TRAIN]


def test_the_majority_is_the_most_frequent_label():
    baseline = Majority([*TRAIN, example(99, "hi")])
    assert baseline.route("weather in Oslo") == []
    assert label(Majority(TRAIN[:5]).route("anything")) == ("weather",)


def test_tfidf_tells_the_tools_of_queries_like_those_it_saw():
    baseline = Tfidf(TRAIN)
    assert {query: label(baseline.route(query)) for query in ASKED} == ASKED
    assert label(baseline.route("define the word tact and will it rain in Lyon")) == ("dictionary", "weather")


def test_embeddings_have_length_one_and_near_meanings_lie_near(embedding):
    rain, drizzle, joke = embedding(["will it rain", "is drizzle expected", "tell me a joke"])
    assert rain @ rain == pytest.approx(1, abs=1e-5)
    assert rain @ drizzle > rain @ joke


def test_nearest_neighbours_and_the_probe_tell_the_tools(embedding, vectors):
    for baseline in (Nearest(TRAIN, vectors, embedding, 3), Probe(TRAIN, vectors, embedding)):
        assert {query: label(baseline.route(query)) for query in ASKED} == ASKED, baseline


def test_semantic_router_takes_the_route_of_what_is_near(embedding, vectors):
    baseline = SemanticRouter(TRAIN, vectors, embedding)
    near = {"what is the weather in Oslo": ("weather",), "define the word zeal": ("dictionary",), "hello": ()}
    assert {query: label(baseline.route(query)) for query in near} == near


def test_nearest_sums_the_cosines_where_semantic_router_takes_their_mean(embedding):
    train = [example(0, "weather in Oslo now", "weather")]
    train += [example(n, f"weather in Oslo {when}", "web_search") for n, when in enumerate(("2019", "soon", "then"), 1)]
    vectors = embedding([row.query for row in train])
    query = "weather in Oslo now"
    assert label(SemanticRouter(train, vectors, embedding).route(query)) == ("weather",)
    assert label(Nearest(train, vectors, embedding, 4).route(query)) == ("web_search",)


def test_semantic_router_has_no_route_for_what_is_near_to_none(embedding, vectors):
    query = "0x7f segmentation fault in libc"
    assert SemanticRouter(TRAIN[:4], vectors[:4], embedding).route(query) == []
    assert label(Nearest(TRAIN[:4], vectors[:4], embedding, 3).route(query)) == ("weather",)


def test_the_teacher_is_held_to_the_queries_it_was_asked_and_never_to_its_own_labels():
    labels = [example(0, "Weather in Oslo?", "weather", source="t"), example(1, "define x", "dictionary", source="t")]
    rows = [
        example(5, "weather in oslo", "web_search"),
        example(6, "define x", "dictionary", source="t"),
        example(7, "hi"),
    ]
    assert teacher.answers(labels, rows) == {0: labels[0].calls}


def test_the_examples_are_of_every_class_and_the_same_for_the_same_seed(catalogue):
    drawn = untuned.some_of_each(TRAIN, catalogue.classes, 1, 7)
    assert sorted(label(row.calls) for row in drawn) == [(), ("dictionary",), ("dictionary", "weather"), ("weather",)]
    assert drawn == untuned.some_of_each(TRAIN, catalogue.classes, 1, 7)
    assert len(untuned.some_of_each(TRAIN, catalogue.classes, 99, 7)) == len(TRAIN)


@pytest.mark.slow
def test_the_untuned_base_answers_with_valid_calls_or_not_at_all(catalogue):
    baseline = Untuned(Path(GGUF), catalogue, untuned.some_of_each(TRAIN, catalogue.classes, 1, 7), 60, [])
    answers = [baseline.route(query) for query in ("weather in Oslo", "thanks", "define frugal")]
    assert any(answer is not None for answer in answers)
    assert all(answer is None or catalogue.fault(answer) is None for answer in answers)
