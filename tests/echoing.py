"""A router whose answers are known, in a server process of its own: `python echoing.py '{"queue": 2}'`.

All but the decoder is the real thing.
"""

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from toolforge.calibration import Calibration
from toolforge.decoding import Answer
from toolforge.errors import InputError
from toolforge.router import Router, RouterSettings
from toolforge.tools import load_tools

ROOT = Path(__file__).parent.parent
TOO_LONG = "the query has 2000 tokens; at most 1000 can be answered"


class Echo:
    """Answers weather(location=query). "A and B" calls it twice, "hi ..." calls nothing, "wait S ..." takes S seconds."""

    def answer(self, query):
        if query == "defect":
            raise RuntimeError
        if query == "too long":
            raise InputError(TOO_LONG)
        if query.startswith("wait "):
            time.sleep(float(query.split()[1]))
        places = [] if query.startswith("hi") else query.split(" and ")
        calls = [{"name": "weather", "arguments": {"location": place}} for place in places]
        return Answer(json.dumps(calls, ensure_ascii=False), 0.75)


def echo_router():
    settings = RouterSettings(
        name="echo", before="", after="", stop="", copied=(), calibration=Calibration(), threshold=None
    )
    return Router(Echo(), load_tools(ROOT / "data" / "tools.json"), settings)


@contextmanager
def serving(*command):
    """Run a server's command; yield its process and its address, and end it."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        lines = []
        while " is served at " not in (line := process.stderr.readline()):
            assert process.poll() is None, lines
            lines.append(line)
        yield process, line.split()[-1]
    finally:
        process.kill()
        process.communicate()


def echo_server(**settings):
    return serving(sys.executable, __file__, json.dumps(settings))


if __name__ == "__main__":
    # Imported here: the tests' own process needs none of it.
    from toolforge import server

    server.serve(echo_router(), "127.0.0.1", 0, server.Settings(**json.loads(sys.argv[1])))
