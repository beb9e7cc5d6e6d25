"""The search for the optimal edit: a start that all places of an audit share, then Gauss-Newton steps until nothing is promised.

Every place is searched alike: it begins at the best of a few ridges of the base model's own linearisation, goes on with steps of
its own, each the best of a few ridges by the *actual* loss of all training pairs, and ends when neither the last step brought nor
the linear model promises more than a stated share of the loss at the start. What it ends with is a certificate: the whole
training loss, the share of it that is still promised, and the number of steps.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from locus.edits.base import Edit
from locus.edits.rank1 import Rank1
from locus.engine.linear import Answers, Gradients, answers_of, gradients_of
from locus.engine.newton import Objective, Steps, jacobian_of, steps_of
from locus.engine.trie import TokenTrie
from locus.models.model import Model

RIDGES = (0.3, 0.1, 0.03, 0.01)  # of the first step, as shares of the largest eigenvalue of the curvature
AROUND = (3.0, 1.0, 0.3)  # of a later step, as multiples of the last step's
WIDER = 30.0  # times as large a ridge, where no step lowered the loss
TRIES = 3
SETTLED = 0.01  # share of the loss at the start
POWER_STEPS = 40  # of the iteration for a first singular vector
HELD_BYTES = 2 << 30  # of the shared linearisation

Gains = npt.NDArray[np.float64]
Score = Callable[[Sequence[Edit]], Gains]


@dataclass(frozen=True)
class Certificate:
    """How near to an optimum a search ended.

    Attributes:
        start: mean loss of all training pairs under the unedited model.
        loss: the same under the edit.
        promised: share of `start` by which the linear model at the end says that a step as long as the last would lower it; NaN
            where no step was taken from the end.
        steps: Gauss-Newton steps that were taken, the shared one included.
        settled: whether the last step and the next one's promise are both below `SETTLED` of the start.
        reason: why not, or "".
    """

    start: float
    loss: float
    promised: float
    steps: int
    settled: bool
    reason: str


class FirstOrder:
    """The base model's linearisation, once for all places of an audit.

    Args:
        model: the model.
        trie: of the training items.
        objective: what is minimised; its answers are the trie's.
        nbytes: memory for gradients; beyond it answers are left out, question by question, in an order drawn from the seed. A
            start from part of the questions is a start all the same.
        seed: of that order.
    """

    def __init__(self, model: Model, trie: TokenTrie, objective: Objective, nbytes: int = HELD_BYTES, seed: int = 0):
        self.model, self.objective = model, objective
        self.count = len(trie.sequences)
        kept = self._fitting(trie, nbytes, seed)
        layers = range(model.layout.n_layers)
        self.parts = [_packed(gradients_of(model, part, layers)) for part in answers_of(trie, kept)]
        used = np.isin(objective.pairs, kept).all(axis=1)
        self.used = replace(objective, pairs=objective.pairs[used])

    def _fitting(self, trie: TokenTrie, nbytes: int, seed: int) -> list[int]:
        """Answers of as many questions as there is room for."""
        layout = self.model.layout
        room = nbytes // (2 * 2 * layout.n_layers * layout.d_in)
        kept: list[int] = []
        owners = np.unique(trie.owners)
        for owner in np.random.default_rng(seed).permutation(owners):
            sequences = trie.sequences_of([int(owner)])
            needed = sum(len(trie.sequences[index].ids) for index in [*kept, *sequences])
            if kept and needed > room:
                break
            kept += sequences
        return sorted(kept)

    def steps(self, edit: Rank1) -> Steps:
        """The first step of an edit at the identity, whose reading vectors are set to what the gradient asks for."""
        assert edit.form == "heads", "the shared linearisation is by what enters the projections"
        gains = torch.zeros(self.count, dtype=torch.float64)
        slope, _ = self.used.slope_and_curvature(gains)
        for layer in edit.layers:
            edit.set_read(layer, self._read(edit, layer, -slope.float()))
        jacobian, _ = jacobian_of(edit, self.parts, self.count)
        return steps_of(jacobian, self.used, gains)

    def _read(self, edit: Rank1, layer: int, weights: Tensor) -> Tensor:
        """[d_in], the first right singular vector of the weighted sum of g o' of a layer, rows masked to what may be written."""
        total: Tensor | None = None
        for part in self.parts:
            inputs, gradients = part.inputs[layer].float(), part.gradients[layer].float() * edit.written(layer)
            gradients = gradients * weights[list(part.answers.sequences)][:, None, None]
            here = gradients.flatten(0, 1).T @ inputs.flatten(0, 1)
            total = here if total is None else total + here
        assert total is not None, "there are answers"
        if edit.read == "heads":
            total = total * edit.written(layer)
        return _first_right(total)


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
    vector = matrix.abs().sum(dim=0) + torch.finfo(torch.float32).tiny
    for _ in range(POWER_STEPS):
        vector = matrix.T @ (matrix @ (vector / vector.norm()))
        if not float(vector.norm()):
            return torch.nn.functional.normalize(torch.ones_like(vector), dim=0)
    vector = vector / vector.norm()
    oriented: Tensor = vector * vector[vector.abs().argmax()].sign()
    return oriented


@dataclass
class Search:
    """One edit's way to the optimum.

    Attributes:
        model: the model.
        answers: the training answers as rows.
        objective: what is minimised.
        score: gives [edits, answers] log-probs (nats) of all training answers.
        reference: [answers], those of the base model.
        steps: the most steps, the first included.
        gradient: gives the gradient of the whole loss at an edit, where `answers` are a sample, from which only the curvature is.
    """

    model: Model
    answers: Sequence[Answers]
    objective: Objective
    score: Score
    reference: Gains
    steps: int = 3
    gradient: Callable[[Rank1], Tensor] | None = None

    def run(self, edit: Rank1, shared: FirstOrder | None = None) -> Certificate:
        """Move an edit to the optimum.

        Args:
            edit: at the identity, to begin with a first step; or anywhere, to go on from there.
            shared: the base model's linearisation, for the first step of an edit at the identity.
        """
        count = len(self.reference)
        gains = self._gains([edit.frozen({})])[0]
        start = float(self.objective.loss(torch.zeros(count, dtype=torch.float64)))
        loss, ridge, promised, taken, brought = float(self.objective.loss(gains)), math.nan, math.nan, 0, math.inf
        while taken < self.steps:
            first = shared is not None and taken == 0 and edit.is_identity
            steps = shared.steps(edit) if first and shared is not None else self._linearised(edit, gains)
            promised = steps.promised(ridge if math.isfinite(ridge) else RIDGES[-1]) / start
            if promised < SETTLED and brought < SETTLED:
                break
            found = self._step(edit, steps, loss, ridge)
            if found is None:
                brought = 0.0
                break
            brought = (loss - found[1]) / start
            gains, loss, ridge = found
            taken += 1
            edit.balance()
        return self._ended(start, loss, promised, taken, brought)

    def _ended(self, start: float, loss: float, promised: float, taken: int, brought: float) -> Certificate:
        settled = brought < SETTLED
        reason = (
            ""
            if settled
            else f"the last of {taken} Gauss-Newton steps still brought {100 * brought:.1f} % of the loss at the start"
        )
        return Certificate(start, loss, promised, taken, settled, reason)

    def _linearised(self, edit: Rank1, gains: Tensor) -> Steps:
        layers = list(edit.layers)
        parts = (gradients_of(self.model, part, layers, edit) for part in self.answers)
        jacobian, _ = jacobian_of(edit, parts, len(self.reference))
        if self.gradient is None:
            return steps_of(jacobian, self.objective, gains)
        sampled = [index for part in self.answers for index in part.sequences]
        within = np.isin(self.objective.pairs, sampled).all(axis=1)
        return steps_of(jacobian, replace(self.objective, pairs=self.objective.pairs[within]), gains, self.gradient(edit))

    def _gains(self, edits: Sequence[Edit]) -> Tensor:
        return torch.from_numpy(self.score(edits) - self.reference)

    def _step(self, edit: Rank1, steps: Steps, loss: float, ridge: float) -> tuple[Tensor, float, float] | None:
        """Take the step of the ridge whose actual loss is lowest; gains, loss and ridge then, or None where none lowers it."""
        ridges = RIDGES if math.isnan(ridge) else tuple(ridge * factor for factor in AROUND)
        where = edit.flat.detach().clone()
        for _ in range(TRIES):
            moves = [steps.step(one) for one in ridges]
            gains = self._gains([edit.moved(where + move.to(where.device)) for move in moves])
            losses = [float(one) for one in self.objective.loss(gains)]
            best = int(np.nanargmin([one if math.isfinite(one) else np.inf for one in losses]))
            if losses[best] < loss:
                edit.flat.data = where + moves[best].to(where.device)
                return gains[best], losses[best], ridges[best]
            ridges = tuple(one * WIDER for one in ridges)
        return None
