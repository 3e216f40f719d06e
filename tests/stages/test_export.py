"""The export's gate and its figures, on answers laid out by hand."""

import pytest

from few_shot import save_few_shot
from toolforge.calibration import expected_error, fit
from toolforge.errors import InputError
from toolforge.prompt import PromptParams
from toolforge.records import Example, ToolCall
from toolforge.router import Router
from toolforge.stages.export import ExportParams, export, prompt, routed, shown, told, under
from toolforge.student import Student

PARAMS = ExportParams(
    name="tiny",
    base_model="a/b",
    license="mit",
    data_note="",
    quantization="Q8_0",
    batch_size=1,
    max_new_tokens=1,
    queries=2,
    agreement=0.99,
    accuracy_loss=0.005,
    systems=[],
    systems_every=1,
)


def weather(place):
    return [ToolCall(name="weather", arguments={"location": place})]


# 200 queries: the trained model is wrong on the last 20, and as unsure of them as the exported one is.
GOLD = [weather(f"city {n}") for n in range(200)]
TRAINED = [*GOLD[:180], *[[]] * 20]
CONFIDENCES = [0.9 + n / 2000 for n in range(180)] + [0.3 + n / 100 for n in range(20)]


def test_the_figures_are_those_of_the_answers():
    exported = [*TRAINED[:-1], weather("Oslo")]
    found, figures = export(
        GOLD, {"trained": TRAINED, "merged": TRAINED, "exported": exported}, CONFIDENCES, PARAMS, 0.99
    )
    assert figures["n"] == 200
    assert {form: part["call_accuracy"] for form, part in figures["accuracy"].items()} == dict.fromkeys(
        ("trained", "merged", "exported"), 0.9
    )
    assert figures["agreement"]["merged"]["agreement"] == 1.0
    assert figures["agreement"]["exported"]["agreement"] == 0.995
    assert found == fit(CONFIDENCES, [True] * 180 + [False] * 20)
    sure = figures["calibration"]
    # One wrong answer in the 181 surest is 99.4 %, two in 182 are 98.9 %.
    assert sure["threshold"] == pytest.approx(found.apply(CONFIDENCES[-1]))
    assert sure["coverage"] == 0.905
    assert 0 <= sure["ece"] < 0.05
    assert sure["ece_uncalibrated"] == round(expected_error(CONFIDENCES, [True] * 180 + [False] * 20), 4)


@pytest.mark.parametrize("form", ["merged", "exported"])
def test_a_form_that_answers_otherwise_stops_the_stage(form):
    answers = {"trained": TRAINED, "merged": TRAINED, "exported": TRAINED, form: [weather("Oslo")] * 3 + TRAINED[3:]}
    with pytest.raises(InputError, match=f"^export: the {form} model is not the trained one: of 200 queries 197 "):
        export(GOLD, answers, CONFIDENCES, PARAMS, 0.99)


def test_under_a_system_message_merged_and_adapter_are_compared_and_the_adapter_is_scored():
    found = under("Be brief.", GOLD, {"trained": TRAINED, "merged": [*TRAINED[:-1], weather("Oslo")]})
    assert (found["system"], found["n"]) == ("Be brief.", 200)
    assert (found["agreement"], found["call_accuracy"]) == (0.995, 0.9)


@pytest.mark.slow
def test_another_system_message_stands_in_the_prompt(tokenizer, tiny_llama, catalogue):
    own = Student(tiny_llama(0), tokenizer, PromptParams(system="Route.", tools="none"), catalogue)
    other = told(own, "Be brief.")
    assert "Be brief." in prompt(other, "thanks") and "Route." not in prompt(other, "thanks")
    assert "Route." in prompt(own, "thanks")


def test_answers_that_are_never_sure_enough_have_no_threshold():
    wrong = [[]] * 200
    figures = export(GOLD, {"trained": wrong, "merged": wrong, "exported": wrong}, CONFIDENCES, PARAMS, 0.99)[1]
    assert (figures["calibration"]["threshold"], figures["calibration"]["coverage"]) == (None, 0.0)


@pytest.mark.slow
def test_a_query_that_the_router_refuses_counts_as_wrong_and_does_not_stop_the_stage(tmp_path):
    asked = Router.load(save_few_shot(tmp_path))
    assert routed(asked, "rain " * 2000) == (None, 0.0)
    calls, confidence = routed(asked, "weather in Rome")
    assert calls == weather("Rome")
    assert 0 < confidence < 1


def test_the_card_shows_the_shortest_queries_that_are_rightly_answered():
    rows = [
        Example(id=str(n), query=query, calls=calls, source="authored", group=str(n))
        for n, (query, calls) in enumerate(
            [("a", weather("A")), ("bb", weather("B")), ("ccc", weather("C")), ("dddd", []), ("eeeee", [])]
        )
    ]
    assert [row.query for row in shown(rows, [[], weather("B"), weather("C"), [], []])] == ["bb", "dddd"]
    assert [row.query for row in shown(rows, [None, None, None, None, []])] == ["eeeee"]
    assert shown(rows, [None] * 5) == []
