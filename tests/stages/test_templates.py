import random
from collections import Counter
from pathlib import Path

import pytest
import yaml

from toolforge.errors import InputError
from toolforge.params import load_params
from toolforge.records import class_of
from toolforge.slots import Value, load_slots
from toolforge.stages.templates import (
    Frame,
    TemplatesParams,
    fill,
    load_frames,
    load_logged,
    templates,
)

ROOT = Path(__file__).parent.parent.parent
DATA = ROOT / "data"
FEW = TemplatesParams(seed=1, seeds_per_class=2, queries_per_class=3)
SLOTS = {"place": [Value(text=name, value=name) for name in ("Oslo", "Rome", "Lima")]}


def frame(query, *calls):
    return Frame.model_validate({"query": query, "calls": [{"name": n, "arguments": a} for n, a in calls]})


@pytest.fixture(scope="module")
def shipped(catalogue):
    return (
        load_frames(DATA / "templates.yaml", catalogue),
        load_slots(DATA / "slots"),
        load_logged(DATA / "unlabelled.txt"),
    )


def test_the_shipped_frames_and_slots_are_as_many_as_promised(shipped, catalogue):
    frames, slots, _ = shipped
    assert {name: len(frames[name]) >= 25 for name in catalogue.classes} == dict.fromkeys(catalogue.classes, True)
    for slot in ("place", "word", "expression", "url", "topic", "phrase", "search"):
        assert len({value.text for value in slots[slot]}) >= 80, slot


def test_the_shipped_data_gives_balanced_seeds_and_enough_queries_and_the_same_twice(shipped, catalogue, monkeypatch):
    monkeypatch.chdir(ROOT)
    params = load_params("templates", TemplatesParams)
    seeds, queries = templates(*shipped, catalogue, params)
    counts = Counter(class_of(seed.calls) for seed in seeds)
    assert set(counts) == set(catalogue.classes)
    assert set(counts.values()) == {params.seeds_per_class}
    assert len(seeds) >= 500
    assert len(queries) >= 1900
    assert not {seed.query for seed in seeds} & {query.query for query in queries}
    assert all(catalogue.fault(seed.calls) is None for seed in seeds)
    assert templates(*shipped, catalogue, params) == (seeds, queries)


def test_one_slot_has_one_value_and_its_numbered_twin_another():
    both = frame("{place} or {place_2}? {place}!", ("weather", {"location": "{place_2}"}))
    for seed in range(20):
        query, (call,) = fill(both, SLOTS, random.Random(seed))
        first, second = query.split("?")[0].split(" or ")
        assert first != second
        assert query.endswith(f" {first}!")
        assert call.arguments == {"location": second}


def test_an_argument_that_is_one_slot_takes_the_values_type_and_texts_are_joined():
    slots = {"percent": [Value(text="15%", value="0.15")], "n": [Value(text="240", value=240)]}
    query, calls = fill(
        frame("{percent} of {n}", ("calculator", {"expression": "{percent} * {n}"}), ("x", {"value": "{n}"})),
        slots,
        random.Random(0),
    )
    assert query == "15% of 240"
    assert [call.arguments for call in calls] == [{"expression": "0.15 * 240"}, {"value": 240}]


def test_slots_inside_a_list_or_an_object_are_filled():
    slots = {"n": [Value(text="240", value=240)]}
    arguments = {"values": ["{n}", "n {n}"], "of": {"all": ["{n}"]}}
    _, (call,) = fill(frame("sum {n}", ("x", arguments)), slots, random.Random(0))
    assert call.arguments == {"values": [240, "n 240"], "of": {"all": [240]}}


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (frame("in {orb}", ("weather", {"location": "{orb}"})), "names the slot 'orb', which data/slots lacks"),
        (frame("in {place}", ("weather", {"location": "{place_2}"})), "its calls use {place_2}, which its query lacks"),
        (frame("in {place}", ("weather", {"place": "{place}"})), "weather: "),
        (frame("{when} {when_2} {nought} {nought_2}"), "wants 2 different values of the slot 'nought', which has 1"),
        (frame("in {place}", ("wether", {"location": "{place}"})), "no tool is named 'wether'"),
        (frame("in {place}"), "its calls are of class 'no_tool'"),
        (frame("{place} = 1 / 0", ("calculator", {"expression": "1 / 0"})), "does not run"),
    ],
)
def test_a_bad_frame_is_refused_by_name(shipped, catalogue, bad, said):
    name = "calculator" if "1 / 0" in bad.query else "weather"
    frames = {**shipped[0], name: [bad]}
    with pytest.raises(InputError) as error:
        templates(frames, {**shipped[1], "nought": [Value(text="0", value=0)]}, [], catalogue, FEW)
    assert said in str(error.value)
    assert bad.query in str(error.value)


def test_a_class_that_cannot_be_filled_so_often_is_said(shipped, catalogue):
    frames = {**shipped[0], "weather": [frame("weather {place}", ("weather", {"location": "{place}"}))]}
    with pytest.raises(InputError, match="class 'weather': its frames give only 3 different queries"):
        templates(frames, {**shipped[1], **SLOTS}, [], catalogue, FEW)
    with pytest.raises(InputError, match="class 'weather' has no frame"):
        templates({**frames, "weather": []}, shipped[1], [], catalogue, FEW)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"wether": []}, "'wether' is no tool of the catalogue"),
        ({"weather": [{"query": "x"}]}, "weather.0.calls: Field required"),
        ({"weather": [{"query": "x", "calls": [], "note": 1}]}, "weather.0.note: Extra inputs"),
        (["x"], "valid dictionary"),
    ],
)
def test_a_bad_frames_file_is_refused(tmp_path, catalogue, document, said):
    (tmp_path / "templates.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(InputError) as error:
        load_frames(tmp_path / "templates.yaml", catalogue)
    assert said in str(error.value)


def test_queries_that_are_not_utf_8_are_refused(tmp_path):
    (tmp_path / "unlabelled.txt").write_bytes("météo à Paris\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"unlabelled\.txt: not UTF-8 at byte 1; save it as UTF-8"):
        load_logged(tmp_path / "unlabelled.txt")
