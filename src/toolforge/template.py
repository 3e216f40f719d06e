"""A base's chat template, made fit for a router: what is trained is the very prompt that is asked later, then the answer, then the end of the turn."""

from itertools import product
from typing import Any

from jinja2 import TemplateError

from toolforge.errors import InputError

# What is put before a template that is not fit as it comes, so that whoever loads the tokenizer prompts as it was trained.
# Qwen3 answers with its thoughts first, empty ones in training.
_WITHOUT_THOUGHTS = "{%- set enable_thinking = false -%}"
# Gemma refuses a system message, and Mistral shows it only while no answer follows: it becomes the beginning of the user's.
_WITHOUT_SYSTEM = (
    "{%- if messages[0]['role'] == 'system' -%}"
    "{%- set messages = [{'role': 'user', 'content': messages[0]['content'] + '\\n\\n' + messages[1]['content']}] + messages[2:] -%}"
    "{%- endif -%}"
)
_SYSTEM, _QUERY, _ANSWER = "Route.", "hello", "[]"


def fit(tokenizer: Any, name: str) -> None:
    """Give a tokenizer a chat template under which a prompt stays as it is when the answer follows it, and the token that ends a turn as
    its `eos_token`. A tokenizer for which both hold is left as it is. Raises InputError, naming it, where no template can be made so.
    """
    original = tokenizer.get_chat_template()
    for parts in product(("", _WITHOUT_SYSTEM), ("", _WITHOUT_THOUGHTS)):
        template = "".join(parts) + original
        found = _around_answer(tokenizer, template)
        if found:
            break
    else:
        raise InputError(
            f"{name}: the chat template shows a prompt otherwise once its answer follows; use another base"
        )
    end = tokenizer.encode(found[1], add_special_tokens=False)[:1]
    if not end or end[0] not in tokenizer.added_tokens_decoder:
        raise InputError(f"{name}: the chat template ends an answer with no token of its own; use another base")
    if template != original:
        tokenizer.chat_template = template
    # Gemma's own is the end of the text, which never comes.
    if end[0] != tokenizer.eos_token_id:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end[0])


def opening(tokenizer: Any) -> str:
    """The white space with which an answer begins under a tokenizer's template, which is fit: a blank for Mistral, nothing for most."""
    found = _around_answer(tokenizer, tokenizer.get_chat_template())
    return found[0] if found else ""


def _around_answer(tokenizer: Any, template: str) -> tuple[str, str] | None:
    """What a template puts between a prompt and its answer, white space alone, and what behind it; None where system message, query and
    answer do not stand there as they were asked.
    """
    asked = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": _QUERY}]
    said = [*asked, {"role": "assistant", "content": _ANSWER}]
    try:
        prompt: str = tokenizer.apply_chat_template(
            asked, chat_template=template, add_generation_prompt=True, tokenize=False
        )
        whole: str = tokenizer.apply_chat_template(said, chat_template=template, tokenize=False)
    except TemplateError:
        return None
    before, answer, after = whole.removeprefix(prompt).partition(_ANSWER)
    if not (_SYSTEM in prompt and _QUERY in prompt and whole.startswith(prompt) and answer) or before.strip():
        return None
    return before, after
