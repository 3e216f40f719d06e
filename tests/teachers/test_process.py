"""The command as a process: killed, interrupted, run twice at once."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
import yaml

from teachers.conftest import ROOT
from teachers.service import DAY, HANG, TEXT, answered, calling, spent, suspended, violation
from toolforge.teachers.keys import Key, gemini_keys, redact

KEYS = [f"secret-key-{n}" for n in range(5)]
MODELS = ["m1", "m2", "m3"]
DEAD = KEYS[4]


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments_no_label_is_lost_doubled_or_invented(stage, service, kills):
    """12 slots with small quotas beside a dead key, 120 queries, kill -9."""
    chance = random.Random(kills)
    stage.queries(*(f"weather in town {n}" for n in range(120)))
    stage.keys(*KEYS)
    left = {(key, model): chance.choice((4, 8, 60)) for key in KEYS[:4] for model in MODELS} | {(KEYS[0], "m1"): 500}
    moments = {}

    def script(key, model, query, n):
        if key == DEAD:
            return suspended(key)
        if not left[key, model]:
            moments.setdefault((key, model), []).append(time.monotonic())
            return spent(violation(DAY, 5), delay="22s")
        left[key, model] -= 1
        return answered(calling("weather", location=query))

    service.script, service.delay = script, 0.1
    said, before, killed, finished = "", b"", [], False
    while not finished:
        target = sum(service.given.values()) + chance.randint(0, 180 // kills)
        with stage.start(models=MODELS, in_flight=1) as process:
            if len(killed) < kills:
                while sum(service.given.values()) < target and process.poll() is None:
                    time.sleep(0.002)
                time.sleep(chance.uniform(0, 0.1))
                process.kill()
                killed.append(time.monotonic())
            said += "".join(process.communicate())
            finished = process.returncode == 0
        now = stage.store.read_bytes()
        assert now.startswith(before[: before.rfind(b"\n") + 1])
        before = now
    assert len(killed) == kills
    assert {id: calls[0]["arguments"]["location"] for id, calls in stage.labelled().items()} == {
        f"q{n}": f"weather in town {n}" for n in range(120)
    }
    assert Counter(record["query"] for record in stage.records()).most_common(1)[0][1] == 1
    workers = 12
    assert sum(service.given.values()) <= 120 + kills * workers
    # The dead key's three slots are no workers of these, but it may be asked while all of them are.
    assert service.most <= workers + 1
    grace = [(at - 0.3, at + 0.3) for at in killed]
    for times in (*moments.values(), service.refused[DEAD]):
        again = [at for at in times[1:] if not any(start < times[0] < end for start, end in grace)]
        assert again == []
    said += "".join(path.read_text() for path in stage.folder.iterdir())
    assert not any(key in said for key in KEYS)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_for_no_hanging_request_and_what_was_answered_is_stored(stage, service, number):
    stage.queries(400)
    service.delay = 0.5
    service.script = lambda key, model, query, n: HANG if query == "query 3" else TEXT
    with stage.start(in_flight=8) as process:
        while sum(service.given.values()) < 20:
            time.sleep(0.01)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip().endswith("run again to resume\ninterrupted")
    assert "Traceback" not in err
    assert len(stage.records()) == sum(service.given.values())


def test_an_interrupt_waits_for_no_look_up_of_a_name(stage, monkeypatch):
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://a-name-that-hangs:1")
    (stage.folder / "sitecustomize.py").write_text(
        "import pathlib, socket, time\nwas = socket.getaddrinfo\n"
        "def hang(host, *more, **options):\n    if 'hangs' not in str(host): return was(host, *more, **options)\n"
        "    pathlib.Path('asked').touch(); time.sleep(3600)\nsocket.getaddrinfo = hang\n"
    )
    with stage.start(path=stage.folder) as process:
        while not (stage.folder / "asked").exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130


def test_two_runs_at_once_do_no_harm(stage, service):
    stage.queries(60)
    service.delay = 0.1
    with stage.start() as first:
        while not service.requests:
            time.sleep(0.01)
        with stage.start() as second:
            _, err = second.communicate()
        assert second.returncode == 1
        assert err.endswith("store.jsonl: another run writes to this store; wait for it, or stop it\n")
        assert first.wait() == 0
    assert len(stage.labelled()) == len(stage.records()) == 60
    assert service.count() == 60


def test_a_full_disk_ends_the_run_with_one_line_and_the_next_goes_on(stage, service):
    """A limit on the size of files stands for the full disk."""
    stage.queries(60)
    with stage.start() as process:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (3000, 3000))
        _, err = process.communicate()
    assert process.returncode == 1
    assert err.endswith("error: File too large: store.jsonl\n")
    assert "Traceback" not in err
    stored = len(stage.records())
    assert 5 < stored < 60
    assert len(stage.run()) == 60
    # Those under way when the disk was full: none goes on where its own answer was not written.
    assert service.count() <= 60 + 3


@pytest.mark.parametrize("lacking", ["params.yaml", "data/tools.json", "data/LABELS.md", "queries.jsonl", None])
def test_a_folder_with_params_and_data_is_enough_and_what_lacks_is_said_in_one_line(stage, service, lacking):
    files = {
        "params.yaml": yaml.safe_dump({"teacher": {"provider": "gemini"}}),
        "data/tools.json": (ROOT / "data" / "tools.json").read_text(),
        "data/LABELS.md": "the guide",
    }
    (stage.folder / "data").mkdir()
    for name, text in files.items():
        (stage.folder / name).write_text(text)
    if lacking:
        (stage.folder / lacking).unlink()
    done = subprocess.run(
        [sys.executable, "-m", "toolforge.stages.teacher", "queries.jsonl", "store.jsonl", "out.jsonl"],
        cwd=stage.folder, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    if lacking:
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: {lacking}: no such file")
        assert done.stderr.count("\n") == 1
        assert service.count() == 0
    else:
        assert done.returncode == 0
        assert len(stage.labelled()) == 4


def test_what_a_run_shows(stage, service):
    stage.keys(*KEYS[:2])
    service.script = lambda key, model, query, n: suspended(key) if key == KEYS[0] else TEXT
    with stage.start() as process:
        out, err = process.communicate()
    assert process.returncode == 0
    assert "4/4" in err
    assert "1 free, 0 resting, 1 dead" in err
    assert "label/s" in err
    assert "4 of 4 queries labelled" in out
    assert "dead: 403 Permission denied" in " ".join(out.replace("│", " ").split())


def test_keys_of_a_dotenv_file_are_read_and_the_environment_stands_above_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.delenv("GEMINI_API_KEYS", raising=False)
    (tmp_path / ".env").write_text("GEMINI_API_KEYS=\"mine=abc==\nAQ.x-y_z==\n\n , mine = def ,'quoted',abc==,\"\n")
    keys = gemini_keys()
    assert [(key.project if key.project != key.id else "", key.secret) for key in keys] == [
        ("mine", "abc=="), ("", "AQ.x-y_z=="), ("mine", "def"), ("", "quoted"),
    ]  # fmt: skip
    monkeypatch.setenv("GEMINI_API_KEYS", "other")
    assert [key.secret for key in gemini_keys()] == ["other"]


def test_a_key_is_redacted_however_it_is_quoted():
    key = Key("AQ.se/cret+key=")
    assert redact("a AQ.se/cret+key=\nb AQ.se%2Fcret%2Bkey%3D", [key]) == f"a <key {key.id}> b <key {key.id}>"
    assert "cret" not in repr(key) + str(key)


def test_a_dry_run_prints_requests_tokens_and_cost_and_asks_nothing(stage, service):
    stage.run()
    stage.queries(10)
    asked = service.count()
    section = {
        "provider": "gemini",
        "models": ["m", "n"],
        "mode": "batch",
        "prices": {"m": {"input": 1.0, "output": 2.0}},
    }
    (stage.folder / "params.yaml").write_text(yaml.safe_dump({"teacher": section}))
    done = subprocess.run(
        [
            sys.executable, "-c", "from toolforge.cli import main; main()", "label", "--dry-run", "--queries", "queries.jsonl",
            "--store", "store.jsonl", "--tools", ROOT / "data" / "tools.json", "--labels", "LABELS.md",
        ],
        cwd=stage.folder, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert "requests  6 rows of batch jobs" in done.stdout
    sent = int(done.stdout.split(" sent")[0].split()[-1])
    assert f"cost      {0.5 * (sent + 2 * 180) / 1e6:.2f} USD if m answers all, at the batch price" in done.stdout
    assert "no teacher.prices for n" in done.stdout
    assert service.count() == asked
    assert not stage.out.with_name("data").exists()
    assert json.loads(stage.metrics.read_text())["queries"] == 4
