"""Statistics of facts x layers: does what tracing says of a fact's layers tell at which of them the fact can be edited?

All is paired by fact: a fact's layers are ranked by both, and what tracing of *this* fact knows is held against what tracing of
another fact knows, since every fact's profile has much of the mean one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from locus import stats

Array = npt.NDArray[np.float64]
DRAWS = 2000


@dataclass(frozen=True)
class Paired:
    """The same facts, traced and edited.

    Attributes:
        restored: [facts, layers], share of what the corruption took that comes back.
        gain: [facts, layers], share of its target that the optimal edit gains.
        relations: of each fact.
    """

    restored: Array
    gain: Array
    relations: tuple[str, ...]

    def after(self, first: int) -> "Paired":
        """Without so many first layers."""
        return Paired(self.restored[:, first:], self.gain[:, first:], self.relations)

    @cached_property
    def across(self) -> Array:
        """[facts, facts], rank correlation over layers of a row's gain with a column's tracing; NaN where one of them is flat."""
        gain, restored = _standard(self.gain), _standard(self.restored)
        return gain @ restored.T

    @property
    def own(self) -> Array:
        """[facts], of a fact's gain with its own tracing."""
        return np.diag(self.across).copy()

    @property
    def beyond(self) -> Array:
        """[facts], how much more that is than with the tracing of another fact, mean over the others."""
        others, off = np.nan_to_num(self.across), ~np.eye(len(self.own), dtype=bool) & np.isfinite(self.across)
        count = off.sum(axis=1)
        mean = (others * off).sum(axis=1) / np.maximum(count, 1)
        return np.asarray(np.where(count > 0, self.own - mean, np.nan))


def _standard(values: Array) -> Array:
    """Rows as ranks of mean 0 and length 1; NaN where all are equal."""
    ranks = rankdata(values, axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(ranks, axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(lengths > 0, ranks / lengths, np.nan))


@dataclass(frozen=True)
class Explained:
    """Shares of the variance of gains over facts and layers.

    Attributes:
        layer: which layer it is explains so much.
        tracing: which tracing effect explains so much, alone.
        added: what tracing explains beyond the layer.
        interval: of `added`, 95 %, facts drawn anew with all of their layers.
        p: of `added` as large or larger where facts are given each other's tracings.

    Source: Hase et al. 2023, section 5, where edit success is regressed on the layer, on the tracing effect, and on both.
    """

    layer: float
    tracing: float
    added: float
    interval: tuple[float, float]
    p: float


def explained(pairs: Paired, seed: int = 0, draws: int = DRAWS) -> Explained:
    """Least squares of gains on layers, one mean each, and on tracing, one slope for all; NaN with fewer than three facts."""
    gain, restored = pairs.gain, pairs.restored
    count = len(gain)
    if count < 3 or np.ptp(gain) == 0:
        nothing = float("nan")
        return Explained(nothing, nothing, nothing, (nothing, nothing), nothing)
    rng = np.random.default_rng(seed)
    added = _added(gain, restored)
    drawn = [_added(gain[at], restored[at]) for at in rng.integers(count, size=(draws, count))]
    exchanged = [_added(gain, restored[rng.permutation(count)]) for _ in range(draws)]
    low, high = (float(one) for one in np.nanquantile(drawn, [0.025, 0.975]))
    within = gain - gain.mean(axis=0)
    p = (1 + sum(one >= added for one in exchanged)) / (1 + draws)
    whole = float(((gain - gain.mean()) ** 2).sum())
    alone = float(np.corrcoef(gain.ravel(), restored.ravel())[0, 1] ** 2) if np.ptp(restored) else 0.0
    return Explained(1 - float((within**2).sum()) / whole, alone, added, (low, high), p)


def _added(gain: Array, restored: Array) -> float:
    """What a slope on tracing explains of all variance, once each layer has its mean: by the residuals of both on layers."""
    y, x = gain - gain.mean(axis=0), restored - restored.mean(axis=0)
    whole, length = float(((gain - gain.mean()) ** 2).sum()), float((x**2).sum())
    if whole == 0:
        return float("nan")
    return float((x * y).sum()) ** 2 / length / whole if length > 0 else 0.0


def by_fact(values: Array, digits: int = 2) -> str:
    """A mean over facts with its 95 % interval; of those where it is defined."""
    return _cell(stats.bootstrap_mean(values, draws=DRAWS), digits)


def by_relation(values: Array, relations: Sequence[str], digits: int = 2) -> str:
    """The mean over relations of their means over facts, relations drawn anew."""
    return _cell(stats.bootstrap_mean(values, groups=list(relations), draws=DRAWS, method="percentile"), digits)


def _cell(one: stats.Estimate, digits: int) -> str:
    """With its interval, or with the reason why there is none."""
    if np.isnan(one.value):
        return "undefined"
    value = f"{one.value:.{digits}f}"
    return value if np.isnan(one.low) else f"{value} ({one.low:.{digits}f} to {one.high:.{digits}f})"


@dataclass(frozen=True)
class Places:
    """What edits do at the traced layer of each fact, and elsewhere; [facts] each.

    Attributes:
        traced: at the traced layer.
        others: mean over all others; `middle`, their median; `best`, the best of them, chosen by the very numbers it is shown by.
        as_good: share of the others that do at least as well.
    """

    traced: Array
    others: Array
    middle: Array
    best: Array
    as_good: Array


def places(values: Array, claims: Sequence[int]) -> Places:
    """Of values [facts, layers] and the traced layer of each fact."""
    at = np.arange(len(values)), np.array(claims)
    traced, left = values[at], np.ones(values.shape, dtype=bool)
    left[at] = False
    others = values[left].reshape(len(values), -1)
    as_good = (others >= traced[:, None]).mean(axis=1)
    return Places(traced, others.mean(axis=1), np.median(others, axis=1), others.max(axis=1), as_good)
