# Every target makes .venv itself, from the pinned lock file.
PYTHON ?= python3
READY := .venv/ready
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: repro test check report ablations bench bench-gpu bench-teacher bench-router

## From nothing to a trained and measured router
repro: $(READY)
	dvc repro
	python -m toolforge.summary metrics models/adapter models/router

## The tests, the slow ones included, two files at a time
test: $(READY)
	pytest -n 2 --dist loadfile --no-loadscope-reorder

## What the last run gave, as a page to read; and the picture and figures of it in README and docs/
report: $(READY)
	python -m toolforge.report metrics data report.html docs/accuracy.svg
	python -m toolforge.figures metrics README.md docs/export.md

## Format, lint, types, and who imports whom
check: $(READY)
	ruff format --check src tests benchmarks
	ruff check src tests benchmarks
	mypy
	lint-imports

## The ablations of params.yaml that are not there yet, as DVC experiments of this commit, and their table
ablations: $(READY)
	python -m toolforge.ablations metrics/train.json metrics/eval.json data/predictions.jsonl data/hard_predictions.jsonl metrics/ablations.csv

## Training speed against plain TRL, in one run
bench: $(READY)
	LD_PRELOAD=$$(python -m toolforge.mimalloc) MIMALLOC_PURGE_DELAY=-1 \
	python benchmarks/train_speed.py data/split/train.jsonl metrics/train_speed.json

## The 7B shapes with random weights, against plain TRL, where there is a GPU
bench-gpu: $(READY)
	python benchmarks/gpu.py data/split/train.jsonl metrics/gpu_speed.json

## The teacher's labels a second, its memory, and the load of a million stored labels
bench-teacher: $(READY)
	python benchmarks/teacher.py metrics/teacher_speed.json

## The exported router against plain llama-cpp-python and the untuned base; 10,000 hostile queries
bench-router: $(READY)
	python benchmarks/router.py models/router data/split/val.jsonl metrics/router_speed.json
	python benchmarks/fuzz_router.py models/router 10000

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "error: Python 3.11 or newer is needed as '$(PYTHON)'; install it, or run make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@command -v git >/dev/null || { echo "error: git is needed; install it (Debian: apt-get install git)" >&2; exit 1; }
	@command -v c++ >/dev/null || command -v g++ >/dev/null || { echo "error: a C++ compiler is needed for llama-cpp-python; install one (Debian: apt-get install build-essential)" >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "error: '$(PYTHON) -m venv' failed; install it (Debian: apt-get install python3-venv)" >&2; exit 1; }
	.venv/bin/pip install --quiet --disable-pip-version-check -r requirements.lock
	.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)
