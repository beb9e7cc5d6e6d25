"""Where the base model's activations lie, and how far edited ones leave them.

An intervention can carry activations to where the model never was, wake paths that were dormant, and so be no evidence of how the
model works (Grant et al. 2025, "Addressing divergent representations from causal interventions on neural networks", arXiv
2511.04638). What is looked at is the residual stream that leaves the last layer at every position that predicts a token of an
answer: all that an edit does to an answer goes through it.

The measure is the Mahalanobis distance from the base model's mean (Lee et al. 2018, "A simple unified framework for detecting
out-of-distribution samples and adversarial attacks", arXiv 1807.03888), with the covariance shrunk as in Ledoit and Wolf 2004, "A
well-conditioned estimator for large-dimensional covariance matrices": there are seldom many more positions than dimensions. Mean
and covariance are of training and validation questions. The bound is the 99th percentile of the base model's own distances on
*test* questions. So the base model is beyond it at 1 % of positions, whatever the model, and the same questions under an edit are
held against that 1 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from locus.engine import cost
from locus.engine.activations import BasePass
from locus.engine.alone import spread
from locus.engine.forward import Batch, ResidualCache, base
from locus.machine.threads import thread_pool
from locus.models.model import Model
from locus.models.shortcuts import RESIDUALS

Floats = npt.NDArray[np.float64]
PERCENTILE = 99.0  # of the base model's own distances
MOST = 8192  # positions from which mean and covariance are taken, evenly over all


@dataclass(frozen=True)
class Manifold:
    """Mean and whitening of the base model's activations, and how far from the mean these go.

    Attributes:
        mean: [width].
        whiten: [width, width], whose product with its transpose is the inverse of the covariance.
        bound: the 99th percentile of the base model's distances on test questions.
    """

    mean: Tensor
    whiten: Tensor
    bound: float

    def distances(self, states: Tensor) -> Tensor:
        """Mahalanobis distances from the mean, [...], of states [..., width]; in standard deviations of the base model."""
        far: Tensor = torch.linalg.vector_norm((states.float() - self.mean) @ self.whiten, dim=-1)
        return far

    def beyond(self, states: Tensor) -> Tensor:
        """Whether states [..., width] are further from the mean than the bound, [...]; so is what is no number."""
        return ~(self.distances(states) <= self.bound)


@dataclass
class Departures:
    """Counts, sequence by sequence, the answer tokens that are predicted from beyond the bound.

    Attributes:
        manifold: of the base model.
        counts: [edits, sequences].
    """

    manifold: Manifold
    counts: Floats

    def look(self, batch: Batch, states: Tensor) -> None:
        """Count those of one row; rows of different sequences may be counted at once.

        Args:
            batch: the row.
            states: [edits, predicting positions, width], what leaves the last layer.
        """
        beyond = self.manifold.beyond(states).cpu().numpy()[:, batch.targets.predictor]
        sequences = batch.targets.sequences
        for edit, tokens in enumerate(beyond):
            self.counts[edit, sequences] = np.bincount(batch.targets.sequence, weights=tokens, minlength=len(sequences))


def leaving(model: Model, batch: Batch, residual_cache: ResidualCache) -> Tensor:
    """What leaves the base model's last layer where a token of an answer is predicted, [positions, width].

    Of a model that is run whole it is what enters its vocabulary head.
    """
    last = model.layout.n_layers - 1
    held = residual_cache.residual(last, batch.row) if model.trees and RESIDUALS not in model.off else None
    if held is None:
        hidden = base(model, batch)
    else:
        with torch.no_grad():
            hidden = model.layer(last, held.to(model.end, model.dtype)[None], batch.entry)
    return hidden[0, torch.from_numpy(batch.targets.predictors).to(hidden.device)]


def fit(model: Model, known: Sequence[BasePass], asked: BasePass, tally: cost.Tally) -> Manifold:
    """Mean, covariance and bound of the base model's activations.

    Args:
        model: the model.
        known: the base passes over training and validation questions.
        asked: that over test questions.
        tally: where the base model's last layer is counted, which its passes do not keep.
    """
    from sklearn.covariance import ledoit_wolf  # slow to import

    learned = np.concatenate([_states(model, one, tally) for one in known]).astype(np.float64)
    learned = learned[np.linspace(0, len(learned) - 1, min(MOST, len(learned))).astype(int)]
    own = torch.from_numpy(_states(model, asked, tally)).to(model.end)
    covariance, _ = ledoit_wolf(learned)
    floor = 1e-6 * float(np.trace(covariance)) / len(covariance) or 1.0  # directions that no activation ever takes
    values, vectors = np.linalg.eigh(covariance)
    whiten = torch.from_numpy(vectors / np.sqrt(np.maximum(values, floor))).float().to(model.end)
    unbounded = Manifold(torch.from_numpy(learned.mean(axis=0)).float().to(model.end), whiten, np.inf)
    bound = float(np.percentile(unbounded.distances(own).cpu().numpy(), PERCENTILE))
    return Manifold(unbounded.mean, whiten, bound)


def _states(model: Model, one: BasePass, tally: cost.Tally) -> npt.NDArray[np.float32]:
    """[positions, width] of all rows of a base pass, in the order of the rows."""
    for batch in one.prepared:
        tally.add("read", [0], last_layer(model, batch))
    with thread_pool(model.n_threads) as each:
        states = [found.float().cpu() for found in each(lambda batch: leaving(model, batch, one.residuals), one.prepared)]
    return torch.cat(states).numpy()


def last_layer(model: Model, batch: Batch) -> cost.Work:
    """The work of `leaving` for a row whose residual stream is held; all layers of a model that is run whole."""
    n_layers = model.layout.n_layers
    return cost.forward(batch.row, 1, reused=n_layers - 1) if model.trees else cost.forward(spread(batch.row), n_layers)


def own_departures(model: Model, manifold: Manifold, asked: BasePass) -> Floats:
    """[sequences], answer tokens that the base model itself predicts from beyond the bound."""
    counted = Departures(manifold, np.zeros((1, len(asked.lengths))))
    for batch in asked.prepared:
        counted.look(batch, leaving(model, batch, asked.residuals)[None])
    own: Floats = counted.counts[0]
    return own
