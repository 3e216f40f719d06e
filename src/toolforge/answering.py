"""The student's greedy answers, many queries at once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tqdm import tqdm
from transformers import DynamicCache

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


def generate(student: Student, queries: Sequence[str], batch_size: int, max_new_tokens: int) -> list[Answer]:
    """The greedy answer to each query, in their order. Batches hold queries of like length; a bar shows progress."""
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
            found = _generate(student, [prompts[number] for number in batch], max_new_tokens)
            answers.update(zip(batch, found, strict=True))
            bar.update(len(batch))
    return [answers[number] for number in range(len(queries))]


@torch.inference_mode()
def _generate(student: Student, prompts: Sequence[list[int]], max_new_tokens: int) -> list[Answer]:
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
        best, chosen = out.logits[:, -1].float().log_softmax(-1).max(-1)
        for row, token, log_probability in zip(open_rows, chosen.tolist(), best.tolist(), strict=True):
            answers[row].append(token)
            log_probabilities[row] += log_probability
        going = (chosen != tokenizer.eos_token_id).nonzero()[:, 0]
        if not len(going):
            break
        if len(going) < len(open_rows):
            open_rows = [open_rows[number] for number in going.tolist()]
            cache.batch_select_indices(going)
        tokens, positions = chosen[going, None], positions[going, -1:] + 1
        mask = torch.nn.functional.pad(mask[going], (0, 1), value=1)
    texts = tokenizer.batch_decode(answers, skip_special_tokens=True)
    return [Answer(text.strip(), math.exp(p)) for text, p in zip(texts, log_probabilities, strict=True)]
