"""A slot's pace, where no service could be asked so often."""

from toolforge.teachers.keys import Key
from toolforge.teachers.slot import MINUTE, Slot


def test_a_limit_of_thousands_a_minute_is_kept():
    slot = Slot("m", [Key("secret")], limits={"minute": 3000})
    slot.sent.extend(float(n) / 100 for n in range(3000))
    assert slot.free_at(30.0) == MINUTE + 1
    assert slot.free_at(MINUTE + 1.5) == MINUTE + 1.5
