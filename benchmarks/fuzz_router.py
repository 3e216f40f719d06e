"""Hostile queries against a router: each is routed to calls that keep to the catalogue, or refused in one line.

    python benchmarks/fuzz_router.py models/router 10000

Prints how many were routed and refused, and by how many MB the process grew behind the first tenth. Fails with the first query that does neither, and where
the process grew by more than LEAK.
"""

import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from toolforge import Router
from toolforge.errors import InputError

# MB. llguidance keeps the lexer states that it has met: that levels off.
LEAK = 50

WORDS = "weather in Oslo and 20 miles to km translate good night into French who was Marie Curie define 15% of 240 define".split()  # noqa: SIM905
SCRIPTS = "погода в Осло 東京の天気は? ما هو الطقس في القاهرة מזג האוויר दिल्ली का मौसम 서울 날씨 สภาพอากาศ Ωμέγα ÅÄÖ ñ ß".split()  # noqa: SIM905
EMOJI = ["🌧️", "👩‍👩‍👧‍👦", "🇳🇴", "\u200d", "\ufe0f", "e\u0301" * 3, "\u202e", "\ufeff", "\U0010ffff", "Z̸̡̢͎͐a̶̺͝l̵̪̂g̷̻̊o̴̧͝"]
TEMPLATE = [
    "<|im_end|>",
    "<|im_start|>",
    "<|endoftext|>",
    "<|im_start|>assistant\n",
    "[INST]",
    "</s>",
    "<|im_end|>\n<|im_start|>system\n",
    "<tool_call>",
]
JSON = [
    '[{"name": "weather", "arguments": {"location": "',
    '"}}]',
    '", "x": "',
    "[[[[[[",
    "}}}}]]",
    "null",
    "\\u0000",
    '{"a": 1e999}',
    "\\ud800",
    "\\",
    '\\"',
    '"""',
    "'",
    "```json",
]
CONTROL = [chr(code) for code in (*range(32), 0x7F, 0x85, 0xA0, 0x2028, 0x2029)]
SURROGATES = ["\ud800", "\udfff", "\udc00\ud800", "\ud83d"]


def query(chance: random.Random) -> str:
    """One hostile text."""

    def some(texts: list[str], low: int, high: int, between: str = " ") -> str:
        return between.join(chance.choices(texts, k=chance.randint(low, high)))

    everything = WORDS + SCRIPTS + EMOJI + TEMPLATE + JSON + CONTROL
    kinds: list[tuple[int, Callable[[], str]]] = [
        (15, lambda: some(WORDS, 1, 12)),
        (12, lambda: some(SCRIPTS, 1, 10)),
        (10, lambda: some(WORDS + EMOJI, 1, 10, "")),
        (15, lambda: some(WORDS + TEMPLATE, 2, 10)),
        (15, lambda: some(WORDS + JSON, 2, 10, chance.choice(["", " "]))),
        (10, lambda: some(WORDS + CONTROL, 1, 20, "")),
        (8, lambda: some(everything, 1, 30, "")),
        (6, lambda: "".join(chr(chance.choice([*range(0xD800), *range(0xE000, 0x110000)])) for _ in range(chance.randint(1, 60)))),
        (4, lambda: some(WORDS + SURROGATES, 2, 6, chance.choice(["", " "]))),
        (2, lambda: some([" ", "\t", "\n", "\u2003"], 0, 5, "")),
        (2, lambda: chance.choice(["a", "7", "[", "é", "weather ", "🌧️", "\x00"]) * chance.randint(100, 1500)),
        (1, lambda: some(everything, 1, 30) * 5000),
    ]  # fmt: skip
    weights, makers = zip(*kinds, strict=True)
    return chance.choices(makers, weights)[0]()[:100_000]


def resident() -> float:
    """The process's memory in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def main(folder: Path, count: int) -> None:
    """Ask, check and print."""
    router, chance = Router.load(folder), random.Random(7)
    result = {"queries": count, "routed": 0, "with_calls": 0, "refused": 0}
    for number in tqdm(range(count), disable=not sys.stderr.isatty()):
        if number == count // 10:
            before = resident()
        text = query(chance)
        try:
            routing = router.route(text)
        except InputError as error:
            result["refused"] += 1
            if "\n" in str(error) or len(str(error)) > 300:
                sys.exit(f"query {number} is refused in more than a line: {error}")
            # A grammar cannot tell 1e999, which is JSON and no number.
            if "breaks the catalogue" in str(error) and "1e999" not in text:
                sys.exit(f"query {number} {text[:500]!r}: {error}")
            continue
        except Exception as error:
            sys.exit(f"query {number} {text[:500]!r}: {error!r}")
        result["routed"] += 1
        result["with_calls"] += bool(routing.calls)
        fault = router.catalogue.fault(routing.calls)
        if fault or not 0 <= routing.confidence <= 1:
            sys.exit(f"query {number} {text[:500]!r}: {fault or routing.confidence}")
    grown = round(resident() - before, 1)
    print(json.dumps(result | {"grown_mb": grown}, indent=2))
    if grown > LEAK:
        sys.exit(f"the process grew by {grown} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
