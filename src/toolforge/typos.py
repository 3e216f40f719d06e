"""Typing errors, which a share of the train rows is given: people outside spell less carefully than those who write labels."""

import random
import re
import string
from collections.abc import Sequence

from pydantic import Field
from textnoisr.noise import CharNoiseAugmenter

from toolforge.params import Params
from toolforge.records import Example

# Words that stand by themselves: no part of an address, a number with its unit, a contraction or a word of three letters, of which little is left.
WORD = re.compile(r"(?<![\w./@:#'-])[^\W\d_]{4,}(?![\w./@:#'-]*\w)")


class TyposParams(Params):
    """`share` of the train rows are misspelled, 0 to 1, at `rate` errors a letter.

    `corrected` are arguments, as `tool.argument`, that a label spells right whatever the query does. A word that any other argument holds stays as it is.
    """

    share: float = Field(ge=0, le=1)
    rate: float = Field(gt=0, le=0.5)
    seed: int
    corrected: list[str]


def misspell(examples: Sequence[Example], params: TyposParams) -> list[Example]:
    """The examples in their order, the queries of some with letters left out, put in, exchanged or turned round, so that each label stays right.

    The same seed misspells the same.
    """
    chance = random.Random(params.seed)
    noise = CharNoiseAugmenter(params.rate, character_set=tuple(string.ascii_lowercase), seed=params.seed)
    return [
        example.model_copy(update={"query": _misspelled(example, params.corrected, noise)})
        if chance.random() < params.share
        else example
        for example in examples
    ]


def _misspelled(example: Example, corrected: Sequence[str], noise: CharNoiseAugmenter) -> str:
    copied = [
        str(value)
        for call in example.calls
        for name, value in call.arguments.items()
        if f"{call.name}.{name}" not in corrected
    ]
    kept = {word.casefold() for text in copied for word in re.findall(r"\w+", text)}
    return WORD.sub(
        lambda word: word[0] if word[0].casefold() in kept else str(noise.add_noise(word[0])), example.query
    )
