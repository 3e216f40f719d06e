"""Packed rows must be to the model what the same rows are alone."""

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

from toolforge.attention import PACKED
from toolforge.packing import MULTIPLE, collate


@pytest.fixture(scope="module", params=[None, 12])
def tiny(request):
    """A Mistral, which is a Llama that can have a window."""
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, sliding_window=request.param,
    )  # fmt: skip
    return MistralForCausalLM(config).eval()


def rows(*lengths):
    draw = torch.Generator().manual_seed(1)
    made = []
    for length in lengths:
        ids = torch.randint(1, 97, (length,), generator=draw).tolist()
        made.append({"input_ids": ids, "labels": [-100, *ids[1:]]})
    return made


@pytest.mark.parametrize("lengths", [(5,), (3, 40, 1, 17), (MULTIPLE,), (63, 2), (128, 64), (30, 12, 28, 10, 25, 11)])
def test_packed_rows_give_the_logits_that_they_give_alone(tiny, lengths):
    made = rows(*lengths)
    batch = collate(made)
    labels = batch.pop("labels")
    assert batch["input_ids"].shape[1] % MULTIPLE == 0
    tiny.set_attn_implementation("eager")
    with torch.no_grad():
        alone = [tiny(input_ids=torch.tensor([row["input_ids"]])).logits[0] for row in made]
        tiny.set_attn_implementation(PACKED)
        packed = tiny(**batch, use_cache=False).logits[0]
    torch.testing.assert_close(packed[: sum(lengths)], torch.cat(alone), atol=1e-4, rtol=1e-4)
    assert (labels[0, sum(lengths) :] == -100).all()


def test_gradients_flow_as_they_do_alone(tiny):
    made = rows(9, 30, 4, 27, 8, 29)

    def gradient(losses):
        tiny.zero_grad()
        sum(losses).backward()
        return tiny.model.layers[0].self_attn.k_proj.weight.grad.clone()

    def loss(logits, labels):
        return torch.nn.functional.cross_entropy(logits[:-1], labels[1:], reduction="sum")

    tiny.set_attn_implementation("eager")
    alone = gradient(
        loss(tiny(input_ids=torch.tensor([row["input_ids"]])).logits[0], torch.tensor(row["labels"])) for row in made
    )
    tiny.set_attn_implementation(PACKED)
    batch = collate(made)
    labels = batch.pop("labels")
    packed = gradient([loss(tiny(**batch, use_cache=False).logits[0], labels[0])])
    torch.testing.assert_close(packed, alone, atol=1e-4, rtol=1e-3)
