"""Packing: the rows of a batch end to end in one sequence, attention kept within each row.

Every layer but attention then works on the rows' own tokens, without padding between them. Attention goes row by row and keeps
nothing but its input for the backward pass: no padding to the longest row there either, and no table of weights held in each layer.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import AttentionInterface

# The name of `attend` among transformers' attention implementations.
PACKED = "toolforge_packed"
# A CPU compiles its kernels anew for each new shape: batches are filled up to a multiple of this many tokens.
MULTIPLE = 64


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


def _rows(ends: torch.Tensor, *packed: torch.Tensor) -> Iterator[tuple[slice, list[torch.Tensor]]]:
    start = 0
    for end in ends.tolist():
        place = slice(start, end)
        yield place, [x[:, place] for x in packed]
        start = end


def _weights(query: torch.Tensor, key: torch.Tensor, scaling: float) -> torch.Tensor:
    # The query heads of one key head stand below each other, so that each key head takes one product.
    heads, length, size = key.shape
    q = query.reshape(heads, -1, size)
    groups = q.shape[1] // length
    future = q.new_full((length, length), float("-inf")).triu(1).repeat(groups, 1)
    return torch.baddbmm(future, q, key.transpose(1, 2), alpha=scaling).softmax(-1)


@torch.library.custom_op("toolforge::attend_rows", mutates_args=())
def attend_rows(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, ends: torch.Tensor, scaling: float
) -> torch.Tensor:
    """Causal attention within each row. query is (heads, tokens, size), key and value (kv_heads, tokens, size), as the result is query."""
    out = torch.empty_like(query)
    for place, (q, k, v) in _rows(ends, query, key, value):
        out[:, place] = (_weights(q, k, scaling) @ v).view(q.shape)
    return out


@attend_rows.register_fake
def _(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, ends: torch.Tensor, scaling: float) -> torch.Tensor:
    return torch.empty_like(query)


@torch.library.custom_op("toolforge::attend_rows_backward", mutates_args=())
def attend_rows_backward(
    gradient: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    ends: torch.Tensor,
    scaling: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gradients of attend_rows by query, key and value, its weights reckoned again."""
    d_query, d_key, d_value = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
    for place, (g, q, k, v) in _rows(ends, gradient, query, key, value):
        weights = _weights(q, k, scaling)
        g_below = g.reshape(k.shape[0], -1, k.shape[2])
        d_value[:, place] = weights.transpose(1, 2) @ g_below
        d_scores = torch._softmax_backward_data(g_below @ v.transpose(1, 2), weights, -1, weights.dtype) * scaling
        d_query[:, place] = (d_scores @ k).view(q.shape)
        d_key[:, place] = d_scores.transpose(1, 2) @ q.reshape(g_below.shape)
    return d_query, d_key, d_value


@attend_rows_backward.register_fake
def _(
    gradient: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    ends: torch.Tensor,
    scaling: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    *tensors, ctx.scaling = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    return *attend_rows_backward(gradient, *ctx.saved_tensors, ctx.scaling), None, None


attend_rows.register_autograd(_backward, setup_context=_keep)


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    ends: torch.Tensor,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """`attend_rows` as transformers' attention functions are called: query is (1, heads, tokens, size), key and value
    (1, kv_heads, tokens, size); the result is (1, tokens, heads, size).
    """
    return attend_rows(query[0], key[0], value[0], ends, scaling).transpose(0, 1)[None], None


AttentionInterface.register(PACKED, attend)
