"""What a fault does to its slot, its key or the run, and the line that says so."""

import sys
from collections.abc import Callable
from typing import Any, TypeAlias

from tqdm import tqdm

from toolforge.teachers.answers import Fault, Misconfigured, Refused, Spent
from toolforge.teachers.keys import Key, redact
from toolforge.teachers.slot import Slot, utc
from toolforge.teachers.slots import Ended, Slots

Bar: TypeAlias = "tqdm[Any]"


def settle(fault: Fault, slot: Slot, key: Key, slots: Slots, note: Callable[[str], None]) -> None:
    """Give a fault its fate at the slot: a rest, a death, or the end of the run (Ended). A transient one is the caller's."""
    said = redact(str(fault), slots.keys)
    if isinstance(fault, Spent):
        slots.spent(slot, fault)
        if slot.dead:
            note(f"{slot.name} is dead: {slot.dead}")
        elif fault.quota == "day":
            note(f"{slot.name} rests until {utc(slot.blocked_until)}: {slot.reason}")
    elif isinstance(fault, Refused):
        if not key.dead:
            note(f"{key} is dead and will not be sent again: {said}")
        slots.refused(key, fault, said)
    elif isinstance(fault, Misconfigured):
        raise Ended(f"{slot.model} cannot be asked: {said}; set it right and run again") from None


def note(bar: Bar, message: str) -> None:
    """A line above the bar."""
    bar.write(f"teacher: {message}", file=sys.stderr)
