"""What a run holds is read back from the file that wandb writes; servers are of the test's own, on the loopback."""

import json
import os
import random
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy
import psutil
import pytest
import wandb
from wandb.proto.wandb_internal_pb2 import Record

from toolforge import tracking
from toolforge.tracking import TrackingParams

KEY = "0123456789abcdef" * 3
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def nothing_is_known(tmp_path, monkeypatch):
    """A folder of the test's own, no key, and no server."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("WANDB_")] + ["DVC_EXP_NAME"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", NOWHERE)
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "1")
    yield
    wandb.teardown()


def records(folder):
    """Those of the one run in ./wandb. Its file is a LevelDB log behind a header: blocks of 32 KiB that hold records in parts."""
    (file,) = folder.glob("wandb/*run-*/run-*.wandb")
    content, place, whole = file.read_bytes(), 7, b""
    while place < len(content):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in {1, 4}:
            yield Record.FromString(whole)
            whole = b""


def read(folder):
    """The run's record, its config, its rows of values and its exit code."""
    found = list(records(folder))
    (run,) = [record.run for record in found if record.WhichOneof("record_type") == "run"]
    items = [*run.config.update, *(item for record in found for item in record.config.update)]
    config = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
    rows = [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in found
        if record.WhichOneof("record_type") == "history"
    ]
    (code,) = [record.exit.exit_code for record in found if record.WhichOneof("record_type") == "exit"]
    return run, config, rows, code


class Server(ThreadingHTTPServer):
    """As much of wandb's as takes a run, or refuses every key."""

    def __init__(self, status):
        self.status = status
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=[0.01], daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def close(self):
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = json.loads(body) if self.path == "/graphql" else {"query": ""}
        project = {"id": "p", "name": "toolforge", "entity": {"id": "e", "name": "us"}}
        bucket = {"id": "b", "name": asked.get("variables", {}).get("name"), "config": "{}", "project": project}
        answer = {"viewer": {"id": "v", "entity": "us", "username": "us", "flags": "{}", "teams": {"edges": []}}}
        if "upsertBucket" in asked["query"]:
            answer = {"upsertBucket": {"bucket": bucket, "inserted": True}}
        elif "createRunFiles" in asked["query"]:
            answer = {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": []}}
        text = json.dumps({"data": answer if self.server.status == 200 else None}).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_PUT = do_GET = do_POST

    def log_message(self, *_):
        pass


@pytest.fixture
def server(request):
    served = Server(getattr(request, "param", 200))
    yield served
    served.close()


def lines(capfd):
    said = capfd.readouterr()
    assert said.out == ""
    assert KEY not in said.err
    return said.err.splitlines()


@pytest.mark.parametrize("wanted", ["auto", "offline"])
def test_without_a_key_a_run_is_offline_and_holds_its_group_config_and_scores(tmp_path, monkeypatch, capfd, wanted):
    monkeypatch.setenv("DVC_EXP_NAME", "wider")
    scores = {"test": {"n": 4, "by_class": {"weather": {"tool_accuracy": 0.5}}}, "hard_test": {"call_accuracy": 0.25}}
    tracking.record("eval", TrackingParams(wandb=wanted), {"eval": {"batch_size": 8}}, scores)
    run, config, (row,), code = read(tmp_path)
    assert (run.project, run.run_group, run.job_type, run.display_name) == ("toolforge", "wider", "eval", "wider-eval")
    assert config["eval"] == {"batch_size": 8}
    assert {name: value for name, value in row.items() if not name.startswith("_")} == {
        "test/n": 4,
        "test/by_class/weather/tool_accuracy": 0.5,
        "hard_test/call_accuracy": 0.25,
    }
    assert code == 0
    (line,) = lines(capfd)
    (folder,) = tmp_path.glob("wandb/offline-run-*")
    assert line == f"tracking: offline in wandb/{folder.name}"


@pytest.mark.parametrize("server", [401, None], indirect=True)
def test_online_that_cannot_be_is_offline_and_says_why_in_a_line_without_the_key(tmp_path, monkeypatch, capfd, server):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", server.url if server.status else NOWHERE)
    start = time.monotonic()
    with tracking.run("train", TrackingParams(wandb="auto"), {}) as opened:
        opened.log({"loss": 1.0})
    assert time.monotonic() - start < 10
    (line,) = lines(capfd)
    assert line.startswith("tracking: offline in wandb/offline-run-")
    assert "(not online: Failed to authenticate with http://127.0.0.1:" in line
    run, _, rows, _ = read(tmp_path)
    assert run.run_group == "repro"
    assert [row["loss"] for row in rows] == [1.0]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def test_online_without_a_key_is_offline(tmp_path, capfd):
    with tracking.run("train", TrackingParams(wandb="online"), {}):
        pass
    (line,) = lines(capfd)
    assert line.endswith("(no key; run wandb login)")


def test_a_key_of_the_wrong_form_is_said_and_not_shown(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("WANDB_API_KEY", "not a key")
    with tracking.run("train", TrackingParams(wandb="auto"), {}):
        pass
    (line,) = lines(capfd)
    assert "WANDB_API_KEY invalid" in line
    assert "not a key" not in line


def test_a_server_lost_midway_costs_some_seconds_and_no_error(tmp_path, monkeypatch, capfd, server):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setattr(tracking, "END", 1.0)
    with tracking.run("train", TrackingParams(wandb="auto"), {}) as opened:
        server.close()
        opened.log({"loss": 1.0})
        start = time.monotonic()
    assert time.monotonic() - start < 5
    began, ended = lines(capfd)
    assert began == f"tracking: {server.url}/us/toolforge/runs/{opened.id}"
    assert ended.startswith("tracking: not all of the run is logged (Timed out finishing run.); wandb sync wandb/run-")
    assert [row["loss"] for row in read(tmp_path)[2]] == [1.0]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def kill_wandb():
    (core,) = [child for child in psutil.Process().children() if child.name() == "wandb-core"]
    core.kill()
    core.wait()


def test_wandbs_own_death_is_a_line(capfd):
    with tracking.run("train", TrackingParams(wandb="offline"), {}):
        kill_wandb()
    _, line = lines(capfd)
    # Which of wandb's threads notices first varies: one says so, one hears it from the system, and of one only the error's name is left.
    assert re.match(
        r"tracking: not all of the run is logged \((Connection lost|\[Errno \d+\] [\w ]+|[A-Z]\w+)\); wandb sync ", line
    )
    # The next run is none the worse for it.
    tracking.record("eval", TrackingParams(wandb="offline"), {}, {"test": {"n": 1}})
    (line,) = lines(capfd)
    assert line.startswith("tracking: offline in ")


def test_an_error_or_an_interrupt_in_the_block_is_the_blocks_and_ends_the_run(tmp_path):
    with (
        pytest.raises(KeyboardInterrupt),
        tracking.run("train", TrackingParams(wandb="offline"), {}),
    ):
        raise KeyboardInterrupt
    assert read(tmp_path)[3] == 1
    assert wandb.run is None


@pytest.mark.parametrize("mode", [None, "disabled"])
def test_disabled_writes_and_says_nothing(tmp_path, monkeypatch, capfd, mode):
    if mode:
        monkeypatch.setenv("WANDB_MODE", mode)
    with tracking.run("train", TrackingParams(wandb="auto" if mode else "disabled"), {}) as opened:
        assert opened is None
    tracking.record("eval", TrackingParams(), {}, {"test": {"n": 1}})
    assert list(tmp_path.iterdir()) == []
    assert lines(capfd) == []


def test_where_nothing_can_be_written_nothing_is_logged_in_a_line(tmp_path, capfd):
    (tmp_path / "wandb").write_text("a file where the folder would be")
    with tracking.run("train", TrackingParams(wandb="offline"), {}) as opened:
        assert opened is None
    (line,) = lines(capfd)
    assert line.startswith("tracking: nothing is logged: ")


def test_no_random_number_is_drawn():
    before = random.getstate(), numpy.random.get_state()
    with tracking.run("train", TrackingParams(wandb="offline"), {"a": 1}) as opened:
        opened.log({"loss": 1.0})
    after = random.getstate(), numpy.random.get_state()
    assert after[0] == before[0]
    assert str(after[1]) == str(before[1])


@pytest.fixture
def trained(tiny_llama, tokenizer, tmp_path, catalogue):
    """Train a tiny model for four steps, and return its weights and the random states at the end."""
    import torch
    from peft import LoraConfig
    from trl import SFTConfig

    from toolforge.prompt import PromptParams
    from toolforge.records import Example, ToolCall
    from toolforge.stages import train

    calls = [ToolCall(name="weather", arguments={"location": "Oslo"})]
    examples = [
        Example(id=str(n), query=f"weather in Oslo {n}", calls=calls, source="authored", group=str(n)) for n in range(8)
    ]
    rows = train.dataset(examples, [PromptParams(system="Route.", tools="none")] * 8, catalogue)

    def run(name, callbacks):
        config = SFTConfig(
            output_dir=str(tmp_path / name), use_cpu=True, bf16=False, report_to="none", completion_only_loss=True,
            remove_unused_columns=False, max_steps=4, logging_steps=1, eval_strategy="steps", eval_steps=2,
            save_strategy="steps", save_steps=2, load_best_model_at_end=True, metric_for_best_model="eval_loss",
            per_device_train_batch_size=2, learning_rate=1e-2, disable_tqdm=True,
        )  # fmt: skip
        lora = LoraConfig(r=4, lora_dropout=0.1, target_modules=["q_proj"], task_type="CAUSAL_LM")
        made = train.train(tiny_llama(0), tokenizer, rows, rows, lora, config, callbacks)
        weights = {key: value.clone() for key, value in made.model.state_dict().items()}
        return weights, random.getstate(), str(numpy.random.get_state()), torch.get_rng_state(), made.state.log_history

    return run


@pytest.mark.slow
def test_the_trainer_logs_its_losses_and_settings_and_learns_the_same(trained, tmp_path, monkeypatch):
    import torch

    from toolforge.trainer import Tracked

    monkeypatch.setattr("toolforge.stages.train.can_compile", lambda: False)
    plain = trained("plain", [])
    with tracking.run("train", TrackingParams(wandb="offline"), {"lora": {"r": 4}, "prompt": {"system": "Route."}}):
        tracked = trained("tracked", [Tracked()])
    assert all(torch.equal(tracked[0][key], value) for key, value in plain[0].items())
    assert tracked[1:3] == plain[1:3]
    assert torch.equal(tracked[3], plain[3])

    run, config, rows, code = read(tmp_path)
    assert (run.run_group, run.job_type, run.display_name, code) == ("repro", "train", "repro-train", 0)
    assert config["lora"] == {"r": 4}
    assert config["prompt"] == {"system": "Route."}
    assert config["learning_rate"] == 1e-2
    history = tracked[4]
    for logged, kept in (("train/loss", "loss"), ("eval/loss", "eval_loss")):
        losses = {entry["step"]: entry[kept] for entry in history if kept in entry}
        assert losses
        assert {row["train/global_step"]: row[logged] for row in rows if logged in row} == losses
    kinds = {record.WhichOneof("record_type") for record in records(tmp_path)}
    assert "stats" in kinds
    assert not kinds & {"artifact", "output", "output_raw"}


@pytest.mark.slow
def test_a_training_outlives_wandb(trained, monkeypatch, capfd):
    from transformers import TrainerCallback

    from toolforge.trainer import Tracked

    class Killer(TrainerCallback):
        def on_step_begin(self, args, state, control, **_):
            if state.global_step == 1:
                kill_wandb()

    monkeypatch.setattr("toolforge.stages.train.can_compile", lambda: False)
    with tracking.run("train", TrackingParams(wandb="offline"), {}):
        history = trained("killed", [Tracked(), Killer()])[4]
    assert [entry["step"] for entry in history if "loss" in entry] == [1, 2, 3, 4]
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("tracking: ")]
    assert len(said) == 3
    assert said[1] == "tracking: the training goes on, its log does not: Connection lost"
