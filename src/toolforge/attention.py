"""Attention of a packed batch, kept within each row, as one operator that holds nothing but its input for the backward pass.

Rows of like length go together as one block: a few large products in place of many small ones, with little filling. A window of n tokens has
each see itself and the n - 1 before it; 0 stands for no window.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from transformers import AttentionInterface

# The name of `attend` among transformers' attention implementations.
PACKED = "toolforge_packed"


@dataclass(frozen=True)
class _Group:
    """Rows of like length as one block, each filled up to the longest by its own last token.

    `queries` and `keys` are the places of the block's (row, head, token) among the sequence's (token, head) pairs; `real_queries`
    and `real_keys` are those places in the block that are no filling.
    """

    unseen: torch.Tensor
    queries: torch.Tensor
    keys: torch.Tensor
    real_queries: torch.Tensor
    real_keys: torch.Tensor
    filling: torch.Tensor

    def take_keys(self, pairs: torch.Tensor) -> torch.Tensor:
        """Of (tokens * kv_heads, size), the block of shape (rows * kv_heads, length, size)."""
        return pairs.index_select(0, self.keys).view(-1, self.unseen.shape[1], pairs.shape[1])

    def take_queries(self, pairs: torch.Tensor) -> torch.Tensor:
        """Of (tokens * heads, size), the block of shape (rows * kv_heads, heads / kv_heads * length, size)."""
        return pairs.index_select(0, self.queries).view(-1, self.unseen.shape[0], pairs.shape[1])

    def put_keys(self, block: torch.Tensor, pairs: torch.Tensor) -> None:
        """What take_keys took, back to its place."""
        _put(block, self.real_keys, self.keys, pairs)

    def put_queries(self, block: torch.Tensor, pairs: torch.Tensor) -> None:
        """What take_queries took, back to its place."""
        _put(block, self.real_queries, self.queries, pairs)

    def weights(self, query: torch.Tensor, key: torch.Tensor, scaling: float) -> torch.Tensor:
        """The causal softmax, of shape (rows * kv_heads, heads / kv_heads * length, length)."""
        return torch.baddbmm(self.unseen, query, key.transpose(1, 2), alpha=scaling).softmax(-1)


def _put(block: torch.Tensor, real: torch.Tensor, places: torch.Tensor, pairs: torch.Tensor) -> None:
    flat = block.view(-1, pairs.shape[1])
    pairs.index_copy_(0, places[real], flat.index_select(0, real))


# Two, since some models have layers with a window and layers without.
@lru_cache(maxsize=2)
def _groups(
    ends: tuple[int, ...], window: int, heads: int, kv_heads: int, dtype: torch.dtype, device: torch.device
) -> list[_Group]:
    """The groups of a batch, which all its layers share: a row is at most a third shorter than its group's longest."""
    groups: list[list[tuple[int, int]]] = []
    for length, start in sorted(((end - start, start) for start, end in pairwise((0, *ends))), reverse=True):
        if not groups or length < 0.7 * groups[-1][0][0]:
            groups.append([])
        groups[-1].append((length, start))
    with device:
        return [_group(rows, window, heads, kv_heads, dtype) for rows in groups]


def _group(rows: Sequence[tuple[int, int]], window: int, heads: int, kv_heads: int, dtype: torch.dtype) -> _Group:
    lengths, starts = torch.tensor(rows).T[:, :, None, None]
    place = torch.arange(int(lengths.max()))
    tokens = starts + torch.minimum(place, lengths - 1)
    is_real = (place < lengths).expand(-1, heads, -1)
    is_real_key = is_real[:, :kv_heads].flatten()
    # The query heads of one key head stand below each other, so that each key head takes one product.
    unseen = torch.full((len(place), len(place)), float("-inf"), dtype=dtype).triu(1)
    if window:
        unseen.masked_fill_(place[:, None] - place >= window, float("-inf"))
    return _Group(
        unseen=unseen.repeat(heads // kv_heads, 1),
        queries=(tokens * heads + torch.arange(heads)[:, None]).flatten(),
        keys=(tokens * kv_heads + torch.arange(kv_heads)[:, None]).flatten(),
        real_queries=is_real.flatten().nonzero()[:, 0],
        real_keys=is_real_key.nonzero()[:, 0],
        filling=(~is_real).flatten().nonzero()[:, 0],
    )


def _pairs(packed: torch.Tensor) -> torch.Tensor:
    """(heads, tokens, size) as (tokens * heads, size)."""
    return packed.transpose(0, 1).reshape(-1, packed.shape[2])


def _packed(pairs: torch.Tensor, heads: int) -> torch.Tensor:
    """(tokens * heads, size) as (heads, tokens, size)."""
    return pairs.view(-1, heads, pairs.shape[1]).transpose(0, 1)


@torch.library.custom_op("toolforge::attend_rows", mutates_args=())
def attend_rows(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, ends: torch.Tensor, window: int, scaling: float
) -> torch.Tensor:
    """Causal attention within each row and window. query is (heads, tokens, size), key and value (kv_heads, tokens, size), as the result is query."""
    queries, keys, values = _pairs(query), _pairs(key), _pairs(value)
    out = torch.empty_like(queries)
    for group in _groups(tuple(ends.tolist()), window, len(query), len(key), query.dtype, query.device):
        weights = group.weights(group.take_queries(queries), group.take_keys(keys), scaling)
        group.put_queries(weights @ group.take_keys(values), out)
    return _packed(out, len(query))


@attend_rows.register_fake
def _(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, ends: torch.Tensor, window: int, scaling: float
) -> torch.Tensor:
    return _like(query)


@torch.library.custom_op("toolforge::attend_rows_backward", mutates_args=())
def attend_rows_backward(
    gradient: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    ends: torch.Tensor,
    window: int,
    scaling: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gradients of attend_rows by query, key and value, its weights reckoned again."""
    gradients, queries, keys, values = _pairs(gradient), _pairs(query), _pairs(key), _pairs(value)
    d_queries, d_keys, d_values = torch.empty_like(queries), torch.empty_like(keys), torch.empty_like(values)
    for group in _groups(tuple(ends.tolist()), window, len(query), len(key), query.dtype, query.device):
        q, k, v = group.take_queries(queries), group.take_keys(keys), group.take_keys(values)
        g = group.take_queries(gradients)
        # Filling has no gradient: what it repeats has its own.
        g.view(-1, g.shape[2]).index_fill_(0, group.filling, 0)
        weights = group.weights(q, k, scaling)
        group.put_keys(weights.transpose(1, 2) @ g, d_values)
        d_scores = torch._softmax_backward_data(g @ v.transpose(1, 2), weights, -1, weights.dtype).mul_(scaling)
        group.put_queries(d_scores @ k, d_queries)
        group.put_keys(d_scores.transpose(1, 2) @ q, d_keys)
    return _packed(d_queries, len(query)), _packed(d_keys, len(key)), _packed(d_values, len(value))


def _like(packed: torch.Tensor) -> torch.Tensor:
    heads, tokens, size = packed.shape
    return packed.new_empty(tokens, heads, size).transpose(0, 1)


@attend_rows_backward.register_fake
def _(
    gradient: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    ends: torch.Tensor,
    window: int,
    scaling: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return _like(query), _like(key), _like(value)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    *tensors, ctx.window, ctx.scaling = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    return *attend_rows_backward(gradient, *ctx.saved_tensors, ctx.window, ctx.scaling), None, None, None


attend_rows.register_autograd(_backward, setup_context=_keep)


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    ends: torch.Tensor,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """`attend_rows` as transformers' attention functions are called: query is (1, heads, tokens, size), key and value
    (1, kv_heads, tokens, size); the result is (1, tokens, heads, size).
    """
    return attend_rows(query[0], key[0], value[0], ends, sliding_window or 0, scaling).transpose(0, 1)[None], None


AttentionInterface.register(PACKED, attend)
