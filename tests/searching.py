"""The library's own greedy search, held to a grammar: slow, and what the project's has to agree with."""

import numpy as np
import torch

from toolforge.prompt import render


def constrained(student, grammar, query, longest):
    """The tokens of transformers' generate() for one query, each the likeliest of those that the grammar takes, the logits that each was chosen from, and
    by how much the closest choice was made.
    """
    ids = student.tokenizer.apply_chat_template(
        **render(query, student.prompt, student.catalogue), add_generation_prompt=True, return_tensors="pt",
        return_dict=True,
    )  # fmt: skip
    asked = ids["input_ids"].shape[1]
    end, size = student.tokenizer.eos_token_id, student.model.config.get_text_config().vocab_size

    def allowed(_, tokens):
        matcher = grammar.matcher(query)
        assert matcher.consume_tokens(tokens[asked:].tolist())
        if matcher.is_accepting():
            return [end]
        return (
            np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little", count=size)
            .nonzero()[0]
            .tolist()
        )

    out = student.model.generate(
        **ids, do_sample=False, max_new_tokens=longest, output_logits=True, output_scores=True, return_dict_in_generate=True,
        eos_token_id=end, pad_token_id=student.tokenizer.pad_token_id, prefix_allowed_tokens_fn=allowed,
    )  # fmt: skip
    tokens = out.sequences[0, asked:].tolist()
    tokens = tokens[:-1] if tokens[-1] == end else tokens
    # The scores are the logits with those that the grammar does not take at minus infinity.
    first, second = torch.cat(out.scores[: len(tokens)]).topk(2).values.T
    return tokens, [logits[0] for logits in out.logits[: len(tokens)]], (first - second).min()
