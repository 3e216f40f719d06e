"""Gemini's Batch API: jobs that outlive the process, through the real client."""

import json
import time

import pytest

from teachers.service import CALL, DROP, HANG, OVERLOADED, TEXT, answered, invalid, spent
from toolforge.errors import InputError


@pytest.fixture
def ask(stage, monkeypatch):
    monkeypatch.setattr("toolforge.teachers.batch.ROWS", 4)
    return lambda **params: stage.run(mode="batch", **params)


def test_jobs_are_handed_in_and_their_answers_stored_at_half_the_price(ask, stage, service):
    stage.queries(10)
    service.script = lambda key, model, query, n: CALL if query == "query 1" else TEXT
    labels = ask(prices={"m": {"input": 1.0, "output": 1.0}})
    assert len(labels) == 10
    assert labels["q1"] == [{"name": "weather", "arguments": {"location": "Oslo"}}]
    assert [len(rows) for _, _, rows in service.submitted] == [4, 4, 2]
    row = service.bodies[0]["batch"]["inputConfig"]["requests"]["requests"][0]["request"]
    assert row["systemInstruction"]["parts"] == [{"text": "the guide"}]
    assert [tool["name"] for tool in row["tools"][0]["functionDeclarations"]][:2] == ["web_search", "calculator"]
    assert {record["batch"] for record in stage.records()} == {True}
    assert json.loads((stage.folder / "store.batch.json").read_text()) == []
    assert json.loads(stage.metrics.read_text())["tokens"] == 70
    assert len(ask()) == 10
    assert len(service.submitted) == 3


def test_rows_that_failed_inside_a_job_are_asked_again_and_no_others(ask, stage, service):
    stage.queries(4)
    once = {"query 0": OVERLOADED, "query 1": answered(finish="MALFORMED_FUNCTION_CALL")}
    service.script = lambda key, model, query, n: once[query] if query in once and n == 1 else TEXT
    assert len(ask()) == 4
    assert [rows for _, _, rows in service.submitted[1:]] == [["query 0", "query 1"]]


def test_rows_that_keep_failing_are_left_or_rejected_and_blocks_are_final(ask, stage, service):
    always = {
        "query 0": OVERLOADED,
        "query 1": answered(finish="MALFORMED_FUNCTION_CALL"),
        "query 2": (200, {"promptFeedback": {"blockReason": "SAFETY"}}),
    }
    service.script = lambda key, model, query, n: always.get(query, TEXT)
    with pytest.raises(InputError, match="1 of 4 queries are unlabelled: 1 x The model is overloaded"):
        ask()
    assert [len(rows) for _, _, rows in service.submitted] == [4, 2, 2]
    assert {record["query"]: record.get("outcome", "label") for record in stage.records()} == {
        "query 1": "rejected", "query 2": "blocked", "query 3": "label",
    }  # fmt: skip


def test_the_rows_of_a_job_that_ends_without_answers_are_asked_again_and_after_three_jobs_left(ask, stage, service):
    service.ends = {1: "FAILED", 2: "CANCELLED", 3: "EXPIRED"}
    with pytest.raises(InputError, match="4 of 4 queries are unlabelled: 4 x batch job expired"):
        ask()
    assert len(ask()) == 4
    assert [len(rows) for _, _, rows in service.submitted] == [4] * 4


@pytest.mark.filterwarnings("ignore:Sending a large body")
def test_a_job_stays_under_what_may_be_sent_inline(stage, service):
    stage.labels.write_text("x" * 6_000_000)
    assert len(stage.run(mode="batch")) == 4
    assert [len(rows) for _, _, rows in service.submitted] == [2, 2]


def test_a_job_whose_hand_in_was_cut_off_is_found_and_not_handed_in_twice(ask, stage, service):
    service.after_submit = lambda n: DROP if n == 1 else None
    assert len(ask()) == 4
    assert len(service.submitted) == 1


def test_a_job_is_not_handed_in_again_before_it_was_looked_for(ask, stage, service):
    service.after_submit = lambda n: DROP if n == 1 else None
    service.list_failures = 2
    assert len(ask()) == 4
    assert (len(service.submitted), service.lists) == (1, 3)


def test_a_job_that_cannot_be_looked_for_stays_in_the_journal(ask, stage, service):
    service.after_submit = lambda n: DROP if n == 1 else None
    service.list_failures, service.list_failure = 1, spent()
    with pytest.raises(InputError, match="got there is not known"):
        ask()
    assert len(ask()) == 4
    assert len(service.submitted) == 1


def test_a_job_whose_hand_in_was_never_answered_is_found(ask, stage, service, monkeypatch):
    monkeypatch.setattr("toolforge.teachers.batch.TIMEOUT", 5.0)
    service.after_submit = lambda n: HANG if n == 1 else None
    assert len(ask()) == 4
    assert len(service.submitted) == 1


def test_a_refused_hand_in_goes_to_the_next_slot(ask, stage, service):
    stage.keys("secret-key-0", "secret-key-1", "secret-key-2")
    replies = {1: invalid("secret-key-0"), 2: spent(message="limit: 0")}
    service.after_submit = replies.get
    assert len(ask()) == 4
    assert [key for key, _, _ in service.submitted] == ["secret-key-0", "secret-key-1", "secret-key-2"]


@pytest.mark.parametrize("moment", ["handing in", "polling"])
def test_a_killed_run_finds_its_jobs_again(stage, service, moment):
    service.after_submit = lambda n: HANG if moment == "handing in" else None
    with stage.start(mode="batch") as process:
        while not (service.jobs and (moment == "handing in" or any(job["polls"] for job in service.jobs.values()))):
            time.sleep(0.01)
        process.kill()
    service.after_submit = None
    assert len(stage.run(mode="batch")) == 4
    assert len(service.submitted) == 1


def test_jobs_that_still_run_are_left_to_the_next_run(ask, stage, service, monkeypatch):
    monkeypatch.setattr("toolforge.teachers.batch.PATIENCE", 0.0)
    with pytest.raises(InputError, match="4 of 4 queries are unlabelled: 1 batch jobs are still running"):
        ask()
    assert len(ask()) == 4
    assert len(service.submitted) == 1


def test_a_job_of_a_project_without_a_key_is_said(ask, stage, service, monkeypatch):
    monkeypatch.setattr("toolforge.teachers.batch.PATIENCE", 0.0)
    with pytest.raises(InputError, match="still running"):
        ask()
    stage.keys("another-key")
    with pytest.raises(InputError, match="belongs to project .*, of which no key is set"):
        ask()


def test_an_edited_guide_leaves_a_running_jobs_answers_to_the_guide_that_they_were_asked_with(
    ask, stage, service, monkeypatch
):
    monkeypatch.setattr("toolforge.teachers.batch.PATIENCE", 0.0)
    with pytest.raises(InputError, match="still running"):
        ask()
    stage.labels.write_text("another guide")
    monkeypatch.setattr("toolforge.teachers.batch.PATIENCE", 90.0)
    assert len(ask()) == 4
    assert len(service.submitted) == 2
    assert len(stage.records()) == 8
    stage.labels.write_text("the guide")
    assert len(ask()) == 4
    assert len(service.submitted) == 2


def test_a_job_that_the_service_forgot_is_asked_again(ask, stage, service, monkeypatch):
    monkeypatch.setattr("toolforge.teachers.batch.PATIENCE", 0.0)
    with pytest.raises(InputError, match="still running"):
        ask()
    monkeypatch.setattr("toolforge.teachers.batch.PATIENCE", 90.0)
    service.jobs.clear()
    assert len(ask()) == 4
    assert len(service.submitted) == 2
