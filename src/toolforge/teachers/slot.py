"""A slot: a project's use of a model, which is what a quota belongs to. When it may be asked, and what a 429 does to it."""

import math
import random
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from toolforge.teachers.answers import Spent
from toolforge.teachers.keys import Key

MINUTE, HOUR = 60.0, 3600.0


@dataclass
class Slot:
    """Times are seconds since 1970, so that a rest outlives the process and a closed laptop.

    `limits` are the quotas that refusals named, by `minute` and `day`; `refusals` counts those since the last answer. A slot
    takes one request at a time until it is `proven`: at the start, and after each refusal.
    """

    model: str
    keys: list[Key]
    blocked_until: float = 0.0
    dead: str = ""
    reason: str = ""
    limits: dict[str, int] = field(default_factory=dict)
    proven: bool = False
    busy: int = 0
    refusals: int = 0
    asked: int = 0
    answered: int = 0
    sent: deque[float] = field(default_factory=deque)

    @property
    def name(self) -> str:
        """The project and the model."""
        return f"{self.keys[0].project}/{self.model}"

    def is_dead(self) -> bool:
        """Whether nothing can be asked of it again."""
        return bool(self.dead) or all(key.dead for key in self.keys)

    def state(self) -> str:
        """Free, resting until when and why, or dead and why."""
        if self.is_dead():
            return f"dead: {self.dead or self.keys[0].dead}"
        return f"rests until {utc(self.blocked_until)}: {self.reason}" if self.blocked_until > time.time() else "free"

    def free_at(self, now: float) -> float:
        """When it may be asked, as far as its rest and its limit a minute say; `now` where that is now."""
        while self.sent and self.sent[0] <= now - MINUTE - 1:
            self.sent.popleft()
        limit = self.limits.get("minute", 0)
        paced = self.sent[-limit] + MINUTE + 1 if limit and len(self.sent) >= limit else now
        return max(now, self.blocked_until, paced)

    def key(self) -> Key | None:
        """A key that may be sent now: of one that the service has not taken yet, one request at a time."""
        return next((key for key in self.keys if not key.dead and (key.proven or not key.busy)), None)

    def has_answered(self) -> None:
        """It takes as many requests as it may from now on."""
        self.answered += 1
        if self.blocked_until <= time.time():
            self.proven, self.refusals, self.reason = True, 0, ""

    def spent(self, fault: Spent) -> None:
        """Rest, by whose quota it is that ended. The stated delay of a daily one is not trusted: one request asks again within
        the hour.
        """
        now = time.time()
        if fault.limit and fault.quota in ("day", "minute"):
            self.limits[fault.quota] = fault.limit
        if fault.quota == "none":
            self.dead = f"{self.model} has no quota here (limit: 0)"
        elif fault.quota == "day":
            stated = fault.delay or 0.0
            self._rest(now + (min(stated, HOUR) if stated > 10 * MINUTE else HOUR), "daily quota")
        else:
            if self.blocked_until <= now:
                self.refusals += 1
            growing = min(2.0**self.refusals, HOUR)
            if fault.quota == "minute":
                asked = min(MINUTE if fault.delay is None else fault.delay, MINUTE) + 1
                self._rest(now + max(asked, min(growing / 2, MINUTE)), "quota a minute")
            elif fault.delay is not None:
                self._rest(now + max(min(fault.delay, HOUR) + 1, growing / 2), "quota")
            else:
                self._rest(now + growing * random.uniform(1, 1.5), "too many requests")

    def _rest(self, until: float, reason: str) -> None:
        self.proven = False
        if until > self.blocked_until:
            self.blocked_until, self.reason = until, reason

    def known(self) -> dict[str, Any]:
        """What the next run should know of it, as JSON and without any key."""
        return {
            "blocked_until": utc(self.blocked_until) if self.blocked_until else "",
            "reason": self.reason,
            "dead": self.dead,
            "refusals": self.refusals,
            "limits": self.limits,
        }

    def recall(self, known: dict[str, Any]) -> None:
        """Take on what an earlier run knew. Raises AttributeError, TypeError or ValueError where it is not of `known`'s shape."""
        until = known.get("blocked_until", "")
        self.blocked_until = datetime.fromisoformat(until).timestamp() if until else 0.0
        self.reason, self.dead = str(known.get("reason", "")), str(known.get("dead", ""))
        self.refusals = int(known.get("refusals", 0))
        self.limits = {name: int(limit) for name, limit in known.get("limits", {}).items()}


def utc(moment: float) -> str:
    """A moment, up to the next whole second, as a person reads it and `datetime.fromisoformat` does."""
    return datetime.fromtimestamp(math.ceil(moment), UTC).isoformat(sep=" ", timespec="seconds")
