"""The papers say what the metrics say, in the forms that the hub and Ollama read."""

import ast
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from toolforge.card import Subject, card, modelfile
from toolforge.prompt import PromptParams
from toolforge.records import Example, ToolCall

METRICS = Path(__file__).parent.parent / "metrics"
ROUTE = PromptParams(system="Route.", tools="none")
SHOWN = [
    Example(id="a", query='rain in "Oslo"? $HOME', calls=[ToolCall(name="weather", arguments={"location": "Oslo"})], source="authored", group="a"),
    Example(id="b", query="what ``` means", calls=[], source="authored", group="b"),
]  # fmt: skip
SUBJECT = Subject(
    "toolforge-tiny",
    "HuggingFaceTB/SmolLM2-135M-Instruct",
    "apache-2.0",
    ROUTE,
    96,
    "Written by hand, under MIT.",
    SHOWN,
)
HALF = {"n": 400, "agreement": 0.995, "agreement_low": 0.982, "agreement_high": 0.999}
EXPORT = {
    "n": 400,
    "quantization": "Q8_0",
    "megabytes": 137.5,
    "agreement": {"exported": HALF},
    "accuracy": {
        form: {"n": 400, "call_accuracy": value, "call_accuracy_low": value - 0.03, "call_accuracy_high": value + 0.03}
        for form, value in (("trained", 0.9), ("exported", 0.8975))
    },
    "calibration": {"ece": 0.021, "precision": 0.99, "threshold": 0.9712, "coverage": 0.7525},
}


def documents():
    return [json.loads((METRICS / f"{name}.json").read_text()) for name in ("data", "train", "eval")]


@pytest.fixture
def text():
    return card(SUBJECT, *documents(), EXPORT)


def test_the_hub_reads_the_header(text):
    header = ModelCard(text).data
    assert (header.license, header.base_model, header.language) == ("apache-2.0", SUBJECT.base_model, "en")
    assert header.pipeline_tag == "text-generation"
    assert "tool-calling" in header.tags
    scores = documents()[2]
    found = {(result.dataset_split, result.metric_name): result.metric_value for result in header.eval_results}
    assert found[("test", "call_accuracy")] == scores["call_accuracy"]
    assert found[("hard_test", "tool_accuracy")] == scores["hard_test"]["tool_accuracy"]
    assert yaml.safe_load(text.split("---")[1])["model-index"][0]["name"] == SUBJECT.name


def test_the_figures_are_the_metrics_with_their_intervals(text):
    scores = documents()[2]
    for name, part in [("**test**", scores), *scores["by_class"].items(), *scores["hard_test"]["by_suite"].items()]:
        low, high = part["call_accuracy_low"], part["call_accuracy_high"]
        (row,) = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
        assert row.endswith(f"{part['call_accuracy']:.1%} [{low:.1%}, {high:.1%}] |")
    assert "99.5% [98.2%, 99.9%] of its answers are the adapter's" in text
    assert "From a confidence of 0.9712 on, 99% of the validation answers are right; that is 75.2% of them" in text


def test_no_threshold_is_promised_where_there_is_none():
    sure = {**EXPORT["calibration"], "threshold": None, "coverage": 0.0}
    text = card(SUBJECT, *documents(), {**EXPORT, "calibration": sure})
    assert "No confidence has 99% precision" in text
    assert "From a confidence" not in text


def test_a_label_of_a_teacher_api_is_never_denied():
    data, train, scores = documents()
    assert "No label comes from Gemini" in card(SUBJECT, data, train, scores, EXPORT)
    data["train"]["by_source"]["gemini-3.5-flash"] = 100
    text = card(SUBJECT, data, train, scores, EXPORT)
    assert "`gemini-3.5-flash`, 100 rows: labelled by the model of that name" in text
    assert "No label comes from Gemini" not in text


def test_what_is_shown_are_the_queries_given(text):
    assert f'{SHOWN[0].query}   [{{"name": "weather", "arguments": {{"location": "Oslo"}}}}]' in text
    assert f"{SHOWN[1].query:{len(SHOWN[0].query)}}   []" in text
    blocks = dict(re.findall(r"^```(python|sh)\n(.*?)^```$", text, re.M | re.S))
    (asked,) = [node for node in ast.walk(ast.parse(blocks["python"])) if isinstance(node, ast.Dict)][-1:]
    assert "do_sample=False, max_new_tokens=96)" in text
    assert ast.literal_eval(asked) == {"role": "user", "content": SHOWN[0].query}
    assert shlex.split(blocks["sh"].splitlines()[-1])[-1] == SHOWN[0].query
    # A fence in a query ends no block.
    assert "````\n" + SHOWN[0].query in text
    assert "Written by hand, under MIT." in text


def test_a_card_without_a_right_answer_shows_none():
    text = card(replace(SUBJECT, shown=[]), *documents(), EXPORT)
    assert "made by ToolForge.\n\n## Use" in text
    assert 'router.route("your query")' in text


def test_a_prompt_with_schemas_is_described_as_one():
    prompt = PromptParams(system="", tools="schemas")
    text = card(replace(SUBJECT, prompt=prompt), *documents(), EXPORT)
    assert "without a system message, with the list in `tools.json` as `tools`" in text
    assert 'tools=json.load(open("models/router/tools.json")), add_generation_prompt' in text
    assert '"role": "system"' not in text


def test_ollamas_template_is_the_prompt(tokenizer):
    messages = [{"role": "system", "content": "{{ .System }}"}, {"role": "user", "content": "{{ .Prompt }}"}]
    template = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    text = modelfile(template, "Route.", "<|im_end|>")
    found = text.split('TEMPLATE """')[1].split('"""')[0]
    filled = found.replace("{{ .System }}", "Route.").replace("{{ .Prompt }}", "hi")
    said = [{"role": "system", "content": "Route."}, {"role": "user", "content": "hi"}]
    assert filled == tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=False)
    assert 'SYSTEM """Route."""' in text
    assert 'PARAMETER stop "<|im_end|>"' in text
    assert "PARAMETER temperature 0" in text
