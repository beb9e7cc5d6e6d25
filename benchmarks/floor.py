"""The floor: multiply-adds that must be done, at the matrix rate this machine reaches in the same run.

Counted are the layers' matrices for every token that an exact method has to run (each shared prefix once), attention over the
positions that are seen, and the vocabulary head where something is scored. A backward through frozen matrices costs one more
product each; gradients of weights are not needed. Norms, activations, rotations, Python: the rest is the distance to the floor.
"""

import time

import torch

from locus.forest import Forest, Row, Targets
from locus.model import Model


def matrix_rate(seconds: float = 0.7) -> float:
    """Multiply-adds a second in float32, as the median over products of the shape of a 512-token row through a small MLP."""
    rows, matrix = torch.randn(512, 576), torch.randn(1536, 576)
    rates = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        start = time.perf_counter()
        for _ in range(10):
            torch.nn.functional.linear(rows, matrix)
        rates.append(10 * rows.numel() * len(matrix) / (time.perf_counter() - start))
    return sorted(rates)[len(rates) // 2]


def _layer_weights(model: Model) -> tuple[int, int]:
    """Entries of one layer's matrices, and of those before its output projection (queries, keys, values)."""
    attention, projection = model.shape.output.split(".")
    matrices = {name: entry.numel() for name, entry in model.layers[0].named_parameters() if entry.ndim == 2}
    inside = {name: size for name, size in matrices.items() if name.startswith(f"{attention}.")}
    before = [size for name, size in inside.items() if not name.startswith(f"{attention}.{projection}")]
    return sum(matrices.values()), sum(before)


def _head(model: Model, positions: int) -> int:
    return positions * int(model.head.weight.numel())  # type: ignore[operator]


def base_macs(model: Model, forest: Forest) -> int:
    """One forward of the base model over a forest in which every shared prefix is run once, scored."""
    seen = int((forest.positions + 1).sum())
    layer = _layer_weights(model)[0] * len(forest) + 2 * model.anatomy.features * seen
    scored = {int(node) for path, one in zip(forest.paths, forest.sequences, strict=True) for node in path[one.start - 1 : -1]}
    return model.anatomy.n_layers * layer + _head(model, len(scored))


def edit_macs(model: Model, row: Row, targets: Targets, first_layer: int, backward: bool) -> int:
    """One row under one edit from its first layer on, scored; if it is trained with the backward to that layer's head outputs."""
    layers, head = model.anatomy.n_layers - first_layer, _head(model, len(targets.predictors))
    weights, before = _layer_weights(model)
    product, attention = weights * len(row), model.anatomy.features * int(row.sees.sum())
    forward = layers * (product + 2 * attention) + head
    if not backward:
        return forward
    return forward + layers * product - before * len(row) + (layers - 1) * 4 * attention + head
