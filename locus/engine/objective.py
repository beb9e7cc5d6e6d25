"""The mean loss of all training pairs as a function of what answers gained, with its slope and its curvature.

h = D f are the pairs' margins, f the answers' gains in log-prob over the base model, D differences of two. The curvature is the
Gauss-Newton matrix D' C D / pairs, C the second derivative of a pair's loss: 2 for IPO, tau^2 s (1 - s) for DPO, s the sigmoid of
-tau h.

Source: Schraudolph 2002 (generalised Gauss-Newton).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from locus.engine.train import pair_loss
from locus.engine.training_set import Pairs


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
