"""The floor: multiply-adds that must be done, at the matrix rate this machine reaches in the same run.

What is counted is what every trial of an audit is charged with (`locus/engine/cost.py`); norms, activations, rotations, Python:
the rest is the distance to the floor.
"""

import time

import numpy as np
import torch

from benchmarks import material
from locus.engine import cost
from locus.engine.trie import PackedRow, Targets, TokenTrie
from locus.models.model import Model


def matrix_rate(seconds: float = 0.7) -> float:
    """Multiply-adds a second, as the median over products.

    On a CPU float32 ones of the shape of a 512-token row through a small MLP; on a GPU bfloat16 ones that fill it.
    """
    if material.device() == "cpu":
        rows, matrix = torch.randn(512, 576), torch.randn(1536, 576)
    else:
        rows, matrix = (torch.randn(8192, 8192, device=material.device(), dtype=torch.bfloat16) for _ in range(2))
    rates = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        start = time.perf_counter()
        for _ in range(10):
            torch.nn.functional.linear(rows, matrix)
        finish()
        rates.append(10 * rows.numel() * len(matrix) / (time.perf_counter() - start))
    return sorted(rates)[len(rates) // 2]


def finish() -> None:
    """Wait until the device has done what it was given."""
    if material.device() != "cpu":
        torch.cuda.synchronize()


def base_macs(model: Model, trie: TokenTrie) -> float:
    """One forward of the base model over a forest in which every shared prefix is run once, scored; without last tokens."""
    nodes = np.unique(np.concatenate([path[:-1] for path in trie.paths]))
    no_mask = np.zeros((0, 0), dtype=np.bool_)  # of thousands of tokens it would not fit, and depths tell what is seen
    read = PackedRow(nodes, trie.tokens[nodes], trie.positions[nodes], no_mask, trie.answer_mask[nodes])
    scored = {int(node) for path, one in zip(trie.paths, trie.sequences, strict=True) for node in path[one.start - 1 : -1]}
    return cost.forward(read, model.layout.n_layers, len(scored)).macs(cost.Sizes.of(model))


def edit_macs(model: Model, row: PackedRow, targets: Targets, first_layer: int, backward: bool) -> float:
    """One row under one edit from its first layer on, scored; if it is trained with the backward to that layer's head outputs."""
    layers, scored = model.layout.n_layers - first_layer, len(targets.predictors)
    work = cost.forward(row, layers, scored, predictors=scored)
    return (work + cost.backward(row, layers, scored, model.parallel) if backward else work).macs(cost.Sizes.of(model))
