"""Bootstrap intervals for means and paired mean differences, resampling groups of questions.

Three intervals: percentile, BCa (bias-corrected and accelerated) and studentised (bootstrap-t).
Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapters 12-14.
"""

import warnings
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike
from scipy import special

from locus.errors import UserError
from locus.stats.estimate import DRAWS, NAN, Array, Estimate, check_choice, check_level, flat, unit_differences, unit_values

METHODS = ("bca", "percentile", "studentised")
# Entries resampled at once: keeps the working set at some tens of megabytes for any number of questions.
CHUNK = 2_000_000

NO_UNIT = "no question was scored"
ONE_UNIT = "one question (or group of questions) shows no spread, so there is no interval"
NO_SPREAD = "every question gave the same value, so resampling shows no spread and the interval has no width"
NO_ENDS = "the resamples have too little spread for an interval of this method and level"


def resamples(values: Array, draws: int, seed: int) -> Iterator[Array]:
    """Resamples with replacement, some at a time.

    Args:
        values: [n].
        draws: number of resamples in all.
        seed: of the generator; the draws do not depend on how they are cut into chunks.

    Yields:
        [some, n] arrays whose first axes add up to `draws`.

    Raises:
        UserError: if `draws` is below 1.
    """
    if draws < 1:
        raise UserError("at least 1 bootstrap draw", repr(draws), f"Use about {DRAWS}.")
    n = len(values)
    if draws * n <= CHUNK:
        yield values[_picked(n, draws, seed)]
        return
    rng = np.random.default_rng(seed)
    rows = max(1, CHUNK // n)
    for start in range(0, draws, rows):
        yield values[rng.integers(0, n, size=(min(rows, draws - start), n))]


@lru_cache(maxsize=2)
def _picked(n: int, draws: int, seed: int) -> npt.NDArray[np.int64]:
    """[draws, n], which values resamples hold. A verdict resamples the same questions again and again, and always alike."""
    picked = np.random.default_rng(seed).integers(0, n, size=(draws, n))
    picked.flags.writeable = False
    return picked


def resampled_means(values: Array, draws: int, seed: int) -> Array:
    """[draws] means of resamples of `values` [n]."""
    return np.concatenate([chunk.mean(axis=1) for chunk in resamples(values, draws, seed)])


def resampled_t(values: Array, draws: int, seed: int) -> Array:
    """Studentised resampled means: (mean* - mean) / standard error*.

    A resample without spread gives an infinite value with the sign of mean* - mean, and 0 where both are equal.

    Args:
        values: [n], n >= 2.
        draws: number of resamples.
        seed: of the generator.

    Returns:
        [draws].
    """
    return _t_of(np.ascontiguousarray(values, dtype=np.float64).tobytes(), draws, seed)


@lru_cache(maxsize=8)
def _t_of(held: bytes, draws: int, seed: int) -> Array:
    """`resampled_t` of values [n] given by their bytes. A test and its interval ask for the same."""
    values = np.frombuffer(held)
    centre, chunks = values.mean(), []
    for chunk in resamples(values, draws, seed):
        shift = chunk.mean(axis=1) - centre
        error = chunk.std(axis=1, ddof=1) / np.sqrt(len(values))
        with np.errstate(divide="ignore", invalid="ignore"):
            chunks.append(np.where(shift == 0.0, 0.0, shift / error))
    found: Array = np.concatenate(chunks)
    found.flags.writeable = False
    return found


def bca_shares(values: Array, means: Array, level: float) -> tuple[float, float]:
    """Which quantiles of the resampled means are the ends of the BCa interval of a mean.

    Args:
        values: [n] not all equal.
        means: [draws] resampled means.
        level: of the interval.

    Returns:
        Two probabilities, lower end first.
    """
    centre = values.mean()
    below = 0.5 * (np.mean(means < centre) + np.mean(means <= centre))
    deviations = values - centre
    skew = float(np.sum(deviations**3) / (6.0 * np.sum(deviations**2) ** 1.5))
    bias = float(special.ndtri(below))
    tail = float(special.ndtri((1.0 - level) / 2.0))
    ends = [bias + (bias + z) / (1.0 - skew * (bias + z)) for z in (tail, -tail)]
    return float(special.ndtr(ends[0])), float(special.ndtr(ends[1]))


def mean_interval(values: Array, level: float, method: str, draws: int, seed: int) -> tuple[float, float]:
    """Both ends of a bootstrap interval for the mean of [n] values that are not all equal; NaN where undefined."""
    tail = (1.0 - level) / 2.0
    if method == "studentised":
        centre, error = float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
        with warnings.catch_warnings():
            # Interpolating between two infinite quantiles is NaN, and that is the answer wanted here.
            warnings.simplefilter("ignore", RuntimeWarning)
            low_t, high_t = np.quantile(resampled_t(values, draws, seed), [tail, 1.0 - tail])
        ends = (centre - error * float(high_t), centre - error * float(low_t))
        return ends if np.isfinite(ends).all() else (NAN, NAN)
    means = resampled_means(values, draws, seed)
    shares = (tail, 1.0 - tail) if method == "percentile" else bca_shares(values, means, level)
    if not np.isfinite(shares).all():
        return NAN, NAN
    low, high = np.quantile(means, shares)
    return float(low), float(high)


def unit_bootstrap(values: Array, level: float, method: str, draws: int, seed: int) -> Estimate:
    """Bootstrap the mean of sampling units that are already clean.

    Args:
        values: [n] finite, ascending.
        level: of the interval.
        method: one of METHODS.
        draws: number of resamples.
        seed: of the resampling.

    Returns:
        The mean and its interval, with the reason where one of them is undefined.

    Raises:
        UserError: if the level or the method cannot be used.
    """
    check_level(level)
    check_choice(method, METHODS, "method")
    n, name = len(values), f"bootstrap {method}"
    if n == 0:
        return Estimate(NAN, NAN, NAN, 0, level, name, seed, NO_UNIT)
    value = float(values.mean())
    if n == 1:
        return Estimate(value, NAN, NAN, 1, level, name, seed, ONE_UNIT)
    if flat(values):
        return Estimate(value, value, value, n, level, name, seed, NO_SPREAD)
    low, high = mean_interval(values, level, method, draws, seed)
    return Estimate(value, low, high, n, level, name, seed, NO_ENDS if np.isnan(low) else "")


def bootstrap_mean(
    values: ArrayLike,
    *,
    level: float = 0.95,
    method: str = "bca",
    groups: ArrayLike | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimate:
    """Mean of scores per question, with a bootstrap interval over groups of questions.

    Args:
        values: [n_questions], NaN where unscored.
        level: of the interval.
        method: "bca", "percentile" or "studentised".
        groups: [n_questions] group ids, averaged before anything else; None if each question stands for itself.
        draws: number of resamples.
        seed: of the resampling.

    Raises:
        UserError: if an argument cannot be used.

    Source: Efron & Tibshirani 1993, chapters 12-14.
    """
    return unit_bootstrap(unit_values(values, groups), level, method, draws, seed)


def paired_bootstrap(
    a: ArrayLike,
    b: ArrayLike,
    *,
    level: float = 0.95,
    method: str = "bca",
    groups: ArrayLike | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimate:
    """Mean difference a - b over the same questions, with a bootstrap interval over groups of questions.

    Args:
        a: [n_questions], NaN where unscored.
        b: [n_questions], the same questions in the same order.
        level: of the interval.
        method: "bca", "percentile" or "studentised".
        groups: [n_questions] group ids or None.
        draws: number of resamples.
        seed: of the resampling.

    Raises:
        UserError: if an argument cannot be used.

    Source: Efron & Tibshirani 1993, chapters 12-14.
    """
    return unit_bootstrap(unit_differences(a, b, groups), level, method, draws, seed)
