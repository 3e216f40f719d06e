"""What a fault does to its slot, its key or the run; and how a run is stopped and says what it does."""

import asyncio
import contextlib
import functools
import signal
import sys
from collections.abc import Callable, Collection
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


async def until_done_or_signal(tasks: Collection["asyncio.Task[None]"]) -> bool:
    """Wait for all tasks, or the first that raises, or SIGINT or SIGTERM; whether it was a signal."""
    loop, interrupted = asyncio.get_running_loop(), asyncio.Event()
    with contextlib.ExitStack() as stack:
        for number in (signal.SIGINT, signal.SIGTERM):
            # Only the main thread may; a test's other thread goes without.
            with contextlib.suppress(RuntimeError, ValueError):
                loop.add_signal_handler(number, interrupted.set)
                stack.callback(functools.partial(loop.remove_signal_handler, number))
        signalled = asyncio.create_task(interrupted.wait())
        try:
            left: set[asyncio.Task[None]] = set(tasks)
            while left and not interrupted.is_set():
                done, _ = await asyncio.wait({*left, signalled}, return_when=asyncio.FIRST_COMPLETED)
                left -= done
                if any(task is not signalled and not task.cancelled() and task.exception() for task in done):
                    return False
        finally:
            signalled.cancel()
    return interrupted.is_set()


def note(bar: Bar, message: str) -> None:
    """A line above the bar."""
    bar.write(f"teacher: {message}", file=sys.stderr)
