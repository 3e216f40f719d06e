"""Greedy decoding of one GGUF under the grammar of a catalogue: the only module that runs llama.cpp and llguidance."""

import ctypes
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpp import llama_cpp
from llguidance import LLMatcher, LLTokenizer
from llguidance.llamacpp import lltokenizer_from_vocab

from toolforge.errors import InputError
from toolforge.tools import Catalogue

# The tokens that a query, and an answer, may have.
QUERY_TOKENS, ANSWER_TOKENS = 1000, 500
# The calls that an answer may have: a model that repeats itself ends here.
CALLS = 8


@llama_cpp.llama_log_callback
def _silent(level: int, text: bytes, data: ctypes.c_void_p) -> None:
    """llama.cpp's notes are nobody's."""


@dataclass(frozen=True)
class Answer:
    """An answer that the grammar holds, and the model's probability of all its tokens that the grammar left open, 0 to 1."""

    text: str
    probability: float


# The JSON of `prompt.answer`: json.dumps without an escape that JSON does not ask for. No "u", so that no escape can spell half a surrogate
# pair.
_FORM = {
    "item_separator": ", ",
    "key_separator": ": ",
    "whitespace_flexible": False,
    "json_allowed_escapes": 'nrbtf\\"',
}


def grammar(catalogue: Catalogue) -> str:
    """The llguidance grammar of an answer: a list of up to CALLS calls, each with its own tool's arguments in the schema's order."""
    calls, rules = [], []
    for number, schema in enumerate(catalogue.schemas):
        name, parameters = schema["function"]["name"], schema["function"]["parameters"]
        opening = f'{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": '
        calls.append(f'{json.dumps(opening)} arguments_{number} "}}"')
        rules.append(f"arguments_{number}: %json {json.dumps({**parameters, 'x-guidance': _FORM})}")
    return "\n".join([
        f'start: "[" (call (", " call){{0,{CALLS - 1}}})? "]"',
        f"call: {' | '.join(calls)}",
        *rules,
    ])  # fmt: skip


class Decoder:
    """One GGUF in memory. It answers one query at a time: the caller holds a lock."""

    def __init__(self, gguf: Path, catalogue: Catalogue, before: str, after: str, stop: str) -> None:
        """`before` and `after` are the prompt's texts around the query, `stop` the token that ends an answer. Raises InputError for
        a file that llama.cpp cannot load and for a catalogue whose schemas no grammar can hold.
        """
        if not gguf.is_file():
            raise InputError(f"{gguf}: no such file")
        llama_cpp.llama_log_set(_silent, ctypes.c_void_p())
        llama_cpp.llama_backend_init()
        model_params = llama_cpp.llama_model_default_params()
        # AMX's kernels crash on some CPUs (llama.cpp issue 20824).
        model_params.use_extra_bufts = False
        self._model = llama_cpp.llama_model_load_from_file(os.fsencode(gguf), model_params)
        if not self._model:
            raise InputError(f"{gguf}: llama.cpp cannot load it")
        self._vocab: Any = llama_cpp.llama_model_get_vocab(self._model)
        self._prefix, self._suffix = self._tokens(before, special=True), self._tokens(after, special=True)
        stops = self._tokens(stop, special=True)
        if len(stops) != 1:
            raise InputError(f"{gguf}: {stop!r} is not one token of the model")
        self._tokenizer: LLTokenizer = lltokenizer_from_vocab(self._vocab, eos_token=stops)
        self._start = LLMatcher(self._tokenizer, grammar(catalogue), log_level=0)
        if self._start.is_error():
            raise InputError(f"no grammar can hold the catalogue: {self._start.get_error()}")
        size = len(self._prefix) + QUERY_TOKENS + len(self._suffix) + ANSWER_TOKENS
        context_params = llama_cpp.llama_context_default_params()
        context_params.n_ctx = context_params.n_batch = size
        context_params.n_threads = context_params.n_threads_batch = len(os.sched_getaffinity(0))
        self._context: Any = llama_cpp.llama_init_from_model(self._model, context_params)
        if not self._context:
            raise InputError(f"{gguf}: llama.cpp cannot make a context of {size} tokens")
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = llama_cpp.llama_batch_init(size, 0, 1)
        self._size = llama_cpp.llama_vocab_n_tokens(self._vocab)
        self._run(self._prefix, 0)

    def answer(self, query: str) -> Answer:
        """The greedy answer. Raises InputError for a query or an answer that is too long."""
        tokens = self._tokens(query, special=False)
        if len(tokens) > QUERY_TOKENS:
            raise InputError(f"the query has {len(tokens)} tokens; at most {QUERY_TOKENS} can be answered")
        place = len(self._prefix)
        llama_cpp.llama_memory_seq_rm(self._memory, 0, place, -1)
        matcher, answer, log_probability = self._start.deep_copy(), list[int](), 0.0
        waiting = tokens + self._suffix
        while not matcher.is_stopped():
            if len(answer) >= ANSWER_TOKENS:
                raise InputError(f"the answer to this query does not end within {ANSWER_TOKENS} tokens")
            forced = matcher.compute_ff_tokens()
            if forced:
                chosen = forced
            else:
                logits = self._run(waiting, place)
                place, waiting = place + len(waiting), []
                allowed = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little")
                token = int(np.where(allowed[: self._size], logits, -np.inf).argmax())
                top = float(logits.max())
                log_probability += float(logits[token]) - top - math.log(float(np.exp(logits - top).sum()))
                chosen = [token]
            matcher.consume_tokens(chosen)
            answer += chosen
            waiting += chosen
        return Answer(self._tokenizer.decode_str(answer), math.exp(log_probability))

    def _tokens(self, text: str, special: bool) -> list[int]:
        data = text.encode()
        tokens = (llama_cpp.llama_token * (len(data) + 1))()
        count = llama_cpp.llama_tokenize(self._vocab, data, len(data), tokens, len(tokens), False, special)
        return list(tokens[:count])

    def _run(self, tokens: Sequence[int], place: int) -> Any:
        batch = self._batch
        batch.n_tokens = len(tokens)
        for n, token in enumerate(tokens):
            batch.token[n], batch.pos[n], batch.n_seq_id[n], batch.logits[n] = token, place + n, 1, 0
            batch.seq_id[n][0] = 0
        batch.logits[len(tokens) - 1] = 1
        if llama_cpp.llama_decode(self._context, batch):
            raise RuntimeError("llama.cpp cannot decode")
        return np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self._context, -1), (self._size,))
