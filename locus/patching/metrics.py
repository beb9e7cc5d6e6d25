"""What a run is asked: how much its next-token distribution looks like the clean run's. Larger is always more like clean.

Effects share one orientation. Denoising: patched - corrupted; noising: clean - patched. Positive therefore means that
the component supports the clean answer, whichever way it was found out; normalised by clean - corrupted, none is 0 and all is 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from locus.errors import UserError
from locus.patching.pairs import PatchPair

Array = npt.NDArray[np.float64]
Reduce = Literal["logsumexp", "mean", "sum"]
Direction = Literal["denoise", "noise"]
Normalise = Literal["none", "mean", "example"]
LEAST_SPAN = 1e-6  # a smaller clean - corrupted difference is rounding, and a ratio to it means nothing


class Metric(Protocol):
    """A value per prompt from next-token logits."""

    @property
    def name(self) -> str:
        """For tables."""
        ...

    def __call__(self, logits: Tensor, pairs: Sequence[PatchPair], clean: Tensor) -> Tensor:
        """[..., rows] from logits [..., rows, vocabulary], the rows' pairs, and the clean run's logits [rows, vocabulary]."""
        ...


@dataclass(frozen=True)
class LogitDifference:
    """Logit of the answer less that of the other answer.

    Attributes:
        reduce: of several tokens on a side (greater-than). Both `logsumexp` and `mean` ignore a constant added to all
            logits, which no prediction depends on; `sum` does so only for sides of equal size and is refused otherwise.
        name: for tables.

    Source: Zhang & Nanda 2023, section 2.
    """

    reduce: Reduce = "logsumexp"
    name: str = "logit difference"

    def __call__(self, logits: Tensor, pairs: Sequence[PatchPair], clean: Tensor) -> Tensor:
        """[..., rows]; see Metric.

        Raises:
            UserError: if `sum` is asked of sides of unequal size.
        """
        uneven = next((pair for pair in pairs if len(pair.answer) != len(pair.other)), None)
        if self.reduce == "sum" and uneven is not None:
            raise UserError(
                "as many answer tokens as other tokens, for a difference of sums",
                f"{len(uneven.answer)} and {len(uneven.other)}",
                "Use reduce = 'logsumexp' or 'mean': a sum over more tokens grows when all logits do.",
            )
        return self._side(logits, [pair.answer for pair in pairs]) - self._side(logits, [pair.other for pair in pairs])

    def _side(self, logits: Tensor, sets: Sequence[tuple[int, ...]]) -> Tensor:
        answer_logits, present = _gathered(logits, sets)
        if self.reduce == "logsumexp":
            return answer_logits.masked_fill(~present, float("-inf")).logsumexp(-1)
        total = answer_logits.masked_fill(~present, 0.0).sum(-1)
        return total if self.reduce == "sum" else total / present.sum(-1)


@dataclass(frozen=True)
class Probability:
    """Probability of the answer (of any of its tokens).

    Its effect when denoising is never below minus the corrupted run's probability: see `floor_warning`.
    """

    name: str = "probability"

    def __call__(self, logits: Tensor, pairs: Sequence[PatchPair], clean: Tensor) -> Tensor:
        """[..., rows]; see Metric."""
        logits_of_answers, present = _gathered(logits, [pair.answer for pair in pairs])
        answer_logit = logits_of_answers.masked_fill(~present, float("-inf")).logsumexp(-1)
        return (answer_logit - logits.logsumexp(-1)).exp()


@dataclass(frozen=True)
class Divergence:
    """Minus KL(clean || run) in nats over the whole vocabulary, so that 0 is the clean run and larger is more like it.

    When noising it can only fall: every component then has an effect at or above 0, and its sign says nothing.
    """

    name: str = "KL"

    def __call__(self, logits: Tensor, pairs: Sequence[PatchPair], clean: Tensor) -> Tensor:
        """[..., rows]; see Metric."""
        reference = clean.log_softmax(-1)
        return -(reference.exp() * (reference - logits.log_softmax(-1))).sum(-1)


METRICS: dict[str, Metric] = {
    "logit-difference": LogitDifference(),
    "kl": Divergence(),
    "probability": Probability(),
}


def _gathered(logits: Tensor, sets: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
    """Logits [..., rows, most] of each row's tokens, and [rows, most] whether a place is taken."""
    most = max(len(ids) for ids in sets)
    index = torch.tensor([list(ids) + [ids[0]] * (most - len(ids)) for ids in sets], device=logits.device)
    present = torch.tensor([[place < len(ids) for place in range(most)] for ids in sets], device=logits.device)
    return logits.gather(-1, index.expand(*logits.shape[:-1], most)), present


@dataclass(frozen=True)
class Effects:
    """Effects by patch and example, positive where a component supports the clean answer.

    Attributes:
        values: [patches, examples]; NaN where undefined.
        normalise: none (units of the metric), mean (by the mean clean - corrupted) or example (by each example's own).
        reason: why values are NaN, "" if none is.
    """

    values: Array
    normalise: Normalise
    reason: str = ""


def effects(patched: Array, clean: Array, corrupted: Array, direction: Direction, normalise: Normalise = "mean") -> Effects:
    """Effects of patches from metric values.

    `mean` is the ratio of means, and keeps examples comparable; `example` averages ratios, which a few examples with a
    small denominator can rule.

    Args:
        patched: [patches, examples].
        clean: [examples].
        corrupted: [examples]; NaN where the corruption is not a run of its own (ablation).
        direction: denoise or noise.
        normalise: none, mean or example.
    """
    raw = patched - corrupted[None] if direction == "denoise" else clean[None] - patched
    if normalise == "none":
        return Effects(raw, normalise, "" if np.isfinite(raw).all() else "the metric is undefined for some examples")
    span = clean - corrupted
    if normalise == "mean":
        span = np.full_like(span, span.mean())
    small = ~(np.abs(span) >= LEAST_SPAN)
    values = raw / np.where(small, np.nan, span)[None]
    reason = "clean and corrupted runs do not differ in the metric" if small.any() else ""
    return Effects(values, normalise, reason)


def floor_warning(corrupted: Array, values: Array, deviations: float = 2.0) -> str:
    """Why the probability metric cannot show negative components here, or "".

    A denoising effect in probability is at least -P(answer) of the corrupted run. Where that floor lies above the
    detection threshold, no component can be found negative, however strongly it works against the answer.

    Args:
        corrupted: [examples], probability of the answer in the corrupted run.
        values: [patches, examples], denoising effects in probability, not normalised.
        deviations: the rule's number of standard deviations over components.

    Source: Zhang & Nanda 2023, section 3.2 (an effect is bounded below by the corrupted run's probability).
    """
    means = values.mean(axis=1)
    floor, threshold = -float(corrupted.mean()), float(means.mean() - deviations * means.std())
    if floor <= threshold:
        return ""
    return (
        f"probability cannot show negative components here: no effect can be below {floor:.3g}, and the threshold of "
        f"{deviations:g} standard deviations is {threshold:.3g}; use the logit difference"
    )
