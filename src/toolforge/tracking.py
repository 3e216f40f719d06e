"""Weights & Biases: each run's curves and scores, beside DVC's. The only importer of wandb."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Literal

import wandb

from toolforge.params import Params

PROJECT = "toolforge"

# Seconds that a stage waits at most: for the server to take the run, and to take its last values.
START, END = 20.0, 10.0


class TrackingParams(Params):
    """`auto` is online where wandb has a key, and offline elsewhere; the variable WANDB_MODE decides for it."""

    wandb: Literal["auto", "online", "offline", "disabled"] = "disabled"


def reason(error: Exception) -> str:
    """What it says, or what it is where it says nothing."""
    return str(error) or type(error).__name__


def say(line: str) -> None:
    """One line on stderr, whatever line breaks stand in it."""
    print(f"tracking: {' '.join(line.split())}", file=sys.stderr)


@contextmanager
def run(job: str, params: TrackingParams, config: Mapping[str, Any]) -> Iterator[wandb.Run | None]:
    """A run of `job` in the experiment's group, open while the block is; None where nothing is tracked.

    A run that cannot be online is offline. No failure of wandb's is one of the block's: each is said in a line.
    """
    opened = _start(job, params, config)
    exit_code = 1
    try:
        yield opened
        exit_code = 0
    finally:
        if opened:
            _finish(opened, exit_code)


def record(job: str, params: TrackingParams, config: Mapping[str, Any], scores: Mapping[str, Any]) -> None:
    """A run that holds these scores alone, each named by its path: `test/by_class/weather/tool_accuracy`."""
    with run(job, params, config) as opened:
        if opened:
            try:
                opened.log(_flat(scores))
            except Exception as error:
                say(f"the scores are not logged: {reason(error)}")


def _flat(scores: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in scores.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}/{key}": item for key, item in _flat(value).items()}
        else:
            flat[name] = value
    return flat


def _start(job: str, params: TrackingParams, config: Mapping[str, Any]) -> wandb.Run | None:
    if params.wandb == "disabled":
        return None
    # wandb and the trainer's callback read these themselves: no crash report, gradient or weight leaves the machine.
    os.environ.update(WANDB_ERROR_REPORTING="false", WANDB_WATCH="false", WANDB_LOG_MODEL="false")
    settings = wandb.Settings(
        silent=True,
        console="off",
        disable_code=True,
        disable_git=True,
        save_code=False,
        x_save_requirements=False,
        init_timeout=START,
        finish_timeout=END,
        finish_timeout_raises=True,
    )
    if params.wandb != "auto":
        settings.mode = params.wandb
    try:
        if wandb.setup(settings).settings.mode == "disabled":
            return None
        return _open(job, params, config)
    except Exception as error:
        say(f"nothing is logged: {reason(error)}")
        return None


def _open(job: str, params: TrackingParams, config: Mapping[str, Any]) -> wandb.Run:
    group = os.environ.get("DVC_EXP_NAME", "repro")

    def init(mode: Literal["online", "offline"]) -> wandb.Run:
        return wandb.init(
            project=PROJECT, group=group, job_type=job, name=f"{group}-{job}", config=dict(config), mode=mode
        )

    why = "no key; run wandb login" if params.wandb == "online" else ""
    try:
        # Asked before there is a run: a folder of a run that never came to be would stay in ./wandb.
        if wandb.login(prompt=False):
            opened = init("online")
            say(str(opened.url))
            return opened
    except Exception as error:
        why = f"not online: {reason(error)}"
    opened = init("offline")
    say(f"offline in {os.path.relpath(opened.settings.sync_dir)}{why and f' ({why})'}")
    return opened


def _finish(opened: wandb.Run, exit_code: int) -> None:
    try:
        opened.finish(exit_code)
    except Exception as error:
        say(f"not all of the run is logged ({reason(error)}); wandb sync {os.path.relpath(opened.settings.sync_dir)}")
    # Its process ends here; where it has died, its own hook at exit would fail with a traceback.
    with suppress(Exception, SystemExit):
        wandb.teardown()
