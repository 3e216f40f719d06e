"""Greedy decoding of one GGUF under the grammar of a catalogue: the only module that asks llama.cpp.

A batch of eight tokens takes little longer than one, so each batch holds, beside the tokens that are sure, a draft of those that may follow: what the
grammar forces, and a guess made of the query's words. The model's choice at each place of the draft is then read from the one batch, and the draft holds as far
as it is that choice. A wrong guess costs a little time and changes nothing.
"""

import ctypes
import math
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpp import llama_cpp
from llguidance import LLMatcher, LLTokenizer
from llguidance.llamacpp import lltokenizer_from_vocab

from toolforge.drafts import Drafts
from toolforge.errors import InputError
from toolforge.grammar import Grammar, Logits, likeliest
from toolforge.prior import Prior
from toolforge.tools import Catalogue

# The tokens that a query, an answer (unless its decoder says otherwise) and a draft may have.
QUERY_TOKENS, ANSWER_TOKENS, DRAFT_TOKENS = 1000, 500, 16

# llama.cpp's notes are nobody's.
_SILENT = llama_cpp.llama_log_callback(lambda level, text, data: None)


@dataclass(frozen=True)
class Answer:
    """An answer that the grammar holds, and the model's probability of all its tokens that the grammar left open, 0 to 1."""

    text: str
    probability: float


class Decoder:
    """One GGUF in memory. It answers one query at a time: the caller holds a lock."""

    def __init__(
        self,
        gguf: Path,
        catalogue: Catalogue,
        before: str,
        after: str,
        stop: str,
        copied: Sequence[str],
        answer_tokens: int = ANSWER_TOKENS,
        opening: str = "",
        prior: Prior | None = None,
    ) -> None:
        """`before` and `after` are the prompt's texts around the query, `stop` the token that ends an answer, `copied` the
        arguments, as `tool.argument`, that are parts of the query, `opening` the white space that an answer begins with; `prior`
        drafts how it goes on, where there is one. Raises InputError for a file that llama.cpp cannot load, for a catalogue whose schemas no grammar can hold and for an argument that cannot be copied.
        """
        if not gguf.is_file():
            raise InputError(f"{gguf}: no such file")
        llama_cpp.llama_log_set(_SILENT, ctypes.c_void_p())
        llama_cpp.llama_backend_init()
        model_params = llama_cpp.llama_model_default_params()
        # No AMX: as GCC 12 compiles it, it crashes in any batch of two or more tokens; and where it does not, its coarser products
        # changed the answers to 9 of 408 queries from those of the unrounded model, for 4 without.
        model_params.use_extra_bufts = False
        self._model = llama_cpp.llama_model_load_from_file(os.fsencode(gguf), model_params)
        if not self._model:
            raise InputError(f"{gguf}: llama.cpp cannot load it")
        weakref.finalize(self, llama_cpp.llama_model_free, self._model)
        self._vocab: Any = llama_cpp.llama_model_get_vocab(self._model)
        self._prefix, self._suffix = self._tokens(before, special=True), self._tokens(after, special=True)
        stops = self._tokens(stop, special=True)
        if len(stops) != 1:
            raise InputError(f"{gguf}: {stop!r} is not one token of the model")
        # Slices make masks faster and the start slower by 0.08 s; few masks are made.
        self._tokenizer: LLTokenizer = lltokenizer_from_vocab(self._vocab, eos_token=stops, slices=[])
        self._grammar = Grammar(self._tokenizer, catalogue, copied, opening)
        self._drafts, self._answer_tokens = Drafts(catalogue, prior), answer_tokens
        size = len(self._prefix) + QUERY_TOKENS + len(self._suffix) + answer_tokens + DRAFT_TOKENS
        context_params = llama_cpp.llama_context_default_params()
        context_params.n_ctx = context_params.n_batch = size
        context_params.n_outputs_max = DRAFT_TOKENS + 1
        context_params.n_threads = context_params.n_threads_batch = len(os.sched_getaffinity(0))
        self._context: Any = llama_cpp.llama_init_from_model(self._model, context_params)
        if not self._context:
            raise InputError(f"{gguf}: llama.cpp cannot make a context of {size} tokens")
        weakref.finalize(self, llama_cpp.llama_free, self._context)
        self._size = llama_cpp.llama_vocab_n_tokens(self._vocab)
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = llama_cpp.llama_batch_init(size, 0, 1)
        weakref.finalize(self, llama_cpp.llama_batch_free, self._batch)
        self._run(self._prefix, 0, [])

    def answer(self, query: str) -> Answer:
        """The greedy answer. Raises InputError for a query or an answer that is too long."""
        try:
            tokens = self._tokens(query, special=False)
        except UnicodeEncodeError as error:
            raise InputError(
                f"the query is no text: half a surrogate pair stands at character {error.start + 1}"
            ) from None
        if len(tokens) > QUERY_TOKENS:
            raise InputError(f"the query has {len(tokens)} tokens; at most {QUERY_TOKENS} can be answered")
        matcher, answer, log_probability = self._grammar.matcher(query), list[int](), 0.0
        # Sure tokens that llama.cpp has not seen yet; a draft that it has seen, and how many of its tokens hold; the place behind those.
        waiting, draft, held, place = tokens + self._suffix, list[int](), 0, len(self._prefix)
        while not matcher.is_accepting():
            chosen = matcher.compute_ff_tokens()
            if not chosen:
                if waiting:
                    draft, wanted = self._draft(matcher, answer, query)
                    last, held = len(waiting) - 1, 0
                    self._run(waiting + draft, place, [last + n for n in wanted])
                    place, waiting = place + len(waiting), []
                logits = self._logits(last + held)
                chosen = [likeliest(matcher, logits)]
                log_probability += float(logits[chosen[0]]) - _log_sum_exp(logits)
            if not matcher.consume_tokens(chosen):
                raise InputError("the catalogue's grammar is too complex for the answer to this query")
            answer += chosen
            if len(answer) > self._answer_tokens:
                raise InputError(f"the answer to this query does not end within {self._answer_tokens} tokens")
            for token in chosen:
                if not waiting and held < len(draft) and token == draft[held]:
                    held, place = held + 1, place + 1
                else:
                    waiting.append(token)
        return Answer(self._tokenizer.decode_str(answer).lstrip(), math.exp(log_probability))

    def _draft(self, matcher: LLMatcher, answer: list[int], query: str) -> tuple[list[int], list[int]]:
        """Tokens that may come next, what is forced among them, and behind how many of them the model has a choice."""
        guess = self._tokens(self._drafts.after(self._tokenizer.decode_str(answer).lstrip(), query), special=False)
        ahead, draft, wanted = matcher.deep_copy(), list[int](), list[int]()
        while not ahead.is_accepting():
            forced = ahead.compute_ff_tokens()
            if not forced:
                wanted.append(len(draft))
            taken = forced or guess[:1]
            if not taken or len(draft) + len(taken) > DRAFT_TOKENS or ahead.try_consume_tokens(taken) < len(taken):
                break
            draft += taken
            guess = guess[len(taken) :] if guess[: len(taken)] == taken else []
        return draft, wanted

    def _tokens(self, text: str, special: bool) -> list[int]:
        data = text.encode()
        tokens = (llama_cpp.llama_token * (len(data) + 1))()
        count = llama_cpp.llama_tokenize(self._vocab, data, len(data), tokens, len(tokens), False, special)
        return list(tokens[:count])

    def _run(self, tokens: Sequence[int], place: int, wanted: Sequence[int]) -> None:
        """Put the tokens at `place`, for what stood from there on; `_logits` then has those behind the `wanted` ones."""
        llama_cpp.llama_memory_seq_rm(self._memory, 0, place, -1)
        batch = self._batch
        batch.n_tokens = len(tokens)
        for n, token in enumerate(tokens):
            batch.token[n], batch.pos[n], batch.n_seq_id[n], batch.logits[n] = token, place + n, 1, n in wanted
            batch.seq_id[n][0] = 0
        if llama_cpp.llama_decode(self._context, batch):
            raise RuntimeError(f"llama.cpp cannot decode {len(tokens)} tokens at {place}")

    def _logits(self, n: int) -> Logits:
        """The logits behind the n-th token of the last run: float32[vocabulary], overwritten by the next."""
        return np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self._context, n), (self._size,))


def _log_sum_exp(logits: Logits) -> float:
    top = float(logits.max())
    return top + math.log(float(np.exp(logits - top).sum()))
