"""The student's greedy answers under the grammar that its router holds it to, many queries at once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from llguidance import LLMatcher
from llguidance.hf import from_tokenizer
from tqdm import tqdm
from transformers import DynamicCache

from toolforge import template
from toolforge.grammar import Grammar, likeliest
from toolforge.prompt import render
from toolforge.student import Student

# The last place, as an index and not as a number: of that the models make a slice whose rows lie apart, for which PyTorch copies the
# vocabulary's matrix once a row of the batch. It took half the time of an evaluation.
LAST = torch.tensor([-1])


@dataclass(frozen=True)
class Answer:
    """A raw answer, and the model's probability of all its tokens, 0 to 1."""

    text: str
    confidence: float


def grammar_of(student: Student, copied: Sequence[str]) -> Grammar:
    """The grammar of the student's answers, where `copied` names the arguments that are parts of the query. Raises as Grammar does."""
    # A vocabulary is often padded: the logits may be more than the tokens.
    size = max(len(student.tokenizer), student.model.config.get_text_config().vocab_size)
    tokens = from_tokenizer(student.tokenizer, n_vocab=size, slices=[])
    return Grammar(tokens, student.catalogue, copied, template.opening(student.tokenizer))


def generate(
    student: Student, grammar: Grammar, queries: Sequence[str], batch_size: int, max_new_tokens: int
) -> list[Answer]:
    """The greedy answer to each query under its grammar, in their order; one that does not end within `max_new_tokens` is cut there. Batches hold queries of
    like length; a bar shows progress.
    """
    prompts = [
        student.tokenizer.apply_chat_template(
            **render(query, student.prompt, student.catalogue), add_generation_prompt=True, return_dict=False
        )
        for query in queries
    ]
    order = sorted(range(len(queries)), key=lambda number: len(prompts[number]), reverse=True)
    answers: dict[int, Answer] = {}
    with tqdm(total=len(queries), desc="answering", unit="query", disable=len(queries) <= batch_size) as bar:
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            matchers = [grammar.matcher(queries[number]) for number in batch]
            found = _generate(student, matchers, [prompts[number] for number in batch], max_new_tokens)
            answers.update(zip(batch, found, strict=True))
            bar.update(len(batch))
    return [answers[number] for number in range(len(queries))]


@torch.inference_mode()
def _generate(
    student: Student, matchers: Sequence[LLMatcher], prompts: Sequence[list[int]], max_new_tokens: int
) -> list[Answer]:
    # Not the library's generate(): it keeps a batch whole until its longest answer ends, and most end early with `[]`.
    tokenizer, model = student.tokenizer, student.model
    inputs = tokenizer.pad({"input_ids": list(prompts)}, padding_side="left", return_tensors="pt").to(model.device)
    mask = inputs["attention_mask"]
    tokens, positions = inputs["input_ids"], (mask.cumsum(1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    answers: list[list[int]] = [[] for _ in prompts]
    log_probabilities = [0.0] * len(prompts)
    open_rows = list(range(len(prompts)))
    for _ in range(max_new_tokens):
        out = model(tokens, attention_mask=mask, position_ids=positions, past_key_values=cache, logits_to_keep=LAST)
        logs = out.logits[:, -1].float().log_softmax(-1)
        chosen = logs.argmax(-1)
        for place, (row, token) in enumerate(zip(open_rows, chosen.tolist(), strict=True)):
            if not matchers[row].validate_tokens([token]):
                chosen[place] = likeliest(matchers[row], logs[place].cpu().numpy())
        sure = logs.gather(1, chosen[:, None])[:, 0]
        ended = []
        for row, token, log_probability in zip(open_rows, chosen.tolist(), sure.tolist(), strict=True):
            answers[row].append(token)
            log_probabilities[row] += log_probability
            ended.append(not matchers[row].consume_token(token) or matchers[row].is_accepting())
        if all(ended):
            break
        going = chosen.new_tensor([place for place, end in enumerate(ended) if not end])
        if len(going) < len(open_rows):
            open_rows = [open_rows[place] for place in going.tolist()]
            cache.batch_select_indices(going)
        tokens, positions = chosen[going, None], positions[going, -1:] + 1
        mask = torch.nn.functional.pad(mask[going], (0, 1), value=1)
    texts = tokenizer.batch_decode(answers, skip_special_tokens=True)
    return [Answer(text.strip(), math.exp(p)) for text, p in zip(texts, log_probabilities, strict=True)]
