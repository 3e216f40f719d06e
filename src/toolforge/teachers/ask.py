"""The asking: many queries under way at once over the slots, each answer on the disk before its worker takes another query."""

import asyncio
import contextlib
import functools
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import tenacity
from tqdm import tqdm

from toolforge.prompt import answer as written
from toolforge.teachers.answers import Answer, Empty, Fault, Misconfigured, Refused, Spent, Transient
from toolforge.teachers.keys import Key, redact
from toolforge.teachers.slots import Ended, Slot, Slots, utc
from toolforge.teachers.store import Record, Store, now, request_key

# Tries of an answer that is malformed, empty or breaks the catalogue.
TRIES = 3
# Seconds that requests under way have to end in after Ctrl-C.
GRACE = 1.0

Bar: TypeAlias = "tqdm[Any]"


class Teacher(Protocol):
    """What is asked: gemini.Gemini or openai.OpenAI."""

    async def ask(self, secret: str, model: str, query: str) -> Answer:
        """The answer to one request. Raises a Fault where there is none."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


@dataclass(frozen=True)
class Request:
    """What makes two requests the same: the catalogue's digest, the guide, and the models of which any may answer."""

    catalogue: str
    guide: str
    models: tuple[str, ...]

    def key(self, query: str, model: str) -> str:
        """The key that the answer of a model has in the store."""
        return request_key(query, self.catalogue, model, self.guide)

    def keys(self, query: str) -> Collection[str]:
        """The keys of which one suffices."""
        return [self.key(query, model) for model in self.models]


@dataclass
class Run:
    """How an asking went: why it ended early, or ""; and by reason how many queries got no answer that may be kept."""

    ended: str = ""
    unanswered: Counter[str] = field(default_factory=Counter)


@dataclass
class _Spending:
    """What one query has cost so far, over all its tries."""

    start: float
    prompt_tokens: int = 0
    tokens: int = 0
    tries: int = 0
    empty: int = 0
    failing_since: float = 0.0


class Asking:
    """One run of online mode."""

    def __init__(
        self, teacher: Teacher, slots: Slots, store: Store, request: Request, timeout: float, give_up_after: float
    ) -> None:
        """`timeout` is the seconds of one request, `give_up_after` those that a query's transient faults may last."""
        self._teacher, self._slots, self._store, self._request = teacher, slots, store, request
        self._timeout, self._give_up_after = timeout, give_up_after
        self._run = Run()
        self._under_way = 0
        self._asked: set[str] = set()
        self._waiting: list[Record] = []
        self._writing = asyncio.Lock()
        self._last_answer = time.monotonic()
        self._silent = 0
        self._seen: Counter[str] = Counter()
        self._stopping = False
        self._bar: Bar = tqdm(disable=True)

    async def label(self, queries: Iterable[str], total: int) -> Run:
        """Ask for each query that the store lacks; `total` is how many. Raises KeyboardInterrupt after Ctrl-C or SIGTERM, with
        what was answered stored, and OSError or InputError where the store cannot be written.
        """
        self._bar = tqdm(total=total, desc="labels", unit="label", file=sys.stderr, dynamic_ncols=True, smoothing=0.05)
        lacking = self._lacking(queries)
        workers = [asyncio.create_task(self._work(lacking)) for _ in range(min(self._slots.width, max(total, 1)))]
        watch = asyncio.create_task(self._watch())
        try:
            interrupted = await until_done_or_signal(workers)
            await self._stop(workers, GRACE if interrupted else None)
            if interrupted:
                raise KeyboardInterrupt
            for worker in workers:
                if not worker.cancelled() and (error := worker.exception()) and not isinstance(error, Ended):
                    raise error
        finally:
            watch.cancel()
            self._show()
            self._bar.close()
            await self._teacher.close()
        return self._run

    def _lacking(self, queries: Iterable[str]) -> Iterator[str]:
        for query in queries:
            if query in self._asked or self._store.answer(query, self._request.keys):
                continue
            yield query

    async def _work(self, lacking: Iterator[str]) -> None:
        for query in lacking:
            self._asked.add(query)
            try:
                await self._one(query)
            except Ended as ended:
                self._run.ended = self._run.ended or str(ended)
                self._slots.end(str(ended))
                raise
            finally:
                self._asked.discard(query)
            if self._stopping:
                return

    async def _one(self, query: str) -> None:
        """Ask until the query has an answer that may be kept, or its time is over."""
        spending = _Spending(time.monotonic())
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(Transient),
            wait=tenacity.wait_exponential_jitter(initial=0.5, max=30, jitter=0.5),
            stop=lambda state: self._is_over(spending, state),
            reraise=True,
        )
        try:
            record: Record = await retrying(self._try, query, spending)
        except Transient as fault:
            self._give_up(str(fault), spending)
            return
        await self._keep(record)

    def _is_over(self, spending: _Spending, state: tenacity.RetryCallState) -> bool:
        fault = state.outcome.exception() if state.outcome else None
        if isinstance(fault, Empty):
            spending.empty += 1
            return spending.empty >= TRIES
        spending.failing_since = spending.failing_since or time.monotonic()
        return time.monotonic() - spending.failing_since >= self._give_up_after

    def _give_up(self, why: str, spending: _Spending) -> None:
        self._run.unanswered[why] += 1
        self._silent = 0 if self._last_answer > spending.start else self._silent + 1
        if self._silent >= self._slots.width:
            raise Ended(f"the service gives no answers ({why}); run again to resume")

    async def _try(self, query: str, spending: _Spending) -> Record:
        """A record that may be kept: a label, or after a few tries what was wrong with the last answer."""
        while True:
            slot, answer = await self._ask(query)
            spending.prompt_tokens += answer.prompt_tokens
            spending.tokens += answer.tokens
            spending.tries += 1
            if answer.calls is not None or answer.final or spending.tries >= TRIES:
                return self._record(query, slot.model, answer, spending)

    async def _ask(self, query: str) -> tuple[Slot, Answer]:
        """One answer, from whichever slot can give it. Raises Transient, and Ended where the run cannot go on."""
        while True:
            slot, key = await self._slots.free()
            try:
                with self._slots.taken(slot, key), self._counted():
                    async with asyncio.timeout(self._timeout):
                        answer = await self._teacher.ask(key.secret, slot.model, query)
                    self._slots.answered(slot, key)
                    self._last_answer = time.monotonic()
                    return slot, answer
            except TimeoutError:
                raise self._seen_once(Transient(f"no answer within {self._timeout:g} s"), slot) from None
            except Fault as fault:
                settle(fault, slot, key, self._slots, self._note)
                if isinstance(fault, Transient):
                    raise self._seen_once(fault, slot) from None
            finally:
                await self._slots.given_back()

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    def _seen_once(self, fault: Transient, slot: Slot) -> Transient:
        """The fault without any key in it; the first of its kind is noted, since a run that is only slow looks like one that hangs."""
        said = redact(str(fault), self._slots.keys)
        if not self._seen[said[:30]]:
            self._note(f"{slot.name}: {said}; trying again, and so with each of its kind")
        self._seen[said[:30]] += 1
        return type(fault)(said)

    def _record(self, query: str, model: str, answer: Answer, spending: _Spending) -> Record:
        return record_of(
            self._request.key(query, model), query, model, answer, self._slots.keys,
            prompt_tokens=spending.prompt_tokens, tokens=spending.tokens, seconds=time.monotonic() - spending.start,
        )  # fmt: skip

    async def _keep(self, record: Record) -> None:
        """Return when the record is on the disk. Whoever comes first writes for all that wait behind it: one fsync for many."""
        with self._counted():
            self._waiting.append(record)
            await asyncio.shield(asyncio.ensure_future(self._write()))
        self._bar.update(1)

    async def _write(self) -> None:
        async with self._writing:
            records, self._waiting = self._waiting, []
            if records:
                await asyncio.to_thread(self._store.append, records)

    async def _stop(self, workers: Collection["asyncio.Task[None]"], grace: float | None) -> None:
        """Let requests under way end, for `grace` seconds at most, and cancel what only waits."""
        self._stopping = True
        self._slots.end("stopped")
        end = time.monotonic() + grace if grace is not None else float("inf")
        while self._under_way and time.monotonic() < end:
            await asyncio.sleep(0.01)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        async with self._writing:
            pass

    async def _watch(self) -> None:
        """Keep the bar's state true, also while nothing comes."""
        said = 0.0
        while True:
            self._show()
            resting = self._slots.resting_until()
            if resting and resting - time.time() > 5 and resting != said:
                said = resting
                self._note(f"all slots rest until {utc(resting)} (in {resting - time.time():.0f} s)")
            await asyncio.sleep(0.5)

    def _show(self) -> None:
        self._bar.set_postfix_str(
            ", ".join(f"{count} {state}" for state, count in self._slots.count().items()), refresh=True
        )

    def _note(self, message: str) -> None:
        note(self._bar, message)


def note(bar: Bar, message: str) -> None:
    """A line above the bar."""
    bar.write(f"teacher: {message}", file=sys.stderr)


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


def record_of(
    key: str, query: str, model: str, answer: Answer, keys: Iterable[Key], *,
    prompt_tokens: int, tokens: int, seconds: float, batch: bool = False,
) -> Record:  # fmt: skip
    """The record of an answer, with what all tries of it cost."""
    return Record(
        key=key,
        query=query,
        model=answer.model,
        answer=written(answer.calls) if answer.calls else answer.text.encode(errors="replace").decode(),
        calls=answer.calls,
        tokens=tokens,
        time=now(),
        asked=model,
        outcome="label" if answer.calls is not None else "blocked" if answer.final else "rejected",
        reason=redact(answer.reason, keys).encode(errors="replace").decode(),
        prompt_tokens=prompt_tokens,
        seconds=round(seconds, 3),
        batch=batch,
    )


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
