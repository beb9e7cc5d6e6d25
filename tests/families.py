"""Tiny random models of every supported family, made in code: no download, a second to build."""

from functools import cache

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from locus.behaviours.items import Item
from locus.models.model import Model

FAMILIES = (
    "llama",
    "llama-mha",
    "llama-mqa",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma2",
    "gemma3",
    "gpt2",
    "gpt_neox",
    "gpt_neox-serial",
)

QUESTIONS = tuple(
    Item(f"q{number}", question, true, false, true[0], f"g{number}", category="test")
    for number, (question, true, false) in enumerate(
        [
            ("Which planet is closest to the Sun?", ("Mercury", "It is Mercury"), ("Venus", "It is Venus", "Mars")),
            ("How many legs does an insect have?", ("Six legs",), ("Eight legs", "Ten")),
            ("What is the capital of Australia?", ("Canberra", "The city of Canberra"), ("Sydney",)),
            ("Is a whale a fish?", ("No, a mammal",), ("Yes, a fish", "Yes")),
            ("Who wrote Hamlet?", ("Shakespeare", "William Shakespeare"), ("Marlowe", "Christopher Marlowe")),
            ("What do pandas eat?", ("Bamboo",), ("Fish", "Meat", "Honey")),
            ("Which metal is liquid at room temperature?", ("Mercury",), ("Iron", "Lead")),
            ("What colour is an emerald?", ("Green", "It is green"), ("Red", "It is red")),
        ]
    )
)

SMALL = {"vocab_size": 384, "hidden_size": 32, "num_hidden_layers": 3, "max_position_embeddings": 512}
ATTENTION = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48}
ENDS = {"pad_token_id": 256, "bos_token_id": 257, "eos_token_id": 258}


def configuration(family: str):
    """A small configuration with the family's peculiarities switched on."""
    if family == "llama":
        return LlamaConfig(**SMALL, **ATTENTION, **ENDS, head_dim=12, attention_bias=True)
    if family == "llama-mha":
        return LlamaConfig(**SMALL, **{**ATTENTION, "num_key_value_heads": 4}, **ENDS)
    if family == "llama-mqa":
        return LlamaConfig(**SMALL, **{**ATTENTION, "num_key_value_heads": 1}, **ENDS, tie_word_embeddings=True)
    if family == "llama-kv3":  # for hostile shapes only
        return LlamaConfig(
            **{**SMALL, **ATTENTION, **ENDS, "hidden_size": 36, "num_attention_heads": 6, "num_key_value_heads": 3}
        )
    if family == "mistral":
        return MistralConfig(**SMALL, **ATTENTION, **ENDS, head_dim=8, sliding_window=7)
    if family == "qwen2":
        return Qwen2Config(**SMALL, **ATTENTION, **ENDS)
    if family == "qwen3":
        return Qwen3Config(**SMALL, **ATTENTION, **ENDS, head_dim=16)
    if family == "gemma2":
        return Gemma2Config(**SMALL, **ATTENTION, **ENDS, head_dim=12, sliding_window=6, query_pre_attn_scalar=12)
    if family == "gemma3":
        types = ["sliding_attention", "full_attention", "sliding_attention"]
        return Gemma3TextConfig(
            **SMALL, **ATTENTION, **ENDS, head_dim=12, sliding_window=6, layer_types=types, final_logit_softcapping=3.0
        )
    if family == "gpt2":
        return GPT2Config(vocab_size=384, n_embd=32, n_layer=3, n_head=4, n_positions=512, **ENDS)
    serial = family.endswith("serial")
    return GPTNeoXConfig(
        **SMALL, num_attention_heads=4, intermediate_size=48, **ENDS, use_parallel_residual=not serial, hidden_act="gelu"
    )


def byte_tokenizer(bos: bool = True) -> PreTrainedTokenizerFast:
    """One token a byte, with character offsets; knows every text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {char: index for index, char in enumerate(alphabet)} | {"<pad>": 256, "<s>": 257, "</s>": 258}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 257)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


@cache
def tiny(family: str) -> Model:
    """A tiny random model of a family, with weights large enough that every head matters."""
    torch.manual_seed(11)
    config = configuration(family)
    attention = "eager" if getattr(config, "attn_logit_softcapping", None) else "sdpa"
    hf = AutoModelForCausalLM.from_config(config, attn_implementation=attention).float()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in hf.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3, generator=generator)
            elif "norm" not in name and "ln_" not in name:
                parameter.normal_(0, 0.1, generator=generator)
    return Model(hf, byte_tokenizer(), f"tiny-{family}")
