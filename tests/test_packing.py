"""Batches: what their rows learn from, and how long they are."""

import random

import pytest

from toolforge.packing import MULTIPLE, Balanced, collate


def test_no_row_learns_from_the_end_of_the_row_before():
    made = [{"input_ids": [7, 8], "labels": [7, 8]}, {"input_ids": [9, 10], "labels": [9, 10]}]
    batch = collate(made)
    assert batch["labels"][0, :4].tolist() == [-100, 8, -100, 10]
    assert batch["position_ids"][0, :4].tolist() == [0, 1, 0, 1]
    assert batch["input_ids"].shape == (1, MULTIPLE)


def batches(lengths, size, sampler):
    order = list(sampler)
    assert sorted(order) == list(range(len(lengths)))
    return [order[start : start + size] for start in range(0, len(order), size)]


@pytest.mark.parametrize("count", [1, 5, 16, 640, 651])
def test_all_batches_have_nearly_the_same_tokens_and_each_row_stands_once(count):
    draw = random.Random(0)
    lengths = [round(draw.lognormvariate(4.2, 0.45)) for _ in range(count)]
    made = batches(lengths, 16, Balanced(lengths, 16, seed=7))
    whole = [sum(lengths[row] for row in batch) for batch in made if len(batch) == 16]
    # Drawn at random, batches of such rows are some 550 tokens apart.
    assert len(whole) == count // 16
    assert not whole or max(whole) - min(whole) < max(lengths)


def test_each_epoch_draws_other_batches_and_a_seed_draws_the_same():
    lengths = [10 + n % 37 for n in range(200)]
    first, again = Balanced(lengths, 8, seed=1), Balanced(lengths, 8, seed=1)
    one = batches(lengths, 8, first)
    assert one == batches(lengths, 8, again)
    first.set_epoch(1)
    assert one != batches(lengths, 8, first)
    assert one != batches(lengths, 8, Balanced(lengths, 8, seed=2))
