"""How much memory a training takes, from a base's sizes and the adapter's: an upper bound for rows that are all as long as may be."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

# Every matrix that an adapter can stand beside.
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
# The part of a row's tokens that its completion has: 0.43 of the train rows under the default base's tokenizer.
COMPLETION = 0.5


@dataclass(frozen=True)
class Base:
    """A base's sizes, under the names of transformers' configs."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    tie_word_embeddings: bool

    @classmethod
    def of(cls, config: Any) -> "Base":
        """Those of a transformers config."""
        heads = config.num_attention_heads
        return cls(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_hidden_layers,
            num_attention_heads=heads,
            num_key_value_heads=getattr(config, "num_key_value_heads", None) or heads,
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
            tie_word_embeddings=bool(config.tie_word_embeddings),
        )

    @property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """A layer's matrices by name, each as (in, out)."""
        hidden, inner = self.hidden_size, self.intermediate_size
        queries, keys = self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        shapes = (
            (hidden, queries), (hidden, keys), (hidden, keys), (queries, hidden), (hidden, inner), (hidden, inner), (inner, hidden),
        )  # fmt: skip
        return dict(zip(TARGETS, shapes, strict=True))

    @property
    def rounded(self) -> int:
        """The weights that NF4 rounds: those of the layers' matrices. Norms and biases are left out of all counts."""
        return self.num_hidden_layers * sum(rows * columns for rows, columns in self.matrices.values())

    @property
    def kept(self) -> int:
        """The weights that it does not: embeddings and, where it has its own, the head."""
        return self.vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2)


# The recipes' bases, as their config.json on the hub has them: what is known before anything is downloaded.
PUBLISHED = {
    "Qwen/Qwen2.5-7B-Instruct": Base(152064, 3584, 18944, 28, 28, 4, 128, False),
    "mistralai/Mistral-7B-Instruct-v0.3": Base(32768, 4096, 14336, 32, 32, 8, 128, False),
    "meta-llama/Llama-3.1-8B-Instruct": Base(128256, 4096, 14336, 32, 32, 8, 128, False),
    "Qwen/Qwen3-0.6B": Base(151936, 1024, 3072, 28, 16, 8, 128, True),
    "HuggingFaceTB/SmolLM2-360M-Instruct": Base(49152, 960, 2560, 32, 15, 5, 64, True),
    "google/gemma-3-270m-it": Base(262144, 640, 2048, 18, 4, 1, 256, True),
}


@dataclass(frozen=True)
class Recipe:
    """What of params.yaml decides about memory. `batch` is the number of rows at once, `length` the longest row's tokens."""

    nf4: bool
    rank: int
    targets: Collection[str]
    batch: int
    length: int


@dataclass(frozen=True)
class Saving:
    """How memory is saved: optimizer states of 8 bits, which page out to the host; activations computed anew in the backward pass."""

    paged: bool
    checkpointing: bool


@dataclass(frozen=True)
class Need:
    """Bytes, by what holds them."""

    weights: int
    adapter: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        """All of them at once, as they are when the backward pass begins."""
        return self.weights + self.adapter + self.activations + self.logits


def estimate(base: Base, recipe: Recipe, saving: Saving, element: int) -> Need:
    """What a step takes where weights and activations have `element` bytes.

    - weights: NF4 with double quantization has 4 + 8/64 + 32/(64 * 256) = 4.127 bits (Dettmers et al. 2023, QLoRA, section 3).
    - adapter: r * (in + out) weights a matrix, in fp32, as are their gradients, and autocast's copy; AdamW's two states are fp32 too, of 8 bits where
      paged (Dettmers et al. 2022).
    - activations: what autograd keeps of a token in a layer, counted as Korthikanti et al. 2022 (Reducing Activation Recomputation, section 4.1) count it, for
      these layers, frozen weights and LoRA: each norm's input in fp32 and its output, queries and keys, in fp32 too where they have norms, values, the attention's
      output, four of the MLP's inner size, and each matrix's r. With checkpointing: each layer's input, and one layer whole. To that the last norm, and the
      packed attention's scores of one layer, three times in its backward pass.
    - logits: of the completion's tokens alone, with their copy in fp32 and the gradients of both. A CPU takes them in parts and needs less.
    """
    layers, hidden, inner = base.num_hidden_layers, base.hidden_size, base.intermediate_size
    queries, keys = base.num_attention_heads * base.head_dim, base.num_key_value_heads * base.head_dim
    tokens = recipe.batch * recipe.length
    adapted = layers * sum(recipe.rank * sum(base.matrices[name]) for name in recipe.targets)
    norm = (4 + element) * hidden
    layer = (
        2 * norm
        + 4 * (queries + keys)
        + element * (2 * queries + 2 * keys + 4 * inner + recipe.rank * len(recipe.targets))
    )
    scores = 3 * element * recipe.batch * base.num_attention_heads * recipe.length**2
    kept = norm + (layers * element * hidden + layer if saving.checkpointing else layers * layer)
    return Need(
        weights=round(base.rounded * (4.127 / 8 if recipe.nf4 else element)) + base.kept * element,
        adapter=adapted * (4 + 4 + element + (2 if saving.paged else 8)),
        activations=tokens * kept + scores,
        logits=round(tokens * COMPLETION) * base.vocab_size * (2 * element + 8),
    )
