"""The papers of an exported router: its model card, made from the metrics, and its Modelfile for Ollama."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from toolforge.prompt import PromptParams, answer
from toolforge.records import Example

# Who labels a row, by its source; any other source is the model that answered.
_LABELLED_BY = {
    "authored": "query and label written by hand",
    "hand": "a template's or an unlabelled query, labelled by hand",
    "template": "a template's query with the template's own label",
}


@dataclass(frozen=True)
class Subject:
    """What a card is about: the model's name, the base's hub id, the licence of both, the prompt it is trained with, the tokens that an answer may have, who
    wrote its data and under which terms, and queries that it answers rightly.
    """

    name: str
    base_model: str
    license: str
    prompt: PromptParams
    max_new_tokens: int
    data_note: str
    shown: Sequence[Example]

    @property
    def query(self) -> str:
        """One of the queries shown, for the examples of use."""
        return self.shown[0].query if self.shown else "your query"


def card(
    subject: Subject,
    data: Mapping[str, Any],
    train: Mapping[str, Any],
    scores: Mapping[str, Any],
    export: Mapping[str, Any],
) -> str:
    """The model card in the hub's format, from the documents of metrics/: data, train, eval and export."""
    header = ModelCardData(
        model_name=subject.name,
        base_model=subject.base_model,
        license=subject.license,
        language="en",
        library_name="gguf",
        pipeline_tag="text-generation",
        tags=["tool-calling", "function-calling", "router", "lora", "llama.cpp"],
        metrics=["accuracy"],
        eval_results=[
            EvalResult(
                task_type="text-generation",
                task_name="tool calling",
                dataset_type="toolforge",
                dataset_name="ToolForge",
                dataset_split=split,
                metric_type="accuracy",
                metric_name=metric,
                metric_value=part[metric],
            )
            for split, part in (("test", scores), ("hard_test", scores["hard_test"]))
            for metric in ("tool_accuracy", "call_accuracy")
        ],
    )
    parts = (
        _what(subject, export),
        _use(subject),
        _figures(scores, export),
        _training(subject, data, train),
        _limits(scores),
    )
    return f"---\n{header.to_yaml()}\n---\n\n" + "\n".join(parts) + _licences(subject)


def _what(subject: Subject, export: Mapping[str, Any]) -> str:
    width = max((len(example.query) for example in subject.shown), default=0)
    lines = "\n".join(f"{example.query:{width}}   {answer(example.calls)}" for example in subject.shown)
    return f"""# {subject.name}

A router for an agent: a query goes in, the tools to call come out, with their arguments, or none. It is {subject.base_model}, fine-tuned
with LoRA on one closed catalogue of tools (`tools.json`), merged and quantized to {export["quantization"]} ({export["megabytes"]} MB), made by ToolForge.
{_fenced("", lines) if lines else ""}"""


def _fenced(language: str, text: str) -> str:
    # A query may hold a fence of its own.
    fence = "```"
    while fence in text:
        fence += "`"
    return f"\n{fence}{language}\n{text}\n{fence}\n"


def _use(subject: Subject) -> str:
    query, system = (json.dumps(text, ensure_ascii=False) for text in (subject.query, subject.prompt.system))
    turns = [f'{{"role": "user", "content": {query}}}']
    if subject.prompt.system:
        turns.insert(0, f'{{"role": "system", "content": {system}}}')
    under = f"under the system message {system}" if subject.prompt.system else "without a system message"
    schemas = subject.prompt.tools == "schemas"
    with_tools = ", with the list in `tools.json` as `tools`" if schemas else ""
    tools = 'tools=json.load(open("models/router/tools.json")), ' if schemas else ""
    routed = f"""from toolforge import Router

router = Router.load("models/router")
router.route({query})  # calls, confidence, escalate, milliseconds"""
    generated = f"""import json
from transformers import AutoModelForCausalLM, AutoTokenizer

model, tokenizer = (kind.from_pretrained("models/merged") for kind in (AutoModelForCausalLM, AutoTokenizer))
messages = [{", ".join(turns)}]
prompt = tokenizer.apply_chat_template(messages, {tools}add_generation_prompt=True, return_tensors="pt", return_dict=True)
answer = model.generate(**prompt, do_sample=False, max_new_tokens={subject.max_new_tokens})[0, prompt["input_ids"].shape[1] :]
calls = json.loads(tokenizer.decode(answer, skip_special_tokens=True))"""
    engines = f"""vllm serve models/merged --served-model-name {subject.name} --override-generation-config '{{"temperature": 0}}'
llama-server --model model.gguf --alias {subject.name} --jinja --temp 0
ollama create {subject.name} -f Modelfile && ollama run {subject.name} {shlex.quote(subject.query)}"""
    return f"""## Use

**Python**, with `toolforge` installed; answers keep to the catalogue's schemas, and `confidence` is calibrated:
{_fenced("python", routed)}
Everything else gets the plain model: send the query as the one user message {under}{with_tools}, decode greedily, and
read the answer as a JSON list of `{{"name", "arguments"}}`.

**transformers**, from the merged model:
{_fenced("python", generated)}
**vLLM**, from the merged model, **llama-server** and **Ollama**, from this folder:
{_fenced("sh", engines)}"""


def _figures(scores: Mapping[str, Any], export: Mapping[str, Any]) -> str:
    parts = [("**test**", scores), *scores["by_class"].items()]
    parts += [("**hard_test**", scores["hard_test"]), *scores["hard_test"].get("by_suite", {}).items()]
    rows = "\n".join(
        f"| {name} | {part['n']} | {share(part, 'tool_accuracy')} | {share(part, 'call_accuracy')} |"
        for name, part in parts
    )
    sure = export["calibration"]
    if sure["threshold"] is None:
        escalation = f"No confidence has {100 * sure['precision']:g}% precision on the validation rows."
    else:
        escalation = (
            f"From a confidence of {sure['threshold']:.4f} on, {100 * sure['precision']:g}% of the validation answers are right; "
            f"that is {sure['coverage']:.1%} of them. Hand what is below to a bigger model."
        )
    return f"""## Figures

Tools right, and tools and all arguments right, of the adapter before the export, with Wilson 95 % intervals:

| | rows | tools | tools and arguments |
|---|---|---|---|
{rows}

The export, on {export["n"]} validation queries: {share(export["agreement"]["exported"], "agreement")} of its answers are the adapter's; tools and
all arguments are right for {share(export["accuracy"]["exported"], "call_accuracy")}, for {share(export["accuracy"]["trained"], "call_accuracy")} before.
Expected calibration error, cross-fitted: {sure["ece"]:.3f}. {escalation}
"""


def _training(subject: Subject, data: Mapping[str, Any], train: Mapping[str, Any]) -> str:
    sources = data["train"]["by_source"]
    rows = "\n".join(
        f"- `{source}`, {count} rows: {_LABELLED_BY.get(source, 'labelled by the model of that name')}"
        for source, count in sources.items()
    )
    by_api = [source for source in sources if source not in _LABELLED_BY]
    none = "" if by_api else " No label comes from Gemini or another teacher API."
    return f"""## Training

{data["train"]["rows"]} rows, {train["steps"]} steps, {train["tokens"]} tokens; validation loss {train["val_loss"]}. Where the labels come from:

{rows}

{subject.data_note}{none} Test rows and train rows are of the same sources, in other paraphrase families: on other people's wording the figures may be lower.
"""


def _limits(scores: Mapping[str, Any]) -> str:
    suites = sorted(scores["hard_test"].get("by_suite", {}).items(), key=lambda item: item[1]["call_accuracy"])
    weakest = ", ".join(f"{name} ({share(part, 'call_accuracy')})" for name, part in suites[:3])
    return f"""## Limits

- One closed catalogue, learned by heart: other tools need another training, and `tools=` in a request is no help.
- One query at a time, in English; no conversation, no answer in words, no check that an argument is true.
- A query that lacks a required argument gets no call: asking back is the caller's.
{f"- The weakest suites of hard_test: {weakest}." if weakest else ""}
- Calls may be wrong. Do not let them act without a check where acting wrongly does harm.
"""


def _licences(subject: Subject) -> str:
    return f"""
## Licences

The base, {subject.base_model}, is under {subject.license}, and so are these weights. ToolForge is under MIT.
"""


def share(part: Mapping[str, Any], name: str) -> str:
    """A proportion of the metrics with its interval: `88.8% [86.5%, 90.7%]`; a dash for that of no rows."""
    if name not in part:
        return "-"
    return f"{part[name]:.1%} [{part[f'{name}_low']:.1%}, {part[f'{name}_high']:.1%}]"


def modelfile(template: str, system: str, stop: str) -> str:
    """Ollama's Modelfile for `model.gguf` beside it. `template` is the prompt with Ollama's own `{{ .System }}` and `{{ .Prompt }}` for its two
    texts; `system` is the message where the caller brings none.
    """
    return f'''FROM ./model.gguf
TEMPLATE """{template}"""
SYSTEM """{system}"""
PARAMETER stop "{stop}"
PARAMETER temperature 0
'''
