"""Gauss-Newton steps towards the optimal edit: what many epochs of small steps do, done by least squares, with a certificate.

With J the Jacobian of all answers' log-probs in an edit's numbers (linear.py), the objective of all pairs of a training set is,
to first order in the answers' gains f, a weighted least-squares problem. A step solves it under a ridge,

    minimise over dz    sum_p [ l_p'(h_p) d_p + c_p d_p^2 / 2 ] / pairs + lambda |dz|^2 / 2 ,    d = D J dz,

h = D f the pairs' margins, D their differences, c_p the curvature of the pair's loss: 2 for IPO (then it is least squares
exactly), tau^2 s (1 - s) for DPO (the generalised Gauss-Newton matrix). It is solved in the space of answers, whatever the edit's
size: with H = D' C D / pairs, of as many rows as there are answers, and its root R, dz = -J' R (R K R + lambda)^-1 R^+ D' l',
K = J J'. One eigendecomposition serves every lambda; the one whose *actual* loss is lowest is taken, so a step never raises the
loss.

The start is at the unedited model, b = 0, where J in a is zero and a is free: a(l) is the first right singular vector of
M(l) = sum over answers and tokens of w(s) g(s, t) o(t)', rows masked to what may be written, w(s) the derivative of the loss. The
Jacobian there belongs to the base model, so one pass over the answers serves every place of an audit.

Sources: Levenberg 1944 and Marquardt 1963 (the ridge as trust region); Schraudolph 2002 (generalised Gauss-Newton); Wang & Veitch
2025, eq. 4.2-4.3 (the edit).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from locus.edits.rank1 import Rank1
from locus.engine.linear import Gradients
from locus.engine.train import Pairs, pair_loss

EDGE = 1e-9  # of the largest eigenvalue: below it a direction is none


@dataclass(frozen=True)
class Objective:
    """The mean loss of all pairs, as a function of the answers' gains in log-prob over the base model.

    Attributes:
        pairs: [pairs, 2], wanted and unwanted answers as places in the gains.
        divide: [answers], by what a gain is divided (1, or the answer's length where losses are of means).
        tau: IPO's or DPO's.
        kind: ipo or dpo.
    """

    pairs: Pairs
    divide: Tensor
    tau: float
    kind: str

    def margins(self, gains: Tensor) -> Tensor:
        """[..., pairs] from gains [..., answers]."""
        scaled = gains / self.divide
        return scaled[..., self.pairs[:, 0]] - scaled[..., self.pairs[:, 1]]

    def loss(self, gains: Tensor) -> Tensor:
        """[...] mean loss over all pairs, from gains [..., answers]."""
        margins = self.margins(gains)
        flat = margins.reshape(-1, margins.shape[-1])
        losses = pair_loss(flat, torch.full((len(flat),), self.tau, dtype=flat.dtype), self.kind)
        return losses.mean(dim=-1).reshape(margins.shape[:-1])

    def slope_and_curvature(self, gains: Tensor) -> tuple[Tensor, Tensor]:
        """The derivative of the loss by the gains, [answers], and its Gauss-Newton matrix, [answers, answers]."""
        margins = self.margins(gains.double())
        if self.kind == "ipo":
            slope, curvature = 2 * (margins - 1 / (2 * self.tau)), torch.full_like(margins, 2.0)
        else:
            share = torch.sigmoid(-self.tau * margins)
            slope, curvature = -self.tau * share, self.tau**2 * share * (1 - share)
        count, n_pairs = len(gains), len(self.pairs)
        first, second = (torch.from_numpy(self.pairs[:, side]) for side in (0, 1))
        by_answer = torch.zeros(count, dtype=torch.float64).index_add(0, first, slope).index_add(0, second, -slope)
        matrix = torch.zeros(count, count, dtype=torch.float64)
        for left, right, sign in ((first, first, 1), (second, second, 1), (first, second, -1), (second, first, -1)):
            matrix.index_put_((left, right), sign * curvature, accumulate=True)
        scale = 1 / self.divide.double()
        return by_answer * scale / n_pairs, matrix * scale[:, None] * scale / n_pairs


@dataclass(frozen=True)
class Steps:
    """Gauss-Newton steps of one linearisation, for every ridge.

    Attributes:
        top: the largest eigenvalue of the curvature, to which ridges are relative.
        gradient: [numbers], of the whole loss, where the Jacobian is of some of the answers only: it is followed exactly, and the
            curvature is the sample's.
    """

    jacobian: Tensor
    root: Tensor
    vectors: Tensor
    values: Tensor
    projected: Tensor
    top: float
    gradient: Tensor | None = None

    def step(self, ridge: float) -> Tensor:
        """dz for a ridge, as a share of the largest eigenvalue."""
        if self.gradient is not None:
            return -self._solved(self.gradient.double(), ridge * self.top).float()
        inner = self.vectors @ (self.projected / (self.values + ridge * self.top))
        return -(self.jacobian.T.double() @ (self.root @ inner)).float()

    def _solved(self, right: Tensor, weight: float) -> Tensor:
        """(J' H J + weight)^-1 right, by Woodbury's identity in the space of answers."""
        inner = self.vectors.T @ (self.root @ (self.jacobian.double() @ right))
        within = self.root @ (self.vectors @ (inner / (self.values + weight)))
        return (right - self.jacobian.T.double() @ within) / weight

    def promised(self, ridge: float) -> float:
        """By how much the linear model says that the step lowers the loss; at ridge 0 half the squared Newton decrement."""
        if self.gradient is not None:
            gradient, step = self.gradient.double(), self._solved(self.gradient.double(), ridge * self.top)
            curved = self.root @ (self.jacobian.double() @ step)
            return float(gradient @ step - 0.5 * curved @ curved)
        share = self.values / (self.values + ridge * self.top)
        return float((self.projected**2 * (share - 0.5 * share**2)).sum())


def steps_of(jacobian: Tensor, objective: Objective, gains: Tensor, gradient: Tensor | None = None) -> Steps:
    """The Gauss-Newton steps at a point.

    Args:
        jacobian: [answers, numbers], of the answers' log-probs.
        objective: of what.
        gains: [answers], of the point.
        gradient: [numbers], of the whole loss at the point, where the Jacobian's answers are a sample.
    """
    slope, curvature = objective.slope_and_curvature(gains)
    weights, basis = torch.linalg.eigh(curvature)
    sound = weights > EDGE * weights[-1].clamp(min=torch.finfo(torch.float64).tiny)
    half = torch.where(sound, weights.clamp(min=0).sqrt(), 0.0)
    inverse = torch.where(sound, 1 / weights.clamp(min=torch.finfo(torch.float64).tiny).sqrt(), 0.0)
    root, back = (basis * half) @ basis.T, (basis * inverse) @ basis.T
    wide = jacobian.double()
    values, vectors = torch.linalg.eigh(root @ (wide @ wide.T) @ root)
    values = values.clamp(min=0)
    # The slope lies in the range of the curvature, both being made of the same pairs; where J moves nothing, no step can.
    projected = torch.where(values > EDGE * values[-1], vectors.T @ (back @ slope), 0.0)
    return Steps(jacobian, root, vectors, values, projected, max(float(values[-1]), torch.finfo(torch.float64).tiny), gradient)


def jacobian_of(edit: Rank1, parts: Iterable[Gradients], count: int) -> tuple[Tensor, Tensor]:
    """[answers, numbers] derivatives of the answers' log-probs by the flat numbers of an edit, and [answers] the log-probs.

    Args:
        edit: at which the gradients were taken.
        parts: gradients of some answers each; together of all.
        count: answers in all.
    """
    jacobian, logprobs = torch.zeros(count, edit.flat.numel()), torch.zeros(count, dtype=torch.float64)
    size = edit.flat.numel() // len(edit.layers)
    for part in parts:
        rows = list(part.answers.sequences)
        logprobs[rows] = part.logprobs.double().cpu()
        real = part.answers.real
        for number, layer in enumerate(edit.layers):
            read, write = edit.jacobian(layer, part.inputs[layer], part.gradients[layer], real)
            jacobian[rows, number * size : (number + 1) * size] = torch.cat([read, write], dim=1).cpu()
    return jacobian, logprobs
