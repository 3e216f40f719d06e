"""The stage against a service of the tests' own on loopback, through the real google-genai and openai clients."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from teachers.service import Service
from toolforge.records import Query, line
from toolforge.stages import teacher
from toolforge.stages.teacher import Paths, TeacherParams

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def service():
    service = Service()
    yield service
    service.close()


class Stage:
    """The stage's files in a folder of the test's own, and ways to run it on them."""

    def __init__(self, folder, service, monkeypatch):
        self.folder, self.service, self.monkeypatch = folder, service, monkeypatch
        self.store, self.out, self.metrics = folder / "store.jsonl", folder / "out.jsonl", folder / "metrics.json"
        self.labels = folder / "LABELS.md"
        self.labels.write_text("the guide")
        self.queries(4)
        self.keys("secret-key-0")
        for name, value in {
            "GOOGLE_GEMINI_BASE_URL": service.url,
            "OPENAI_BASE_URL": f"{service.url}/v1",
            "OPENAI_API_KEY": "secret-openai",
            "NO_PROXY": "127.0.0.1",
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(folder)

    def keys(self, *keys):
        self.monkeypatch.setenv("GEMINI_API_KEYS", ",".join(keys))

    def queries(self, *queries):
        texts = [f"query {n}" for n in range(queries[0])] if isinstance(queries[0], int) else queries
        rows = [Query(id=f"q{n}", query=text, group=f"g{n}") for n, text in enumerate(texts)]
        (self.folder / "queries.jsonl").write_text("".join(map(line, rows)))

    def paths(self, **more):
        return Paths(
            self.folder / "queries.jsonl",
            self.store,
            self.out,
            ROOT / "data" / "tools.json",
            self.labels,
            self.metrics,
            **more,
        )

    def run(self, provider="gemini", models=("m",), **params):
        """Run in this process; the labels by id."""
        teacher.label(self.paths(), TeacherParams(provider=provider, models=list(models), **params))
        return self.labelled()

    def labelled(self):
        rows = [json.loads(row) for row in self.out.read_text().split("\n") if row]
        assert len(rows) == len({row["id"] for row in rows})
        return {row["id"]: row["calls"] for row in rows}

    def records(self):
        return [json.loads(row) for row in self.store.read_text().split("\n") if row]

    def state(self):
        return json.loads((self.folder / "store.slots.json").read_text())

    def start(self, provider="gemini", models=("m",), path="", **params):
        """The command itself, as a process of its own."""
        (self.folder / "params.yaml").write_text(
            yaml.safe_dump({"teacher": {"provider": provider, "models": list(models), **params}})
        )
        return subprocess.Popen(
            [
                sys.executable, "-m", "toolforge.stages.teacher", "queries.jsonl", "store.jsonl", "out.jsonl",
                "--tools", ROOT / "data" / "tools.json", "--labels", "LABELS.md",
            ],
            cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{path}"},
        )  # fmt: skip


@pytest.fixture
def stage(tmp_path, service, monkeypatch):
    return Stage(tmp_path, service, monkeypatch)
