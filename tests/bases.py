"""Tiny random bases of the architectures that the recipes train, each with its own kind of chat template, as folders of a hub's layout."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# In the format that each family publishes, tools and all but the last turns left out.
CHATML = """{%- if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}
{%- for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
# Qwen3 puts empty thoughts before its last answer, and asks with them only where thinking is off.
QWEN3 = """{%- for message in messages %}
{%- if message['role'] == 'assistant' and loop.last %}{{ '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' + message['content'] + '<|im_end|>\\n' }}
{%- else %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}"""
LLAMA = """{{- bos_token }}
{%- for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""
# The system message goes before the query only where the query is the last message, so not where an answer follows.
MISTRAL = """{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content'] %}{%- set turns = messages[1:] %}
{%- else %}{%- set turns = messages %}{%- endif %}{{- bos_token }}
{%- for message in turns %}{%- if message['role'] == 'user' %}
{%- if loop.last and system is defined %}{{ '[INST] ' + system + '\\n\\n' + message['content'] + '[/INST]' }}
{%- else %}{{ '[INST] ' + message['content'] + '[/INST]' }}{%- endif %}
{%- else %}{{ ' ' + message['content'] | trim + eos_token }}{%- endif %}{% endfor %}"""
MISTRAL_REFUSING = """{{- bos_token }}{%- for message in messages %}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}
{%- if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"""
GEMMA = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for message in messages %}{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""


@dataclass(frozen=True)
class Family:
    """`special` are the template's tokens, `eos` the tokenizer's own end, `end` that of a turn; `settings` are the config's own."""

    config: str
    template: str
    special: tuple[str, ...]
    eos: str
    end: str
    bos: str | None = None
    pad: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)


IM = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
INST = ("<s>", "</s>", "[INST]", "[/INST]")
FAMILIES = {
    "llama": Family(
        "LlamaConfig",
        LLAMA,
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        eos="<|eot_id|>",
        end="<|eot_id|>",
        bos="<|begin_of_text|>",
    ),
    "qwen2": Family(
        "Qwen2Config", CHATML, IM, eos="<|im_end|>", end="<|im_end|>", pad="<|endoftext|>",
        settings={"tie_word_embeddings": False},
    ),
    "qwen3": Family(
        "Qwen3Config", QWEN3, (*IM, "<think>", "</think>"), eos="<|im_end|>", end="<|im_end|>", pad="<|endoftext|>",
        settings={"head_dim": 16, "tie_word_embeddings": True},
    ),
    "mistral": Family("MistralConfig", MISTRAL, INST, eos="</s>", end="</s>", bos="<s>", settings={"sliding_window": None}),
    "mistral, refusing, sliding": Family(
        "MistralConfig", MISTRAL_REFUSING, INST, eos="</s>", end="</s>", bos="<s>", settings={"sliding_window": 24},
    ),
    "gemma": Family(
        "Gemma3TextConfig",
        GEMMA,
        ("<bos>", "<eos>", "<pad>", "<start_of_turn>", "<end_of_turn>"),
        eos="<eos>",
        end="<end_of_turn>",
        bos="<bos>",
        pad="<pad>",
        settings={
            "head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 24, "tie_word_embeddings": True,
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
}  # fmt: skip


def save_base(family: Family, texts: list[str], folder: Path) -> Path:
    """Make the base of a family, its tokenizer trained on some texts, and save both."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    # Qwen3's thoughts are tokens of their own, but no special ones: decoding keeps them.
    special = [token for token in family.special if "think" not in token]
    made.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=alphabet)
    )
    made.add_tokens([token for token in family.special if "think" in token])
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=family.bos, eos_token=family.eos, pad_token=family.pad,
        chat_template=family.template,
    )  # fmt: skip
    torch.manual_seed(1)
    config = getattr(transformers, family.config)(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, initializer_range=0.2, **family.settings,
    )  # fmt: skip
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
