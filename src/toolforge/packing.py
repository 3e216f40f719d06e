"""Packing: how rows become batches. Those of a batch stand end to end in one sequence, and all batches have nearly the same tokens."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler

# A CPU compiles its kernels anew for each new shape, and memory freed by one shape does not fit the next: batches are filled up to a
# multiple of this many tokens.
MULTIPLE = 32


class Balanced(Sampler[int]):
    """Random batches of `batch` rows that have nearly the same number of tokens: of the rows sorted by length, each batch gets one of every
    stretch as long as there are batches. Each epoch draws anew.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        """`lengths` are the rows' tokens."""
        super().__init__()
        self._lengths, self._batch, self._seed, self._epoch = lengths, batch, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """As accelerate calls it before each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        """The rows' numbers, batch after batch; the last batch holds what is left."""
        draw = torch.Generator().manual_seed(self._seed * 1000 + self._epoch)
        shuffled = torch.randperm(len(self), generator=draw).tolist()
        count = len(self) // self._batch
        rows, left = shuffled[: count * self._batch], shuffled[count * self._batch :]
        rows.sort(key=lambda row: self._lengths[row], reverse=True)
        batches: list[list[int]] = [[] for _ in range(count)]
        for turn in range(self._batch):
            # The longest row of a stretch goes to the batch that is shortest yet.
            batches.sort(key=lambda batch: sum(self._lengths[row] for row in batch))
            for batch, row in zip(batches, rows[turn * count : (turn + 1) * count], strict=True):
                batch.append(row)
        for number in torch.randperm(count, generator=draw).tolist():
            yield from batches[number]
        yield from left


def collate(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The rows' `input_ids` and `labels` as one sequence of shape (1, tokens), with `position_ids` that start anew at each row.

    `ends`, of shape (rows,), holds where each row ends in the sequence. The last row is filling, with labels of -100.
    """
    ids = [torch.tensor(row["input_ids"]) for row in rows]
    labels = [torch.tensor(row["labels"]) for row in rows]
    filling = -sum(len(row) for row in ids) % MULTIPLE
    if filling:
        ids.append(torch.zeros(filling, dtype=torch.long))
        labels.append(torch.full((filling,), -100))
    # A row's first token follows nothing, least of all the row before it.
    for row in labels:
        row[0] = -100
    return {
        "input_ids": torch.cat(ids)[None],
        "labels": torch.cat(labels)[None],
        "position_ids": torch.cat([torch.arange(len(row)) for row in ids])[None],
        "ends": torch.tensor([len(row) for row in ids]).cumsum(0),
    }
