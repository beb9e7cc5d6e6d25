"""Which components have an effect, at a stated error rate; and how steady the answer is.

The usual rule (two standard deviations from the mean over components) nearly always finds something: of normal noise it
flags 4.6 %. Here every component is tested against a null made from its own examples: if it does nothing, the signs of its
effects by example are arbitrary. All components are flipped together, so that the largest statistic under the null is
that of components as correlated as these are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from locus.errors import UserError
from locus.patching.metrics import Array
from locus.stats import benjamini_hochberg
from locus.stats.estimate import DRAWS, Estimate, check_level, check_margin
from locus.stats.paired import EXACT_UP_TO, t_interval

Control = Literal["max-statistic", "benjamini-hochberg"]
CHUNK = 2000  # arrangements at once
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Detection:
    """Components tested for a mean effect beyond `least`.

    Attributes:
        mean: [components], mean effect over examples.
        intervals: by component, Student's t interval of its mean; not corrected for many components.
        p: [components], two-sided sign-flip p of each on its own; NaN if undefined.
        adjusted: [components], p corrected for all components.
        detected: [components], adjusted p at or under alpha.
        alpha: family-wise error (max-statistic) or false discovery rate (benjamini-hochberg).
        control: which of the two.
        least: the size of effect that counts as none.
        n: examples.
        reason: why p is undefined, or why nothing can be found; "" otherwise.
    """

    mean: Array
    intervals: list[Estimate]
    p: Array
    adjusted: Array
    detected: Mask
    alpha: float
    control: Control
    least: float
    n: int
    reason: str = ""


def detect(
    effects: Array,
    *,
    alpha: float = 0.05,
    control: Control = "max-statistic",
    least: float = 0.0,
    draws: int = DRAWS,
    seed: int = 0,
) -> Detection:
    """Test every component's mean effect against sign flips of its examples.

    Each side is tested on its own (above `least`, below -`least`) and the smaller p is doubled. All 2**n arrangements
    are counted for n <= 14 examples, else they are drawn and the observed one is added. With many examples even an
    effect that means nothing differs from 0: `least` says what counts.

    Args:
        effects: [components, examples].
        alpha: the error rate.
        control: family-wise by the largest statistic, or false discovery rate.
        least: in units of the effects.
        draws: number of random arrangements.
        seed: of the arrangements.

    Raises:
        UserError: if an argument cannot be used.

    Source: Nichols & Holmes 2002 (sign flips with the maximal statistic); Benjamini & Hochberg 1995.
    """
    check_level(alpha, "alpha")
    check_margin(least, "least", 0.0)
    check_margin(draws, "draws", 1)
    values = np.asarray(effects, dtype=np.float64)
    if values.ndim != 2 or 0 in values.shape:
        raise UserError("effects as [components, examples]", f"shape {values.shape}", "Keep the effects of every example.")
    n = values.shape[1]
    intervals = [t_interval(row, 1.0 - alpha) for row in values]
    mean = values.mean(axis=1)
    if n < 2 or not np.isfinite(values).all():
        reason = "one example has no spread" if n < 2 else "some effects are undefined"
        blank = np.full(len(values), np.nan)
        return Detection(mean, intervals, blank, blank, np.zeros(len(values), bool), alpha, control, least, n, reason)
    tails = [_flips(sign * values - least, draws, seed) for sign in (1.0, -1.0)]
    alone = np.minimum(1.0, 2.0 * np.minimum(tails[0][0], tails[1][0]))
    together = np.minimum(1.0, 2.0 * np.minimum(tails[0][1], tails[1][1]))
    adjusted = together if control == "max-statistic" else benjamini_hochberg(alone)
    smallest = 2.0 * (0.5**n if n <= EXACT_UP_TO else 1.0 / (1 + draws))
    reason = f"{n} examples cannot give a p at or under {alpha:g}" if smallest > alpha else ""
    return Detection(mean, intervals, alone, adjusted, adjusted <= alpha, alpha, control, least, n, reason)


def _flips(values: Array, draws: int, seed: int) -> tuple[Array, Array]:
    """One-sided p per component [components], alone and against the largest statistic over all."""
    n = values.shape[1]
    squares = (values**2).sum(axis=1)
    observed = _t(values.sum(axis=1)[None], squares, n)[0]
    exhaustive = n <= EXACT_UP_TO
    alone, together = np.zeros(len(values)), np.zeros(len(values))
    total = 0
    slack = 1e-9 * np.abs(np.where(np.isfinite(observed), observed, 0.0))  # equal on paper must count as a tie
    for signs in _signs(n, draws, seed, exhaustive):
        statistic = _t(signs @ values.T, squares, n)
        alone += (statistic >= observed - slack).sum(axis=0)
        together += (statistic.max(axis=1)[:, None] >= observed - slack).sum(axis=0)
        total += len(signs)
    return (alone / total, together / total) if exhaustive else ((1 + alone) / (1 + total), (1 + together) / (1 + total))


def _signs(n: int, draws: int, seed: int, exhaustive: bool) -> list[Array]:
    """Arrangements of n signs, [some, n] each: all of them, or as many as are drawn."""
    if exhaustive:
        bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        signs = (1 - 2 * bits).astype(np.float64)
        return [signs[start : start + CHUNK] for start in range(0, len(signs), CHUNK)]
    rng = np.random.default_rng(seed)
    sizes = [min(CHUNK, draws - start) for start in range(0, draws, CHUNK)]
    return [(2 * rng.integers(0, 2, size=(size, n)) - 1).astype(np.float64) for size in sizes]


def _t(sums: Array, squares: Array, n: int) -> Array:
    """Student's t from sums [arrangements, components] and sums of squares [components]; 0 where all values are 0."""
    mean = sums / n
    # Without spread t is infinite; a least relative variance keeps it finite and its order by sign.
    floor = 1e-12 * squares / n
    variance = np.maximum(squares / n - mean**2, floor) / (n - 1)
    return np.divide(mean, np.sqrt(variance), out=np.zeros_like(mean), where=variance > 0)


@dataclass(frozen=True)
class TwoDeviations:
    """The usual rule, labelled with what it would find in noise.

    Attributes:
        detected: [components], at least `deviations` standard deviations from the mean over components.
        deviations: two, usually.
        expected_false: components that it would flag, on average, were all effects normal noise.
        label: both in a sentence.
    """

    detected: Mask
    deviations: float
    expected_false: float
    label: str


def two_deviations(effects: Array, deviations: float = 2.0) -> TwoDeviations:
    """Components whose mean effect is far from the mean over components; no error rate is controlled.

    Args:
        effects: [components, examples].
        deviations: how many standard deviations (over components) are far.

    Source: Zhang & Nanda 2023, section 2.
    """
    means = np.asarray(effects, dtype=np.float64).mean(axis=1)
    detected = (np.abs(means - means.mean()) >= deviations * means.std()) & (means.std() > 0)
    expected = len(means) * 2.0 * float(special.ndtr(-deviations))
    label = (
        f"{int(detected.sum())} of {len(means)} components are {deviations:g} standard deviations from the mean; "
        f"normal noise alone would give {expected:.1f}"
    )
    return TwoDeviations(detected, deviations, expected, label)


Rule = Callable[[Array], Mask]


def top(count: int) -> Rule:
    """The rule that takes the `count` components of largest absolute mean effect."""

    def rule(effects: Array) -> Mask:
        mask = np.zeros(len(effects), dtype=bool)
        mask[np.argsort(-np.abs(effects.mean(axis=1)), kind="stable")[:count]] = True
        return mask

    return rule


def jaccard(a: Mask, b: Mask) -> float:
    """Shared over joint members of two sets; NaN where both are empty, which is no agreement on anything."""
    union = int((a | b).sum())
    return float((a & b).sum() / union) if union else float("nan")


@dataclass(frozen=True)
class Stability:
    """How far sets found from other examples agree.

    Attributes:
        jaccard: mean over the comparisons in which something was found; NaN if there is none.
        correlation: mean Pearson correlation of component means (split halves only; NaN otherwise).
        comparisons: how many, empty ones included.
        empty: comparisons in which nothing was found on either side.
        chance: Jaccard expected of two independent random sets of the size found, about k / (2 K - k).
        reason: why a value is NaN; "" otherwise.
    """

    jaccard: float
    correlation: float
    comparisons: int
    empty: int
    chance: float
    reason: str = ""


def split_halves(effects: Array, rule: Rule, splits: int = 20, seed: int = 0) -> Stability:
    """Apply a rule to both halves of the examples, over several random splits.

    Args:
        effects: [components, examples].
        rule: from effects to the components found.
        splits: how many.
        seed: of the splits.

    Raises:
        UserError: if there are fewer than 4 examples.
    """
    n = effects.shape[1]
    if n < 4:
        raise UserError("at least 4 examples to split", str(n), "Use more pairs.")
    rng = np.random.default_rng(seed)
    pairs, correlations = [], []
    for _ in range(splits):
        order = rng.permutation(n)
        first, second = effects[:, order[: n // 2]], effects[:, order[n // 2 :]]
        pairs.append((rule(first), rule(second)))
        means = first.mean(axis=1), second.mean(axis=1)
        if min(means[0].std(), means[1].std()) > 0:
            correlations.append(float(np.corrcoef(*means)[0, 1]))
    return _stability(pairs, float(np.mean(correlations)) if correlations else float("nan"))


def bootstrap_stability(effects: Array, rule: Rule, draws: int = 100, seed: int = 0) -> Stability:
    """Apply a rule to resampled examples and compare what it finds with what it finds in all of them.

    Args:
        effects: [components, examples].
        rule: from effects to the components found.
        draws: resamples.
        seed: of the resampling.
    """
    rng = np.random.default_rng(seed)
    n, reference = effects.shape[1], rule(effects)
    pairs = [(reference, rule(effects[:, rng.integers(0, n, size=n)])) for _ in range(draws)]
    return _stability(pairs, float("nan"))


def _stability(pairs: list[tuple[Mask, Mask]], correlation: float) -> Stability:
    values = np.array([jaccard(a, b) for a, b in pairs])
    empty = int(np.isnan(values).sum())
    total = len(pairs[0][0])
    size = float(np.mean([(a.sum() + b.sum()) / 2 for a, b in pairs]))
    chance = size / (2 * total - size)
    reason = "nothing was found in any comparison" if empty == len(values) else ""
    return Stability(float("nan") if reason else float(np.nanmean(values)), correlation, len(values), empty, chance, reason)
