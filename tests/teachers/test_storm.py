"""A service that fails in all its ways at once: whatever it does, no label is lost, doubled or invented."""

import random
from collections import Counter

import pytest

from teachers.service import (
    BARE,
    CUT,
    DAY,
    DENIED,
    DROP,
    HTML,
    INTERNAL,
    MINUTE,
    NO_QUOTA,
    OVERLOADED,
    SHORT,
    TEXT,
    answered,
    calling,
    invalid,
    leaked,
    spent,
    suspended,
    violation,
)  # fmt: skip
from toolforge.errors import InputError

KEYS = [f"secret-key-{n}" for n in range(7)]
DEAD = {KEYS[4]: invalid, KEYS[5]: leaked}
LATE = KEYS[6]
MODELS = ("m1", "m2", "m3")
FAILURES = [
    INTERNAL, OVERLOADED, HTML, (504, ""), (409, "{}"), DROP, CUT, SHORT, (200, ""), (200, {}), (200, "<html>"), (200, "[]"),
    (200, OVERLOADED[1]), (429, "<html>slow down</html>"), BARE, spent(delay="0s"),
    spent(violation(MINUTE, 30), delay="36000s"), spent(violation(MINUTE), delay="0.4s"),
]  # fmt: skip


def right(query):
    """What the service says of a query when it says anything: each kind of answer has its turn."""
    kind = int(query.split()[-1]) % 6
    blocked = (200, {"promptFeedback": {"blockReason": "SAFETY"}})
    broken = answered(calling("weather", place=query))
    return {0: TEXT, 1: blocked, 2: broken}.get(kind, answered(calling("weather", location=query)))


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 6))])
def test_in_a_storm_no_label_is_lost_doubled_or_invented(stage, service, monkeypatch, capfd, seed):
    monkeypatch.setattr("toolforge.teachers.slot.MINUTE", 1.0)
    chance = random.Random(seed)
    said = Counter()
    queries = [f"weather in town {n}" for n in range(60)]

    def script(key, model, query, n):
        if key in DEAD:
            return DEAD[key](key)
        if key == LATE and service.count(key=key) > 5:
            return suspended(key)
        if (key, model) == (KEYS[0], "m1"):
            return spent(violation(DAY, 20), violation(MINUTE, 5), delay="5s")
        if key in KEYS[1:3] and model == "m2":
            return NO_QUOTA
        if chance.random() < 0.35:
            return chance.choice(FAILURES)
        said[query] += 1
        return right(query)

    service.script = script
    stage.queries(*queries)
    stage.keys(KEYS[0], f"mine={KEYS[1]}", f"mine={KEYS[2]}", *KEYS[3:])
    labels, runs = None, 0
    while labels is None:
        runs += 1
        try:
            labels = stage.run(models=MODELS)
        except InputError as error:
            assert "run again" in str(error)
            assert runs < 10
    wanted = {}
    for number, query in enumerate(queries):
        if number % 6 not in (1, 2):
            calls = [{"name": "weather", "arguments": {"location": query}}]
            wanted[f"q{number}"] = calls if number % 6 else []
    assert labels == wanted
    outcomes = {record["query"]: record.get("outcome", "label") for record in stage.records()}
    assert len(outcomes) == len(stage.records()) == 60
    assert outcomes == {
        query: {1: "blocked", 2: "rejected"}.get(number % 6, "label") for number, query in enumerate(queries)
    }
    for key in DEAD:
        assert service.count(key=key) == 1
    asked = Counter((key, model) for _, key, model, _ in service.requests)
    assert asked[KEYS[0], "m1"] == 1
    assert asked[KEYS[1], "m2"] + asked[KEYS[2], "m2"] == 1
    # A label once; what is to be rejected three times a run, since a run may leave a query to the next for other faults.
    most = {query: 3 * runs if int(query.split()[-1]) % 6 == 2 else 1 for query in said}
    assert {query: times for query, times in said.items() if times > most[query]} == {}
    everything = "".join(capfd.readouterr()) + "".join(path.read_text() for path in stage.folder.iterdir())
    assert "is dead and will not be sent again" in everything
    assert not any(key in everything for key in KEYS)


def test_when_every_project_is_denied_the_run_says_so_once_a_project(stage, service, capfd):
    stage.keys(*(f"mine={key}" for key in KEYS[:3]), KEYS[3])
    service.script = lambda key, model, query, n: DENIED
    with pytest.raises(InputError, match="no slot is left: 403 Your project has been denied access"):
        stage.run(models=MODELS)
    # One for each project, and those that were under way when its refusal came: no more than there are queries.
    assert 2 <= service.count() <= 4
    assert capfd.readouterr().err.count("will not be sent again") == 2
