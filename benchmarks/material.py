"""What both sides are given: the same frozen model on the same device, the same questions, the same token ids."""

import os
from functools import cache
from typing import Any, Literal

import numpy as np
import torch

from locus import behaviours as datasets
from locus.behaviours.items import Item
from locus.behaviours.prompts import prompt_format
from locus.engine.training_set import all_pairs
from locus.engine.trie import TokenTrie, build_trie
from locus.models.load import load
from locus.models.locate import DEFAULT_MODEL, locate
from locus.models.model import Model
from locus.registry import MEMORY

TOLD = "LOCUS_BENCH_DEVICE"  # by `python -m benchmarks --device`, to every job's process
BILLION = "random:1b"
ITS_SHAPE = {  # of a Llama of 1.24 billion parameters
    "vocab_size": 128_256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "tie_word_embeddings": True,
    "max_position_embeddings": 8192,
}
SHAPES = {  # of Llamas with random weights: of Llama-3.2-1B's, of Llama-3.1-8B's, and of one that takes seconds on a CPU
    BILLION: ITS_SHAPE,
    "random:8b": {
        **ITS_SHAPE,
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "head_dim": 128,
        "tie_word_embeddings": False,
    },
    "random:tiny": {
        **ITS_SHAPE,
        "vocab_size": 49_152,  # of the tokenizer
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
    },
}


def device() -> str:
    """Where everything is run: cpu or cuda."""
    return os.environ.get(TOLD, "cpu")


def frozen(model: str, dtype: Literal["auto", "float32", "bfloat16"] = "auto") -> Model:
    """The model on the device: in float32 on a CPU, in bfloat16 on a GPU, if nothing else is asked for."""
    if model not in SHAPES:
        return load(model, device=device(), dtype=dtype)
    return of_shape(SHAPES[model], MEMORY + model, None if dtype == "auto" else getattr(torch, dtype))


@cache
def tokenizer() -> Any:
    """The default model's."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(locate(DEFAULT_MODEL)[0])


def of_shape(shape: dict[str, Any], name: str, dtype: torch.dtype | None = None) -> Model:
    """A Llama with random weights, and the default model's tokenizer: what it says is nothing, what it costs is real."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    dtype = dtype or (torch.float32 if device() == "cpu" else torch.bfloat16)
    with torch.device(device()):
        hf = AutoModelForCausalLM.from_config(LlamaConfig(**shape), dtype=dtype, attn_implementation="sdpa")
    return Model(hf, tokenizer(), name)


def allowed(exact: float) -> float:
    """How far two sides may lie apart: by what is said in float32, by a hundred times that in bfloat16."""
    return exact if device() == "cpu" else 100 * exact


def questions(data: str, count: int, seed: int = 0) -> tuple[Item, ...]:
    """A seeded draw of questions, in dataset order."""
    items = datasets.load(data).items
    chosen = np.sort(np.random.default_rng(seed).permutation(len(items))[:count])
    return tuple(items[index] for index in chosen)


def trie_of(model: Model, items: tuple[Item, ...]) -> TokenTrie:
    """Their question trees in the model's own prompt format."""
    return build_trie(model.tokenizer, prompt_format(model.tokenizer), items)


def pair_count(items: tuple[Item, ...]) -> int:
    """True x false pairs."""
    return sum(item.n_pairs for item in items)


def pairs_of(items: tuple[Item, ...], trie: TokenTrie) -> np.ndarray:
    """[pairs, 2] sequence indices, true and false, question by question."""
    return np.concatenate([all_pairs(items, trie, owner) for owner in range(len(items))])
