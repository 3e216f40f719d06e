"""The student's base before any training, prompted with the catalogue.

It is asked in the strongest way at hand: its answers are held to the student's grammar, so that each is a list of valid calls, where free text from it
seldom parses; and the prompt's fixed part is computed once.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path

from transformers import AutoTokenizer

from toolforge import prompt
from toolforge.decoding import Decoder
from toolforge.errors import InputError
from toolforge.records import Example, ToolCall, class_of
from toolforge.tools import Catalogue

SYSTEM = (
    "Decide which of these tools the user's message calls. Answer with a JSON list of calls and nothing else, such as "
    '[{"name": "weather", "arguments": {"location": "Paris"}}], or [] where no tool is needed.'
)


def some_of_each(train: Sequence[Example], classes: Sequence[str], count: int, seed: int) -> list[Example]:
    """`count` examples of each class that train has, or all where they are fewer, shuffled: the same for the same seed."""
    draw = random.Random(seed)
    found = []
    for name in classes:
        of_class = [example for example in train if class_of(example.calls) == name]
        found += draw.sample(of_class, min(count, len(of_class)))
    return draw.sample(found, len(found))


class Untuned:
    """The base under a system message with the tools' schemas; `examples` stand before the query as turns that it has answered."""

    gives_arguments = True

    def __init__(
        self,
        gguf: Path,
        catalogue: Catalogue,
        examples: Sequence[Example],
        answer_tokens: int,
        copied: Sequence[str],
    ) -> None:
        """An answer that does not end within `answer_tokens` is none: the base repeats itself."""
        tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
        functions = [json.dumps(schema["function"], ensure_ascii=False) for schema in catalogue.schemas]
        turns = [{"role": "system", "content": "\n".join([SYSTEM, *functions])}]
        for example in examples:
            turns.append({"role": "user", "content": example.query})
            turns.append({"role": "assistant", "content": prompt.answer(example.calls)})
        turns.append({"role": "user", "content": prompt.QUERY})
        text: str = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        before, after = text.split(prompt.QUERY)
        self._decoder = Decoder(gguf, catalogue, before, after, tokenizer.eos_token, copied, answer_tokens)

    def route(self, query: str) -> list[ToolCall] | None:
        """The calls, None where the answer does not end."""
        try:
            return prompt.parse(self._decoder.answer(query).text)
        except InputError:
            return None
