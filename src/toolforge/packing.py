"""Packing: the rows of a batch end to end in one sequence, attention kept within each row.

Every layer but attention then works on the rows' own tokens, without padding between them. Attention needs no varlen
kernel: it lays the rows side by side, which costs little on queries of 20 to 150 tokens, and runs on any device.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AttentionInterface

# The name of `attend` among transformers' attention implementations.
PACKED = "toolforge_packed"
# A CPU compiles its kernels anew for each new shape: batches are filled up to a multiple of this many tokens.
MULTIPLE = 64


def collate(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The rows' `input_ids` and `labels` as one sequence of shape (1, tokens), with `position_ids` that start anew at each row.

    `places`, of shape (rows, longest), holds where each row's tokens stand in the sequence, and its length where the row has
    ended; `kept` the places of the sequence's tokens in that table, read row by row. The last row is filling, with labels of -100.
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
    lengths = torch.tensor([len(row) for row in ids])
    ends = lengths.cumsum(0)
    position = torch.arange(int(lengths.max())).expand(len(ids), -1)
    within = position < lengths[:, None]
    return {
        "input_ids": torch.cat(ids)[None],
        "labels": torch.cat(labels)[None],
        "position_ids": position[within][None],
        "places": torch.where(within, (ends - lengths)[:, None] + position, ends[-1]),
        "kept": within.flatten().nonzero()[:, 0],
    }


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    places: torch.Tensor,
    kept: torch.Tensor,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each row of a packed sequence, as transformers' attention functions are called.

    query is (1, heads, tokens, size), key and value (1, kv_heads, tokens, size); the result is (1, tokens, heads, size).
    """
    rows, longest = places.shape

    def side_by_side(x: torch.Tensor) -> torch.Tensor:
        # Whatever a row's padding is, causal attention does not look behind the row.
        padded = torch.nn.functional.pad(x[0].transpose(0, 1), (0, 0, 0, 0, 0, 1)).index_select(0, places.flatten())
        return padded.view(rows, longest, x.shape[1], x.shape[3]).transpose(1, 2)

    groups = query.shape[1] // key.shape[1]
    q, k, v = (side_by_side(x) for x in (query, key, value))
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    future = q.new_full((longest, longest), float("-inf")).triu(1)
    weights = torch.baddbmm(future, q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2), alpha=scaling)
    out = (weights.softmax(-1) @ v.flatten(0, 1)).view(q.shape)
    return out.transpose(1, 2).flatten(0, 1).index_select(0, kept)[None], None


AttentionInterface.register(PACKED, attend)
