"""The base model's linearisation, once for all places of an audit: where their searches begin, and how the loss curves.

With J the Jacobian of all answers' log-probs in an edit's numbers (linear.py), taken at one point of the layers of the *base*
model, the loss of any edit has about the curvature J' H J, H the Gauss-Newton matrix of the objective in the answers' log-probs.
Gradients with respect to what enters belong to the base model, so one pass over the answers serves every place; a place only
masks them, and an edit's own numbers only combine them.

The start is at the unedited model, b = 0, where J in a is zero and a is free: a(l) is the first right singular vector of
M(l) = sum over answers and tokens of w(s) g(s, t) o(t)', rows masked to what may be written, w(s) the derivative of the loss.
An edit of rank k begins with the first k of them.

Source: Halko, Martinsson & Tropp 2011, algorithm 4.4 (subspace iteration), for more than one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from locus.edits.rank1 import Rank1, Rank1Form
from locus.engine.cost import Work, linearised
from locus.engine.linear import Gradients, answers_of, gradients_of, jacobian_of
from locus.engine.objective import Objective
from locus.engine.trie import TokenTrie
from locus.models.layout import HEADS, Layout
from locus.models.model import Model
from locus.sites.positions import ALL

POWER_STEPS = 40  # of the iteration for first singular vectors
BLOCK_BYTES = 1 << 30  # of a Jacobian in double precision, of which so many numbers are looked at at once
HELD_BYTES = 2 << 30  # of the shared linearisation
TINY = 1e-30  # below any eigenvalue of a place that moves anything


@dataclass(frozen=True)
class Curvature:
    """J' H J of an edit, as (R J)' (R J) with R the root of H, and what it takes to solve with it under a ridge.

    Attributes:
        half: [answers, numbers], R J.
        values, vectors: eigenvalues and eigenvectors of (R J) (R J)'.
        top: the largest eigenvalue, to which ridges are relative.
    """

    half: Tensor
    values: Tensor
    vectors: Tensor
    top: float

    @classmethod
    def of(cls, half: Tensor) -> "Curvature":
        """From R J."""
        gram = torch.zeros(len(half), len(half), dtype=torch.float64)
        for block in _blocks(half):
            wide = half[:, block].double()
            gram += wide @ wide.T
        values, vectors = torch.linalg.eigh(gram)
        return cls(half, values.clamp(min=0), vectors, max(float(values[-1]), TINY))

    def solve(self, right: Tensor, ridge: float) -> Tensor:
        """(J' H J + ridge top)^-1 right, by Woodbury's identity in the space of answers."""
        weight, blocks = ridge * self.top, _blocks(self.half)
        moved = torch.zeros(len(self.half), dtype=torch.float64)
        for block in blocks:
            moved += self.half[:, block].double() @ right[block]
        inner = self.vectors.T @ moved
        inner = self.vectors @ (inner / (self.values + weight))
        solved = right.clone()
        for block in blocks:
            solved[block] -= self.half[:, block].double().T @ inner
        return solved / weight


def _blocks(matrix: Tensor) -> list[slice]:
    """Columns of a matrix, all of them if it is small, that are looked at at once."""
    count = max(1, BLOCK_BYTES // (8 * max(1, len(matrix))))
    return [slice(begin, begin + count) for begin in range(0, matrix.shape[1], count)]


class FirstOrder:
    """The base model's linearisation.

    Args:
        model: the model.
        trie: of the training items.
        form: whether edits write at their sites, or freely into what the map behind them gives.
        point: of the layers, at which they act.
        nbytes: memory for gradients; beyond it answers are left out, question by question, in an order drawn from the seed. A
            start from part of the questions is a start all the same, and a curvature a curvature.
        seed: of that order.
    """

    def __init__(
        self,
        model: Model,
        trie: TokenTrie,
        form: Rank1Form = "heads",
        nbytes: int = HELD_BYTES,
        seed: int = 0,
        point: str = HEADS,
    ):
        self.form, self.count = form, len(trie.sequences)
        layout = model.layout
        self.kept = kept_of(trie, layout, form, nbytes, seed, point)
        self.work = work_of(trie, self.kept, layout.n_layers)
        layers = layout.having(point)
        parts = answers_of(trie, self.kept)
        self.parts = [_packed(gradients_of(model, part, layers, form=form, point=point)) for part in parts]
        self.roots: dict[tuple[object, ...], Tensor] = {}

    def begin(self, edit: Rank1, objective: Objective) -> tuple[Curvature, Tensor]:
        """Turn an edit at the identity to where the loss falls: its reading vectors are set to what the gradient asks for.

        Returns:
            The curvature there, and the gradient, [numbers].
        """
        used = self._used(objective)
        slope = self.aim(edit, objective)
        jacobian, _ = jacobian_of(edit, self.parts, self.count)
        gradient = torch.cat([jacobian[:, block].T.double() @ slope for block in _blocks(jacobian)])
        return self._curved(jacobian, used), gradient

    def aim(self, edit: Rank1, objective: Objective) -> Tensor:
        """Set an edit's reading vectors to what the loss at the unedited model asks for; its slope by answer is given back."""
        slope, _ = self._used(objective).slope_and_curvature(torch.zeros(self.count, dtype=torch.float64))
        for layer in edit.layers:
            edit.set_read(layer, self._read(edit, layer, -slope.float()))
        return slope

    def curvature(self, edit: Rank1, objective: Objective) -> Curvature:
        """About the curvature of the loss at an edit's numbers."""
        jacobian, _ = jacobian_of(edit, self.parts, self.count)
        return self._curved(jacobian, self._used(objective))

    def _used(self, objective: Objective) -> Objective:
        """The objective over the pairs whose answers were kept."""
        return replace(objective, pairs=objective.pairs[np.isin(objective.pairs, self.kept).all(axis=1)])

    def _curved(self, jacobian: Tensor, used: Objective) -> Curvature:
        root, kept = self._root(used), jacobian[self.kept]
        return Curvature.of(torch.cat([(root @ kept[:, block].double()).float() for block in _blocks(kept)], dim=1))

    def _root(self, used: Objective) -> Tensor:
        """The root of H at the base model, which every place of an objective shares."""
        key = (used.kind, used.tau, used.divide.numpy().tobytes(), used.pairs.tobytes())
        if key not in self.roots:
            _, matrix = used.slope_and_curvature(torch.zeros(self.count, dtype=torch.float64))
            weights, basis = torch.linalg.eigh(matrix[self.kept][:, self.kept])
            self.roots[key] = (basis * weights.clamp(min=0).sqrt()) @ basis.T
        return self.roots[key]

    def _read(self, edit: Rank1, layer: int, weights: Tensor) -> Tensor:
        """[k, width], the first right singular vectors of a layer's weighted sum of g o', rows masked to what may be written."""
        mask = edit.written(layer) if self.form == "heads" else torch.ones(())
        total: Tensor | None = None
        for part in self.parts:
            inputs, gradients = part.inputs[layer].float(), part.gradients[layer].float() * mask
            if edit.positions != ALL:
                gradients = gradients * part.answers.acts(edit.positions)[:, :, None]
            gradients = gradients * weights[list(part.answers.sequences)][:, None, None]
            here = gradients.flatten(0, 1).T @ inputs.flatten(0, 1)
            total = here if total is None else total + here
        assert total is not None, "there are answers"
        total = total * edit.written(layer) if edit.read == "heads" else total
        return _first_right(total)[None] if edit.rank(layer) == 1 else _leading(total, edit.rank(layer))


def work_of(trie: TokenTrie, kept: Sequence[int], n_layers: int) -> Work:
    """What a linearisation of so many layers by some answers takes."""
    texts = [trie.sequences[index] for index in kept]
    return linearised([len(text.ids) - 1 for text in texts], sum(len(text.ids) - text.start for text in texts), n_layers)


def numbers_of(layout: Layout, form: Rank1Form, point: str) -> int:
    """Numbers that are kept for each token: what is at a point of the layers, and a gradient."""
    widths = [layout.width(point, layer) for layer in layout.having(point)]
    return sum(width + (layout.d_model if form == "free" else width) for width in widths)


def kept_of(
    trie: TokenTrie,
    layout: Layout,
    form: Rank1Form = "heads",
    nbytes: int = HELD_BYTES,
    seed: int = 0,
    point: str = HEADS,
) -> list[int]:
    """Answers of as many questions as there is room for, in an order drawn from the seed; of one question at least."""
    room = nbytes // (2 * numbers_of(layout, form, point))
    kept: list[int] = []
    taken = 0
    for owner in np.random.default_rng(seed).permutation(np.unique(trie.owners)):
        sequences = list(trie.sequences_of([int(owner)]))
        needed = sum(len(trie.sequences[index].ids) for index in sequences)
        if kept and taken + needed > room:
            break
        kept, taken = kept + sequences, taken + needed
    return sorted(kept)


def _packed(part: Gradients) -> Gradients:
    """In half the memory: a start needs no more than eight bits of mantissa."""
    real = part.answers.real[:, :, None]
    return replace(
        part,
        inputs={layer: values.bfloat16().cpu() for layer, values in part.inputs.items()},
        gradients={layer: (values.cpu() * real).bfloat16() for layer, values in part.gradients.items()},
    )


def _first_right(matrix: Tensor) -> Tensor:
    """The first right singular vector, by power iteration from the sum of the rows; its sign makes its largest entry positive."""
    vector = matrix.abs().sum(dim=0)
    if not float(vector.norm()):
        return torch.nn.functional.normalize(torch.ones_like(vector), dim=0)
    for _ in range(POWER_STEPS):
        vector = matrix.T @ (matrix @ (vector / vector.norm()))
    vector = vector / vector.norm()
    oriented: Tensor = vector * vector[vector.abs().argmax()].sign()
    return oriented


def _leading(matrix: Tensor, count: int) -> Tensor:
    """[count, columns], the first right singular vectors; by subspace iteration from the longest rows, twice as many."""
    wide = min(2 * count, *matrix.shape)
    longest = matrix.norm(dim=1).argsort(descending=True, stable=True)[:wide]
    basis, _ = torch.linalg.qr(matrix[longest].T)
    for _ in range(POWER_STEPS):
        basis, _ = torch.linalg.qr(matrix.T @ (matrix @ basis))
    _, _, turn = torch.linalg.svd(matrix @ basis, full_matrices=False)
    vectors = (basis @ turn.T)[:, :count].T
    oriented: Tensor = vectors * vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True)).sign()
    return oriented
