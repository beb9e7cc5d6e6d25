"""What both sides are given: the same frozen model on the same device, the same questions, the same token ids."""

import os
from typing import Any

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


def device() -> str:
    """Where everything is run: cpu or cuda."""
    return os.environ.get(TOLD, "cpu")


def frozen(model: str) -> Model:
    """The model on the device: in float32 on a CPU, in bfloat16 on a GPU."""
    return of_shape(ITS_SHAPE, model) if model == BILLION else load(model, device=device())


def of_shape(shape: dict[str, Any], name: str) -> Model:
    """A Llama with random weights, and the default model's tokenizer: what it says is nothing, what it costs is real."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    torch.manual_seed(0)
    dtype = torch.float32 if device() == "cpu" else torch.bfloat16
    with torch.device(device()):
        hf = AutoModelForCausalLM.from_config(LlamaConfig(**shape), dtype=dtype, attn_implementation="sdpa")
    return Model(hf, AutoTokenizer.from_pretrained(locate(DEFAULT_MODEL)[0]), name)


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
