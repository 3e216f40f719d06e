"""The Gemini Batch API: half the price, answers within a day, in jobs that outlive this process.

A job is in the journal, a file beside the store, before it is handed in, and leaves it when its answers are in the store. So after a kill at any moment
no job is handed in twice: one without a name is looked for at the service by the name that we gave it.
"""

import asyncio
import functools
import itertools
import json
import sys
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import tenacity
from tqdm import tqdm

from toolforge.errors import InputError
from toolforge.records import write_json
from toolforge.teachers.answers import Answer, Fault, Transient
from toolforge.teachers.fates import Bar, note, settle
from toolforge.teachers.gemini import Gemini
from toolforge.teachers.keys import Key, redact
from toolforge.teachers.request import TRIES, Request, Run, record_of
from toolforge.teachers.slot import Slot
from toolforge.teachers.slots import PATIENCE, Ended, Slots
from toolforge.teachers.stopping import until_done_or_signal
from toolforge.teachers.store import Store

# The guide and the catalogue stand in each row, and 20 MB may be sent inline.
ROWS, BYTES, QUERY_BYTES = 1000, 18_000_000, 1000
LONGEST_POLL = 60.0
# Seconds for one request: a job of a thousand rows is some megabytes.
TIMEOUT = 300.0

T = TypeVar("T")


@dataclass
class Job:
    """A job handed in, or about to be. `name` is the service's, "" until it said so; `rows` are the
    queries by the keys that their answers will have in the store; `tries` counts the jobs that its rows were in.
    """

    label: str
    name: str
    project: str
    model: str
    rows: dict[str, str]
    tries: int
    submitted: float


class Batch:
    """One run of batch mode."""

    def __init__(
        self,
        teacher: Gemini,
        slots: Slots,
        store: Store,
        request: Request,
        journal: Path,
        give_up_after: float,
        wait: bool,
    ) -> None:
        """`journal` keeps the jobs. Without `wait` a run that has jobs left to wait for ends after a minute and a half.
        `give_up_after` is how many seconds transient faults may last.
        """
        self._teacher, self._slots, self._store, self._request = teacher, slots, store, request
        self._journal, self._give_up_after, self._wait = journal, give_up_after, wait
        self._run = Run()
        self._jobs = self._load()
        self._bar: Bar = tqdm(disable=True)

    async def label(self, queries: Iterable[str], total: int) -> Run:
        """Hand in what the store lacks, and store what the jobs give; `total` is how many it lacks. Raises KeyboardInterrupt after Ctrl-C or
        SIGTERM; the jobs go on at the service, and the next run collects them.
        """
        self._bar = tqdm(total=total, desc="labels", unit="label", file=sys.stderr, dynamic_ncols=True)
        work = asyncio.create_task(self._all(queries))
        try:
            if await until_done_or_signal([work]):
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
                raise KeyboardInterrupt
            try:
                await work
            except Ended as ended:
                self._run.ended = str(ended)
        finally:
            self._bar.close()
            await self._teacher.close()
        return self._run

    async def _all(self, queries: Iterable[str]) -> None:
        # What is ready first: to collect it takes no slot, and to hand in may end the run.
        for job in [job for job in self._jobs if self._key(job)]:
            await self._collect(job)
        known = {row for job in self._jobs for row in job.rows}
        lacking = (
            query
            for query in dict.fromkeys(queries)
            if known.isdisjoint(self._request.keys(query)) and not self._store.answer(query, self._request.keys)
        )
        size = max(1, min(ROWS, BYTES // (self._teacher.row_bytes + QUERY_BYTES)))
        while rows := list(itertools.islice(lacking, size)):
            await self._hand_in(rows, tries=1)
        start, pause = time.monotonic(), 1.0
        while self._jobs:
            before = len(self._jobs)
            # One whose key is gone ends the run: last.
            for job in sorted(self._jobs, key=lambda job: not self._key(job)):
                await self._collect(job)
            if not self._jobs:
                return
            self._bar.set_postfix_str(f"{len(self._jobs)} jobs at the service")
            if len(self._jobs) == before and not self._wait and time.monotonic() - start > PATIENCE:
                raise Ended(
                    f"{len(self._jobs)} batch jobs are still running; run again to collect them, or set teacher.wait: true"
                )
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, LONGEST_POLL)

    def _key(self, job: Job) -> Key | None:
        return next((key for key in self._slots.keys if key.project == job.project and not key.dead), None)

    async def _hand_in(self, queries: list[str], tries: int) -> None:
        """Put queries into a job of the next free slot, journal first."""
        while True:
            slot, key = await self._slots.free()
            rows = {self._request.key(query, slot.model): query for query in queries}
            job = Job(f"toolforge-{uuid.uuid4().hex}", "", key.project, slot.model, rows, tries, time.time())
            self._jobs.append(job)
            self._save()
            try:
                with self._slots.taken(slot, key):
                    job.name = await self._patiently(functools.partial(self._submit, job, key))
                self._slots.answered(slot, key)
                self._save()
                return
            except Fault as fault:
                # Refused, so that it is not at the service.
                self._jobs.remove(job)
                self._save()
                self._settle(fault, slot, key)

    async def _submit(self, job: Job, key: Key) -> str:
        try:
            return await _in_time(self._teacher.submit(key.secret, job.model, job.label, job.rows))
        except Transient:
            # It may have got there all the same.
            try:
                name = await self._find(job, key)
            except Fault as fault:
                said = redact(str(fault), self._slots.keys)
                raise Ended(f"whether batch job {job.label} got there is not known ({said}); run again") from None
            if name:
                return name
            raise

    async def _find(self, job: Job, key: Key) -> str | None:
        async def find() -> str | None:
            return await _in_time(self._teacher.find(key.secret, job.label))

        return await self._patiently(find)

    async def _fetch(self, job: Job, key: Key) -> dict[str, Answer | Fault] | None:
        return await _in_time(self._teacher.fetch(key.secret, job.name, job.model, list(job.rows)))

    async def _collect(self, job: Job) -> None:
        """Store what a job gave, and hand in again the rows that it gave no answer for."""
        key = self._key(job)
        slot = next((slot for slot in self._slots.all if key in slot.keys), None)
        if not key or not slot:
            raise Ended(
                f"batch job {job.name or job.label} belongs to project {job.project}, of which no key is set; set one, or take the job out of {self._journal}"
            )
        try:
            if not job.name:
                job.name = await self._find(job, key) or ""
                if not job.name:
                    self._jobs.remove(job)
                    await self._hand_in(list(job.rows.values()), job.tries)
                    return
                self._save()
            rows = await self._patiently(functools.partial(self._fetch, job, key))
        except Fault as fault:
            self._settle(fault, slot, key)
            return
        if rows is None:
            return
        again, why, records = [], Counter[str](), []
        for row, query in job.rows.items():
            answer = rows.get(row, Transient("a row that the job lost"))
            if isinstance(answer, Fault) or (answer.calls is None and not answer.final and job.tries < TRIES):
                again.append(query)
                said = str(answer) if isinstance(answer, Fault) else answer.reason
                why[redact(said, self._slots.keys)] += 1
                continue
            records.append(
                record_of(
                    row, query, job.model, answer, self._slots.keys, prompt_tokens=answer.prompt_tokens,
                    tokens=answer.tokens, seconds=time.time() - job.submitted, batch=True,
                )
            )  # fmt: skip
        self._store.append(records)
        self._bar.update(len(records))
        self._jobs.remove(job)
        if again and job.tries < TRIES:
            note(self._bar, f"{len(again)} rows of {job.name} are asked again: {'; '.join(why)}")
            await self._hand_in(again, job.tries + 1)
        else:
            self._run.unanswered += why
        self._save()

    async def _patiently(self, request: Callable[[], Awaitable[T]]) -> T:
        """The request's answer, asked again after transient faults. Raises Ended where they last."""
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(Transient),
            wait=tenacity.wait_exponential_jitter(initial=0.5, max=30, jitter=0.5),
            stop=tenacity.stop_after_delay(self._give_up_after),
            reraise=True,
        )
        try:
            return await retrying(request)
        except Transient as fault:
            raise Ended(
                f"the service does not answer ({redact(str(fault), self._slots.keys)}); run again to resume"
            ) from None

    def _settle(self, fault: Fault, slot: Slot, key: Key) -> None:
        settle(fault, slot, key, self._slots, lambda message: note(self._bar, message))

    def _save(self) -> None:
        write_json(self._journal, [asdict(job) for job in self._jobs])

    def _load(self) -> list[Job]:
        if not self._journal.exists():
            return []
        try:
            return [Job(**job) for job in json.loads(self._journal.read_text(encoding="utf-8"))]
        except (TypeError, ValueError):
            raise InputError(f"{self._journal}: not the journal of batch jobs") from None


async def _in_time(request: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(TIMEOUT):
            return await request
    except TimeoutError:
        raise Transient(f"no answer within {TIMEOUT:g} s") from None
