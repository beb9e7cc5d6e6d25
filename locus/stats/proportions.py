"""Proportions with exact bounds, and p-values of several claims taken together."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from locus.errors import UserError
from locus.stats.estimate import NAN, Array, Estimate, check_choice, check_level

SIDES = ("two-sided", "lower", "upper")


def clopper_pearson(k: int, n: int, level: float = 0.95, side: str = "two-sided") -> Estimate:
    """A proportion k / n with its exact interval or one-sided bound.

    Args:
        k: number of successes.
        n: number of trials.
        level: of the interval or bound; never less in truth.
        side: "two-sided", "lower" (a lower bound only, high = 1) or "upper" (an upper bound only, low = 0).

    Returns:
        The estimate; NaN with a reason for n = 0.

    Raises:
        UserError: if not 0 <= k <= n, or the level or side cannot be used.

    Source: Clopper & Pearson 1934.
    """
    check_level(level)
    check_choice(side, SIDES, "side")
    if not 0 <= k <= n:
        raise UserError("counts with 0 <= k <= n", f"k={k}, n={n}", "Count successes among the scored trials only.")
    method = f"Clopper-Pearson, {side}"
    if n == 0:
        return Estimate(NAN, NAN, NAN, 0, level, method, reason="no trial was scored")
    tail = (1.0 - level) / 2.0 if side == "two-sided" else 1.0 - level
    low = 0.0 if k == 0 or side == "upper" else float(special.betaincinv(k, n - k + 1, tail))
    high = 1.0 if k == n or side == "lower" else float(special.betainccinv(k + 1, n - k, tail))
    return Estimate(k / n, low, high, n, level, method)


def exact_interval(share: float, count: float, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a share, also of a number of independent answers that is no whole one.

    Args:
        share: of successes.
        count: how many there are in all, above 0.
        level: of the interval.

    Source: Clopper & Pearson 1934.
    """
    found, tail = share * count, (1.0 - level) / 2.0
    low = 0.0 if share <= 0.0 else float(special.betaincinv(found, count - found + 1.0, tail))
    high = 1.0 if share >= 1.0 else float(special.betainccinv(found + 1.0, count - found, tail))
    return low, high


def _family(ps: ArrayLike) -> tuple[Array, NDArray[np.intp]]:
    """p-values as an array, and their ascending order with undefined ones last.

    Raises:
        UserError: if an entry lies outside [0, 1].
    """
    array = np.atleast_1d(np.asarray(ps, dtype=np.float64))
    if array.ndim != 1 or ((array < 0.0) | (array > 1.0)).any():
        raise UserError("a list of p-values between 0 and 1", repr(ps), "Give one p-value per claim.")
    return array, np.argsort(array, kind="stable")


def holm(ps: ArrayLike) -> Array:
    """p-values adjusted by Holm's step-down method: family-wise error under any dependence.

    An undefined p (NaN) stays undefined and still counts in the family, because it was planned with the others.

    Args:
        ps: [n_claims].

    Returns:
        [n_claims] adjusted p-values in the same order.

    Raises:
        UserError: if an entry lies outside [0, 1].

    Source: Holm 1979.
    """
    array, order = _family(ps)
    factors = len(array) - np.arange(len(array))
    adjusted = np.empty_like(array)
    adjusted[order] = np.minimum(np.maximum.accumulate(array[order] * factors), 1.0)
    return adjusted


def benjamini_hochberg(ps: ArrayLike) -> Array:
    """p-values adjusted by the Benjamini-Hochberg step-up method: false discovery rate of independent tests.

    An undefined p (NaN) stays undefined and still counts in the family.

    Args:
        ps: [n_claims].

    Returns:
        [n_claims] adjusted p-values in the same order.

    Raises:
        UserError: if an entry lies outside [0, 1].

    Source: Benjamini & Hochberg 1995.
    """
    array, order = _family(ps)
    defined = order[: int((~np.isnan(array)).sum())]
    adjusted = np.full_like(array, NAN)
    scaled = array[defined] * len(array) / (np.arange(len(defined)) + 1.0)
    adjusted[defined] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted
