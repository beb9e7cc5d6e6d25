"""Paired tests over questions: sign-flip permutation, non-inferiority, equivalence.

Differences are a - b and larger scores are better, so `a` is the claim's edit and `b` what it is held against.
"""

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from locus.errors import UserError
from locus.stats.bootstrap import CHUNK, NO_SPREAD, NO_UNIT, ONE_UNIT, resampled_t, unit_bootstrap
from locus.stats.estimate import (
    ALTERNATIVES,
    DRAWS,
    LEAST_P,
    NAN,
    Array,
    Estimate,
    PValue,
    check_choice,
    check_level,
    check_margin,
    flat,
    plain,
    unit_differences,
)

TEST_METHODS = ("t", "bootstrap")
# Up to 2**14 arrangements are all counted: as quick as a Monte-Carlo draw of the usual size, and exact.
EXACT_UP_TO = 14


@dataclass(frozen=True)
class MarginTest:
    """A paired mean difference tested against a margin that was declared beforehand.

    Attributes:
        estimate: mean difference with its two-sided interval of level 1 - 2 alpha.
        p: one-sided p against the margin (the larger of two for equivalence); NaN if undefined.
        alpha: the level of the test.
        margin_low: the difference must lie above this.
        margin_high: and below this; inf for non-inferiority.
        method: how p was computed.
        reason: why p is NaN; "" otherwise.
    """

    estimate: Estimate
    p: float
    alpha: float
    margin_low: float
    margin_high: float
    method: str
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether p is at or under alpha (never for an undefined p)."""
        return self.p <= self.alpha

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values; NaN and infinite margins become None."""
        return {**plain(asdict(self)), "estimate": self.estimate.to_dict()}


def _flipped_sums(values: Array, draws: int, seed: int) -> Array:
    """[draws] sums of [n] values with random signs."""
    rng = np.random.default_rng(seed)
    n, sums = len(values), []
    rows = max(1, CHUNK // n)
    for start in range(0, draws, rows):
        signs = rng.integers(0, 2, size=(min(rows, draws - start), n), dtype=np.int8)
        sums.append((2.0 * signs - 1.0) @ values)
    return np.concatenate(sums)


def _all_sums(values: Array) -> Array:
    """[2**n] sums of [n] values under every choice of signs."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def paired_permutation(
    a: ArrayLike,
    b: ArrayLike,
    *,
    alternative: str = "two-sided",
    groups: ArrayLike | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    exact_up_to: int = EXACT_UP_TO,
) -> PValue:
    """Sign-flip test of a zero mean difference over groups of questions.

    All 2**n arrangements are counted for n <= exact_up_to (at most 20); otherwise signs are drawn, and
    p = (1 + reached) / (1 + draws).

    Args:
        a: [n_questions], NaN where unscored.
        b: [n_questions], the same questions in the same order.
        alternative: "greater" (a above b), "less" or "two-sided".
        groups: [n_questions] group ids or None.
        draws: number of random arrangements.
        seed: of the arrangements.
        exact_up_to: largest n for which all arrangements are counted.

    Raises:
        UserError: if an argument cannot be used.

    Source: Good 2005, Permutation, Parametric and Bootstrap Tests; Phipson & Smyth 2010 for the added one.
    """
    check_choice(alternative, ALTERNATIVES, "alternative")
    check_margin(draws, "draws", 1)
    values = unit_differences(a, b, groups)
    n = len(values)
    exhaustive = n <= min(exact_up_to, 20)
    method = "sign-flip, all arrangements" if exhaustive else "sign-flip, random arrangements with the observed one added"
    if n == 0:
        return PValue(NAN, 0, method, alternative, reason=NO_UNIT)
    sums = _all_sums(values) if exhaustive else _flipped_sums(values, draws, seed)
    observed = float(values.sum())
    # Sums that are equal on paper may differ in the last bits; they must count as ties.
    slack = 1e-12 * float(np.abs(values).sum())
    if alternative == "two-sided":
        reached = int(np.sum(np.abs(sums) >= abs(observed) - slack))
    else:
        sign = 1.0 if alternative == "greater" else -1.0
        reached = int(np.sum(sign * sums >= sign * observed - slack))
    if exhaustive:
        return PValue(reached / len(sums), n, method, alternative, reached, len(sums))
    return PValue((1 + reached) / (1 + draws), n, method, alternative, reached, draws, seed)


def t_interval(values: Array, level: float) -> Estimate:
    """Student's t interval for the mean of [n] sampling units; no interval for n = 1, no width without spread."""
    n = len(values)
    if n == 0:
        return Estimate(NAN, NAN, NAN, 0, level, "t", reason=NO_UNIT)
    value = float(values.mean())
    if n == 1:
        return Estimate(value, NAN, NAN, 1, level, "t", reason=ONE_UNIT)
    reason = NO_SPREAD if flat(values) else ""
    half = float(special.stdtrit(n - 1, (1.0 + level) / 2.0)) * float(values.std(ddof=1)) / math.sqrt(n)
    return Estimate(value, value - half, value + half, n, level, "t", reason=reason)


def _p_above(values: Array, bound: float, method: str, seed: int) -> float:
    """One-sided p that the mean of [n >= 2] units is above a bound, n units in all.

    Without spread t is undefined; then all n units lie on one side, and the sign-flip p of that, 2**-n, is given.
    """
    n, distance = len(values), float(values.mean()) - bound
    if flat(values):
        return max(0.5**n, LEAST_P) if distance > 0.0 else 1.0
    t = distance / (float(values.std(ddof=1)) / math.sqrt(n))
    if method == "t":
        return max(float(special.stdtr(n - 1, -t)), LEAST_P)
    return (1 + int(np.sum(resampled_t(values, DRAWS, seed) >= t))) / (1 + DRAWS)


def _margin_test(values: Array, margins: tuple[float, float], alpha: float, method: str, seed: int) -> MarginTest:
    """Test [n] unit differences against one or both margins (-inf or inf: no margin on that side)."""
    check_level(alpha, "alpha")
    if alpha >= 0.5:
        raise UserError("an alpha below 0.5", repr(alpha), "The interval of level 1 - 2 alpha would be empty.")
    check_choice(method, TEST_METHODS, "method")
    level, low, high = 1.0 - 2.0 * alpha, *margins
    bootstrap = method == "bootstrap"
    estimate = unit_bootstrap(values, level, "studentised", DRAWS, seed) if bootstrap else t_interval(values, level)
    name = "studentised bootstrap" if bootstrap else "paired t"
    if len(values) < 2:
        return MarginTest(estimate, NAN, alpha, low, high, name, estimate.reason)
    if flat(values):
        name = "sign-flip at the margin (no spread)"
    ps = []
    if math.isfinite(low):
        ps.append(_p_above(values, low, method, seed))
    if math.isfinite(high):
        ps.append(_p_above(-values[::-1], -high, method, seed))
    return MarginTest(estimate, max(ps), alpha, low, high, name)


def noninferiority(
    a: ArrayLike,
    b: ArrayLike,
    margin: float,
    *,
    alpha: float = 0.05,
    method: str = "t",
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> MarginTest:
    """Paired non-inferiority: the mean of a - b lies above -margin.

    Null hypothesis: a is worse than b by the margin or more. Failing to reject says nothing for equality, which is why
    it is the claim that has to pass this and not a test of difference that has to fail.

    Args:
        a: [n_questions] scores of the claim's edit, larger is better, NaN where unscored.
        b: [n_questions] scores of the ceiling on the same questions.
        margin: the loss that still counts as none, in units of the scores; 0 asks for superiority.
        alpha: the level of the one-sided test.
        method: "t" or "bootstrap" (studentised, DRAWS resamples).
        groups: [n_questions] group ids or None.
        seed: of the bootstrap.

    Returns:
        Estimate with its interval of level 1 - 2 alpha, and p. Without spread p is that of a sign-flip, 2**-n.

    Raises:
        UserError: if an argument cannot be used.

    Source: Wellek 2010, Testing Statistical Hypotheses of Equivalence and Noninferiority, chapter 5.
    """
    check_margin(margin, "margin", 0.0)
    return _margin_test(unit_differences(a, b, groups), (-margin, math.inf), alpha, method, seed)


def tost(
    a: ArrayLike,
    b: ArrayLike,
    margins: tuple[float, float],
    *,
    alpha: float = 0.05,
    method: str = "t",
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> MarginTest:
    """Paired equivalence by two one-sided tests: the mean of a - b lies strictly between two margins.

    Args:
        a: [n_questions], NaN where unscored.
        b: [n_questions], the same questions in the same order.
        margins: (low, high), signed, low < high, in units of the scores.
        alpha: the level of each one-sided test, and of both together.
        method: "t" or "bootstrap" (studentised, DRAWS resamples).
        groups: [n_questions] group ids or None.
        seed: of the bootstrap.

    Returns:
        Estimate with its interval of level 1 - 2 alpha, and the larger of the two p-values.

    Raises:
        UserError: if an argument cannot be used.

    Source: Schuirmann 1987, two one-sided tests procedure.
    """
    low, high = margins
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError("two finite margins, low < high", f"{low!r}, {high!r}", "Give for example (-0.02, 0.02).")
    return _margin_test(unit_differences(a, b, groups), (low, high), alpha, method, seed)
