"""A slot's values come from a file or a package; a bad file is refused."""

import pytest

from toolforge.errors import InputError
from toolforge.slots import load_slots


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("source: planets", "'planets' is unknown"),
        ("[]", "no value"),
        ("[{text: a}]", "slot.yaml: "),
        ("[", "not YAML"),
    ],
)
def test_a_bad_slot_file_is_refused(tmp_path, text, said):
    (tmp_path / "slot.yaml").write_text(text)
    with pytest.raises(InputError, match=said):
        load_slots(tmp_path)


def test_slot_sources(tmp_path):
    (tmp_path / "d.yaml").write_text("{source: decimals, low: 0.5, high: 0.7, places: 1}")
    (tmp_path / "i.yaml").write_text("{source: integers, low: 3, high: 5}")
    (tmp_path / "l.yaml").write_text("{source: languages, without: [English]}")
    slots = load_slots(tmp_path)
    assert [value.value for value in slots["d"]] == [0.5, 0.6, 0.7]
    assert [value.value for value in slots["i"]] == [3, 4, 5]
    names = [value.text for value in slots["l"]]
    assert "Finnish" in names
    assert "English" not in names
