"""The slots together: whom to ask now, round robin over those that are free, and what the next run should know of them."""

import asyncio
import contextlib
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from toolforge.errors import InputError
from toolforge.records import write_json
from toolforge.teachers.answers import Refused, Spent
from toolforge.teachers.keys import Key
from toolforge.teachers.slot import Slot, utc

# A rest up to this long is waited out; a longer one ends the run unless it may wait.
PATIENCE = 90.0


class Ended(Exception):  # noqa: N818 - a run may end in good order
    """The run cannot go on now. The message is one line: why, and what to do."""


class Slots:
    """All slots, round robin over those that are free. What is learned of them is kept in a file without any key."""

    def __init__(self, path: Path, keys: Sequence[Key], models: Sequence[str], in_flight: int, wait: bool) -> None:
        """`in_flight` is how many requests a slot takes at once. Without `wait`, a long rest of all slots ends the run."""
        projects: dict[str, list[Key]] = {}
        for key in keys:
            projects.setdefault(key.project, []).append(key)
        # Models vary slowest: the first tries go to one model, each of another project.
        self.all = [Slot(model, of) for model in dict.fromkeys(models) for of in projects.values()]
        self.keys = list(keys)
        self._path, self._in_flight, self._wait = path, in_flight, wait
        self._turn = itertools.cycle(range(len(self.all)))
        self._changed = asyncio.Event()
        self._ended = ""
        self._load()

    @property
    def width(self) -> int:
        """How many requests can be under way at once."""
        return len(self.all) * self._in_flight

    def count(self) -> dict[str, int]:
        """How many slots are free, resting and dead."""
        now = time.time()
        states = Counter(
            "dead" if slot.is_dead() else "resting" if slot.blocked_until > now else "free" for slot in self.all
        )
        return {state: states[state] for state in ("free", "resting", "dead")}

    @contextlib.contextmanager
    def taken(self, slot: Slot, key: Key) -> Iterator[None]:
        """While a request to the slot is under way."""
        slot.busy, key.busy = slot.busy + 1, key.busy + 1
        slot.asked += 1
        slot.sent.append(time.time())
        try:
            yield
        finally:
            slot.busy, key.busy = slot.busy - 1, key.busy - 1

    async def free(self) -> tuple[Slot, Key]:
        """The next slot in turn that is free, and a key of it, once there is one. Raises Ended where all are dead, where all rest for
        long, and after `end`. Nothing may be awaited between this and `taken`.
        """
        while True:
            if self._ended:
                raise Ended(self._ended)
            now = time.time()
            for _ in self.all:
                slot = self.all[next(self._turn)]
                if slot.is_dead() or slot.busy >= (self._in_flight if slot.proven else 1) or slot.free_at(now) > now:
                    continue
                if key := slot.key():
                    return slot, key
            # A slot that is only busy wakes this one when it is given back.
            until = min((slot.free_at(now) for slot in self._alive() if slot.free_at(now) > now), default=now + 1)
            with contextlib.suppress(TimeoutError):
                # At most a second: after a closed laptop wakes, only the wall clock is right.
                await asyncio.wait_for(self._changed.wait(), min(max(until - now, 0.01), 1.0))

    def _alive(self) -> list[Slot]:
        """The slots that are not dead. Raises Ended where there is none, or all rest for longer than may be waited."""
        alive = [slot for slot in self.all if not slot.is_dead()]
        if not alive:
            why = Counter(slot.dead or slot.keys[0].dead for slot in self.all)
            raise Ended(
                f"no slot is left: {'; '.join(why)}; set other keys or models, or delete {self._path} to try these again"
            )
        resting = self.resting_until()
        if resting and resting - time.time() > PATIENCE and not self._wait:
            why = Counter(slot.reason for slot in alive)
            raise Ended(
                f"all slots rest until {utc(resting)} or longer ({', '.join(why)}); run again then, or set teacher.wait: true"
            )
        return alive

    def resting_until(self) -> float:
        """When the first slot's rest ends, where all that live rest; else 0."""
        until = [slot.blocked_until for slot in self.all if not slot.is_dead()]
        return min(until) if until and min(until) > time.time() else 0.0

    def given_back(self) -> None:
        """Wake who waits for a slot. Nothing is awaited here, where a worker may hold an answer that is not yet stored."""
        self._changed.set()
        self._changed = asyncio.Event()

    def answered(self, slot: Slot, key: Key) -> None:
        """The slot answered, and the service took the key."""
        key.proven = True
        refusals = slot.refusals
        slot.has_answered()
        if slot.refusals != refusals:
            self._save()

    def spent(self, slot: Slot, fault: Spent) -> None:
        """A 429: the slot rests, or has no quota at all."""
        slot.spent(fault)
        self._save()

    def refused(self, key: Key, fault: Refused, said: str) -> None:
        """The key, or its whole project, is never sent again. `said` is the fault without any key in it."""
        for other in self.keys:
            if other is key or (fault.project and other.project == key.project):
                other.dead = said
        self._save()

    def end(self, why: str) -> None:
        """From now on `free` raises Ended; the first reason stands."""
        self._ended = self._ended or why

    def _save(self) -> None:
        slots = {slot.name: slot.known() for slot in self.all}
        keys = {key.id: key.dead for key in self.keys if key.dead}
        known = self._read()
        write_json(
            self._path,
            {"slots": {**known.get("slots", {}), **slots}, "dead_keys": {**known.get("dead_keys", {}), **keys}},
        )

    def _load(self) -> None:
        known = self._read()
        try:
            for key in self.keys:
                key.dead = str(known.get("dead_keys", {}).get(key.id, ""))
            for slot in self.all:
                slot.recall(known.get("slots", {}).get(slot.name, {}))
        except (AttributeError, TypeError, ValueError):
            raise InputError(f"{self._path}: not the state of slots; delete it") from None

    def _read(self) -> dict[str, Any]:
        if not self._path.exists():
            return {}
        try:
            document = json.loads(self._path.read_text(encoding="utf-8"))
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise InputError(f"{self._path}: not the state of slots; delete it")
        return document
