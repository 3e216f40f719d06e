import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from toolforge.errors import InputError, run

ROOT = Path(__file__).parent.parent


def raising(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (InputError("a.jsonl:3: two\nlines"), "error: a.jsonl:3: two lines"),
        (PermissionError(13, "Permission denied", "out.jsonl"), "error: Permission denied: out.jsonl"),
        (OSError(28, "No space left on device"), "error: No space left on device"),
    ],
)
def test_what_a_user_can_set_right_is_one_line_and_exit_one(error, said):
    with pytest.raises(SystemExit) as left:
        run(raising(error))
    assert left.value.code == said


def test_a_defect_keeps_its_traceback_and_an_interrupt_is_130():
    with pytest.raises(KeyError):
        run(raising(KeyError("x")))
    with pytest.raises(SystemExit) as left:
        run(raising(KeyboardInterrupt()))
    assert left.value.code == 130


def test_a_target_that_is_full_is_said_and_the_old_file_stays_whole(tmp_path):
    """A limit on the size of files stands for the full disk: the write itself fails."""
    seeds, queries = tmp_path / "seeds.jsonl", tmp_path / "queries.jsonl"
    seeds.write_text("old\n")
    data = [ROOT / "data" / name for name in ("tools.json", "templates.yaml", "slots", "unlabelled.txt")]
    done = subprocess.run(
        [sys.executable, "-m", "toolforge.stages.templates", *data, seeds, queries],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "error: File too large\n"
    assert seeds.read_text() == "old\n"
    assert [path.name for path in tmp_path.iterdir()] == ["seeds.jsonl"]


@pytest.fixture
def bare(tmp_path):
    """A folder with the Makefile and a PATH of our own: what the set-up says before it starts."""
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / name).touch()
    (tmp_path / "bin").mkdir()
    for name in ("sh", "git", "make", "touch"):
        (tmp_path / "bin" / name).symlink_to(
            f"/usr/bin/{name}" if Path(f"/usr/bin/{name}").exists() else f"/bin/{name}"
        )
    return tmp_path


@pytest.mark.parametrize(
    ("python", "said"),
    [
        ("exec " + sys.executable + ' "$@"', "error: a C++ compiler is needed"),
        ("exit 1", "error: Python 3.11 or newer is needed as 'python3'"),
    ],
)
def test_make_says_in_one_line_what_is_missing(bare, python, said):
    stub = bare / "bin" / "python3"
    stub.write_text(f"#!/bin/sh\n{python}\n")
    stub.chmod(0o755)
    done = subprocess.run(
        ["/usr/bin/make", "repro"],
        cwd=bare,
        env={"PATH": str(bare / "bin")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith(said)
