"""Speed and memory of the teacher stage and its store, in one run.

    python benchmarks/teacher.py metrics/teacher_speed.json

The stage asks a loopback server that answers in 50 ms, with 12 slots (4 keys, 3 models) and no limits; labels a second are counted
from the first request to the last label in the store, beside a bare aiohttp client's answers a second at the same number of requests under
way: the most that this server and machine give. Memory is the peak of the whole process. CPU seconds tell a busy machine from a slow program.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from toolforge.records import Query, ToolCall, line, write_json
from toolforge.stages.teacher import TeacherParams
from toolforge.teachers.store import Record, now, request_key

KEYS, MODELS, DELAY = 4, 3, 0.05
FEW, MANY, STORED = 1_000, 100_000, 1_000_000
REPLY = {
    "candidates": [
        {"content": {"role": "model", "parts": [{"functionCall": {"name": "weather", "args": {"location": "Oslo"}}}]}, "finishReason": "STOP"}
    ],
    "usageMetadata": {"promptTokenCount": 2270, "candidatesTokenCount": 30, "totalTokenCount": 2300},
    "modelVersion": "m",
}  # fmt: skip


class Server:
    """Answers everything in 50 ms, in a thread of its own; notes the first request."""

    def __init__(self) -> None:
        """Return when it listens at `url`."""
        self.first = 0.0
        self._ready = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()
        self._ready.wait()

    async def _serve(self) -> None:
        app = web.Application()
        app.router.add_post("/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._ready.set()
        await asyncio.Event().wait()

    async def _answer(self, request: web.Request) -> web.Response:
        self.first = self.first or time.time()
        await request.read()
        await asyncio.sleep(DELAY)
        return web.json_response(REPLY)


@contextlib.contextmanager
def running(server: Server, queries: int) -> Iterator[tuple[Path, "subprocess.Popen[bytes]"]]:
    """The stage under way on so many queries, in a folder of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        section = {"provider": "gemini", "models": [f"m{n}" for n in range(MODELS)]}
        (folder / "params.yaml").write_text(yaml.safe_dump({"teacher": section}))
        with (folder / "queries.jsonl").open("w") as out:
            for n in range(queries):
                out.write(line(Query(id=f"q{n}", query=f"what is the weather like in town {n}", group=f"g{n}")))
        server.first = 0.0
        with subprocess.Popen(
            [
                sys.executable, "-m", "toolforge.stages.teacher", "queries.jsonl", "store.jsonl", "out.jsonl",
                "--tools", Path("data/tools.json").resolve(), "--labels", Path("data/LABELS.md").resolve(),
            ],
            cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "GOOGLE_GEMINI_BASE_URL": server.url, "NO_PROXY": "127.0.0.1",
                 "GEMINI_API_KEYS": ",".join(f"benchmark-key-{n}" for n in range(KEYS))},
        ) as process:  # fmt: skip
            yield folder, process


def stage(server: Server, queries: int) -> dict[str, float]:
    """Labels a second and the peak memory in MB of the stage's process for so many queries."""
    with running(server, queries) as (folder, process):
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit("the stage failed")
        seconds = (folder / "store.jsonl").stat().st_mtime - server.first
        return {
            "labels_per_second": round(queries / seconds, 1),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
            "peak_mb": round(usage.ru_maxrss / 1024, 1),
        }


def interrupt(server: Server) -> float:
    """Seconds from Ctrl-C in the middle of a run to the end of its process."""
    with running(server, MANY) as (folder, process):
        store = folder / "store.jsonl"
        while not store.exists() or store.stat().st_size < 10_000:
            time.sleep(0.01)
        start = time.perf_counter()
        process.send_signal(signal.SIGINT)
        if process.wait() != 130:
            sys.exit("the stage was not interrupted")
        return round(time.perf_counter() - start, 2)


async def bare(url: str, under_way: int, requests: int) -> float:
    """Answers a second of a client that does nothing with them."""
    left = iter(range(requests))
    body = json.dumps({"tools": Path("data/tools.json").read_text(), "guide": Path("data/LABELS.md").read_text()})

    async def work(session: aiohttp.ClientSession) -> None:
        for _ in left:
            async with session.post(f"{url}/x", data=body) as response:
                await response.json()

    async with aiohttp.ClientSession() as session:
        start = time.perf_counter()
        await asyncio.gather(*(work(session) for _ in range(under_way)))
        return requests / (time.perf_counter() - start)


LOAD = """
import resource, sys, time
from pathlib import Path
from toolforge.teachers.store import Store
start = time.perf_counter()
store = Store(Path(sys.argv[1]))
seconds = time.perf_counter() - start
assert store.label(sys.argv[2])
print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def load() -> dict[str, Any]:
    """Seconds and peak memory of opening a store of a million records."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "store.jsonl"
        call = ToolCall(name="weather", arguments={"location": "Oslo"})
        with path.open("w") as out:
            for n in range(STORED):
                query = f"what is the weather like in town {n}"
                out.write(
                    line(
                        Record(
                            key=request_key(query, "c", "m", "p"), query=query, model="m", calls=[call], time=now(), asked="m",
                            answer='[{"name": "weather", "arguments": {"location": "Oslo"}}]', tokens=2300, prompt_tokens=2270, seconds=0.9,
                        )
                    )
                )  # fmt: skip
        done = subprocess.run([sys.executable, "-c", LOAD, path, query], capture_output=True, text=True, check=True)
        seconds, peak = map(float, done.stdout.split())
        return {
            "records": STORED,
            "file_mb": round(path.stat().st_size / 1e6),
            "seconds": round(seconds, 2),
            "peak_mb": round(peak, 1),
        }


def main(out: Path) -> None:
    """Measure, print and write."""
    server = Server()
    under_way = KEYS * MODELS * TeacherParams(provider="gemini").in_flight
    most = asyncio.run(bare(server.url, under_way, 5000))
    few, many = stage(server, FEW), stage(server, MANY)
    result = {
        "slots": KEYS * MODELS,
        "requests_under_way": under_way,
        "answer_ms": DELAY * 1000,
        "bare_client_answers_per_second": round(most, 1),
        f"labels_{FEW}": few,
        f"labels_{MANY}": many,
        "memory_ratio": round(many["peak_mb"] / few["peak_mb"], 3),
        "seconds_to_stop_after_ctrl_c": interrupt(server),
        "store_load": load(),
    }
    write_json(out, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
