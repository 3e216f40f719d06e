"""The asking: many queries under way at once over the slots, each answer on the disk before its worker takes another query."""

import asyncio
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import tenacity
from tqdm import tqdm

from toolforge.teachers.answers import Answer, Empty, Fault, Transient
from toolforge.teachers.fates import Bar, note, settle
from toolforge.teachers.keys import redact
from toolforge.teachers.request import TRIES, Request, Run, record_of
from toolforge.teachers.slot import Slot, utc
from toolforge.teachers.slots import Ended, Slots
from toolforge.teachers.stopping import until_done_or_signal
from toolforge.teachers.store import Record, Store

# Seconds that requests under way have to end in after Ctrl-C.
GRACE = 1.0


class Teacher(Protocol):
    """What is asked: gemini.Gemini or openai.OpenAI."""

    async def ask(self, secret: str, model: str, query: str) -> Answer:
        """The answer to one request. Raises a Fault where there is none."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


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
        self._write_of_all: asyncio.Future[None] | None = None
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
            slot, answer = await self._ask(query, spending)
            spending.prompt_tokens += answer.prompt_tokens
            spending.tokens += answer.tokens
            spending.tries += 1
            if answer.calls is not None or answer.final or spending.tries >= TRIES:
                return self._record(query, slot.model, answer, spending)

    async def _ask(self, query: str, spending: _Spending) -> tuple[Slot, Answer]:
        """One answer, from whichever slot can give it. Raises Transient, and Ended where the run cannot go on."""
        while True:
            waiting_since = time.monotonic()
            slot, key = await self._slots.free()
            if spending.failing_since:
                # Slots that rest are no failure of the query's.
                spending.failing_since += time.monotonic() - waiting_since
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
                self._slots.given_back()

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
        """Return when the record is on the disk. Those that wait behind a write share the next one: one fsync for many, and one failure for all of them."""
        with self._counted():
            self._waiting.append(record)
            self._write_of_all = self._write_of_all or asyncio.ensure_future(self._write())
            await asyncio.shield(self._write_of_all)
        self._bar.update(1)

    async def _write(self) -> None:
        async with self._writing:
            records, self._waiting, self._write_of_all = self._waiting, [], None
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
