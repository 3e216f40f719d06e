import pytest

from toolforge.parity import agreements, corrects, fault
from toolforge.records import ToolCall


def weather(place):
    return [ToolCall(name="weather", arguments={"location": place})]


OSLO, ROME = weather("Oslo"), weather("Rome")


def test_answers_agree_where_their_calls_match_and_are_counted_where_the_trained_one_has_any_to_match():
    pairs = [(OSLO, weather("oslo"), True), (OSLO, ROME, False), ([], [], True), ([], None, False)]
    trained, other, same = zip(*pairs, strict=True)
    assert agreements(trained, other) == list(same)
    assert agreements([None, *trained, None], [OSLO, *other, None]) == list(same)


def test_an_answer_that_the_catalogue_does_not_allow_is_never_right():
    assert corrects([OSLO, OSLO, []], [OSLO, None, None]) == [True, False, False]


@pytest.mark.parametrize(
    ("wrong", "passes"), [(0, True), (4, True), (5, False)], ids=["none", "one in a hundred", "more"]
)
def test_one_answer_in_a_hundred_may_be_another(wrong, passes):
    gold, trained = [ROME] * 400, [OSLO] * 400
    other = [weather("Bergen")] * wrong + [OSLO] * (400 - wrong)
    found = fault("exported", gold, trained, other, agreement=0.99, loss=0.005)
    assert (found is None) == passes


def test_half_a_point_of_accuracy_may_be_lost_and_any_gained():
    gold = trained = [OSLO] * 400
    for wrong, passes in ((2, True), (3, False)):
        other = [ROME] * wrong + [OSLO] * (400 - wrong)
        assert (fault("merged", gold, trained, other, agreement=0.9, loss=0.005) is None) == passes
        assert fault("merged", gold, other, trained, agreement=0.9, loss=0.005) is None


def test_the_fault_is_one_line_with_the_figures():
    said = fault("exported", [OSLO] * 10, [OSLO] * 10, [OSLO] * 7 + [ROME] * 3, agreement=0.99, loss=0.005)
    assert said == (
        "the exported model is not the trained one: of 10 queries 7 have the same calls (70.0%, at least 99.0% have to) and of 10 7 the "
        "right ones, for 10 before (30.0% fewer, at most 0.5% may be lost)"
    )
