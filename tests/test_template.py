"""Chat templates are left as they are where they are fit, and made fit or refused where they are not."""

import copy
import importlib.util
from pathlib import Path

import pytest

from bases import FAMILIES
from toolforge import template
from toolforge.errors import InputError

CONVERSATION = [{"role": "system", "content": "Route."}, {"role": "user", "content": "hi"}]


@pytest.fixture
def with_template(tokenizer):
    """The default base's tokenizer with another template."""

    def make(text):
        made = copy.deepcopy(tokenizer)
        made.chat_template = text
        return made

    return make


def test_the_default_base_is_prompted_as_it_always_was(tokenizer):
    made = copy.deepcopy(tokenizer)
    template.fit(made, "base")
    assert made.chat_template == tokenizer.chat_template
    assert made.special_tokens_map == tokenizer.special_tokens_map
    assert template.opening(made) == ""


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_fit_template_stays(with_template, family):
    text = FAMILIES[family].template.replace("<|eot_id|>", "<|im_end|>")
    made = with_template(text)
    template.fit(made, "base")
    assert made.chat_template == text


@pytest.mark.parametrize(
    ("family", "prompt"),
    [
        ("mistral", "<s>[INST] Route.\n\nhi[/INST]"),
        ("mistral, refusing, sliding", "<s>[INST] Route.\n\nhi [/INST]"),
        ("gemma", "<s><start_of_turn>user\nRoute.\n\nhi<end_of_turn>\n<start_of_turn>model\n"),
        (
            "qwen3",
            "<|im_start|>system\nRoute.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        ),
    ],
)
def test_another_is_made_fit_and_once_only(with_template, family, prompt):
    made = with_template(FAMILIES[family].template)
    made.bos_token = "<s>"
    made.add_special_tokens({"additional_special_tokens": ["<end_of_turn>"]})
    for _ in range(2):
        template.fit(made, "base")
        assert made.apply_chat_template(CONVERSATION, add_generation_prompt=True, tokenize=False) == prompt
        assert made.chat_template.endswith(FAMILIES[family].template)
        assert len(made.chat_template) < len(FAMILIES[family].template) + 250
    assert template.opening(made) == (" " if family == "mistral" else "")
    if family == "gemma":
        assert made.eos_token == "<end_of_turn>"
    # Who sends no system message gets none.
    alone = made.apply_chat_template(CONVERSATION[1:], add_generation_prompt=True, tokenize=False)
    assert "hi" in alone and "Route." not in alone


PUBLISHED = Path(importlib.util.find_spec("trl").origin).parent / "chat_templates"


@pytest.mark.parametrize(
    ("name", "end", "stays"),
    [
        ("llama3_1", "<|eot_id|>", True),
        ("qwen2_5", "<|im_end|>", True),
        ("qwen3", "<|im_end|>", False),
        ("gemma", "<end_of_turn>", False),
        ("gemma3", "<end_of_turn>", True),
    ],
)
def test_the_templates_that_the_families_publish_are_fit_or_made_so(with_template, name, end, stays):
    """TRL carries copies of them."""
    text = (PUBLISHED / f"{name}.jinja").read_text()
    made = with_template(text)
    made.add_special_tokens({"additional_special_tokens": ["<end_of_turn>", "<|eot_id|>"]})
    made.bos_token = "<s>"
    template.fit(made, "base")
    assert (made.chat_template == text) == stays
    assert made.eos_token == end
    prompt = made.apply_chat_template(CONVERSATION, add_generation_prompt=True, tokenize=False)
    said = made.apply_chat_template([*CONVERSATION, {"role": "assistant", "content": "[]"}], tokenize=False)
    assert "Route." in prompt and said.removeprefix(prompt).strip() == f"[]{end}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}",
            "^base: the chat template ends an",
        ),
        (
            "{% for m in messages %}{{ m.content | upper + '<|im_end|>' }}{% endfor %}",
            "^base: the chat template shows a",
        ),
        ("{{ raise_exception('no') }}", "^base: the chat template shows a"),
    ],
)
def test_one_that_cannot_be_made_fit_is_refused(with_template, text, said):
    with pytest.raises(InputError, match=said):
        template.fit(with_template(text), "base")
