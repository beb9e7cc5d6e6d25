"""Is the claim special? Its rank among random Locations, fixed in number or drawn until it is decided.

Random entries that were not scored are dropped, and `n` tells. A tie counts as reached.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from locus.errors import UserError
from locus.stats.estimate import LEAST_P, NAN, PValue, check_level, vector

NO_CLAIM = "the claim was not scored"
NO_RANDOM = "no random location was scored"


def exact(alpha: float) -> Fraction:
    """Alpha as the decimal fraction that was written (0.05 is 1/20), so that p = alpha is decided exactly."""
    return Fraction(repr(float(alpha)))


def count_reached(claim: float, random: ArrayLike, greater: bool = True) -> tuple[int, int]:
    """How many random values reach the claim's, and how many were scored.

    Args:
        claim: the claim's value; not NaN.
        random: [n_random], NaN where unscored.
        greater: True if larger values speak for localization.
    """
    values = vector(random, "random")
    values = values[~np.isnan(values)]
    reached = values >= claim if greater else values <= claim
    return int(reached.sum()), len(values)


def monte_carlo_rank(claim: float, random: ArrayLike, greater: bool = True) -> PValue:
    """Monte-Carlo rank test of a claim against random Locations: p = (1 + number that reach it) / (1 + n_random).

    Exact if, under the null hypothesis, the claim is exchangeable with the random Locations.

    Args:
        claim: the claim's value.
        random: [n_random] values at random Locations, scored in the same way; NaN where unscored.
        greater: True if larger values speak for localization.

    Raises:
        UserError: if `random` is not one-dimensional or an entry is infinite.

    Source: Davison & Hinkley 1997, section 4.2; Phipson & Smyth 2010.
    """
    alternative, method = ("greater" if greater else "less"), "Monte-Carlo rank"
    reached, n = (0, 0) if math.isnan(claim) else count_reached(claim, random, greater)
    if math.isnan(claim) or n == 0:
        return PValue(NAN, n, method, alternative, reason=NO_CLAIM if math.isnan(claim) else NO_RANDOM)
    return PValue((1 + reached) / (1 + n), n, method, alternative, reached, n)


def smallest_p(n_random: int) -> float:
    """The least p a rank test with this many random Locations can give: 1 / (1 + n_random).

    Raises:
        UserError: if n_random is negative.
    """
    _check_counts(0, n_random)
    return 1.0 / (1.0 + n_random)


def least_random_for(alpha: float, n_claims: int = 1) -> int:
    """The least number of random Locations with which a rank test can reach alpha.

    With several claims under Holm the first step asks for alpha / n_claims.

    Args:
        alpha: the level of the test.
        n_claims: number of claims tested together.

    Raises:
        UserError: if alpha is not in (0, 1) or n_claims is below 1.
    """
    check_level(alpha, "alpha")
    if n_claims < 1:
        raise UserError("at least 1 claim", repr(n_claims), "Count the claims tested together.")
    return math.ceil(n_claims / exact(alpha)) - 1


def most_reached(alpha: float, n_random: int) -> int:
    """The most random Locations that may reach a claim with its rank p still at or under alpha; -1 if not even none."""
    check_level(alpha, "alpha")
    return math.floor(exact(alpha) * (1 + n_random)) - 1


def _check_counts(reached: int, n_drawn: int, n_max: int | None = None) -> None:
    if not 0 <= reached <= n_drawn or (n_max is not None and n_drawn > n_max):
        raise UserError(
            "0 <= number that reached the claim <= number drawn <= most that may be drawn",
            f"{reached}, {n_drawn}, {n_max}",
            "Count only the random locations that were scored.",
        )


def can_change(count_ge: int, n_drawn: int, n_max: int, alpha: float) -> bool:
    """Whether the decision "rank p <= alpha" of the whole n_max draws is still open after some of them.

    Stopping when it is not gives exactly the decision that all n_max draws would have given (curtailed sampling).

    Args:
        count_ge: how many of the drawn Locations reached the claim.
        n_drawn: how many were drawn and scored so far.
        n_max: how many would be drawn in all.
        alpha: the level of the test.

    Raises:
        UserError: if the counts do not fit together or alpha is not in (0, 1).
    """
    _check_counts(count_ge, n_drawn, n_max)
    most = most_reached(alpha, n_max)
    return count_ge <= most < count_ge + n_max - n_drawn


def rank_bounds(count_ge: int, n_drawn: int, n_max: int) -> tuple[float, float]:
    """The least and the greatest rank p that all n_max draws can still give; arguments as in `can_change`."""
    _check_counts(count_ge, n_drawn, n_max)
    return (1 + count_ge) / (1 + n_max), (1 + count_ge + n_max - n_drawn) / (1 + n_max)


def besag_clifford_p(count_ge: int, n_drawn: int, h: int, n_max: int) -> float:
    """p of the sequential Monte-Carlo test after some draws; NaN while it has to go on.

    It stops at the h-th draw that reaches the claim (p = h / drawn), or at n_max (p = (1 + count) / (1 + n_max)).

    Args:
        count_ge: how many draws reached the claim.
        n_drawn: how many were drawn.
        h: number that stops the test.
        n_max: most draws.

    Raises:
        UserError: if the counts do not fit together.

    Source: Besag & Clifford 1991, Sequential Monte Carlo p-values.
    """
    _check_counts(count_ge, n_drawn, n_max)
    if h < 1 or count_ge > h:
        remedy = "Stop at the h-th random location that reaches the claim; 10 is usual."
        raise UserError("h >= 1 and no draw after the h-th that reached the claim", f"h={h}, count {count_ge}", remedy)
    if count_ge == h:
        return h / n_drawn
    return (1 + count_ge) / (1 + n_max) if n_drawn == n_max else NAN


def besag_clifford(claim: float, random: Sequence[float], h: int, n_max: int, greater: bool = True) -> PValue:
    """Sequential Monte-Carlo test over random values in the order in which they were drawn.

    Args:
        claim: the claim's value.
        random: values at random Locations in order of drawing; values after the stop are not looked at.
        h: number of draws reaching the claim that stops the test.
        n_max: most draws.
        greater: True if larger values speak for localization.

    Returns:
        The p-value; NaN with a reason if more draws are needed than were given.

    Raises:
        UserError: if h or n_max cannot be used, or an entry is infinite.

    Source: Besag & Clifford 1991, Sequential Monte Carlo p-values.
    """
    alternative, method = ("greater" if greater else "less"), f"Besag-Clifford, h={h}, at most {n_max}"
    if math.isnan(claim):
        return PValue(NAN, 0, method, alternative, reason=NO_CLAIM)
    values = vector(random, "random")
    values = values[~np.isnan(values)][:n_max]
    reached = np.cumsum(values >= claim if greater else values <= claim)
    stop = int(np.searchsorted(reached, h)) + 1
    n_drawn = min(stop, len(values))
    count = int(reached[n_drawn - 1]) if n_drawn else 0
    p = besag_clifford_p(count, n_drawn, h, n_max)
    reason = f"not stopped after {n_drawn} draws: {count} of {h} reached the claim, {n_max} may be drawn"
    return PValue(p, n_drawn, method, alternative, count, n_drawn, reason=reason if math.isnan(p) else "")


def parametric_p(claim: float, random: ArrayLike, greater: bool = True) -> PValue:
    """One-sample t-test of the *mean* of random Locations against the claim's value: for comparison only.

    This is the kind of p that 16 random Locations can make as small as 1e-8, where their rank test stops at 1/17. It
    answers another question than "is the claim special": whether the mean of random Locations differs from the claim's
    value. With enough random Locations that holds for any claim that is not exactly average, so no verdict rests on it.

    Args:
        claim: the claim's value.
        random: [n_random], NaN where unscored.
        greater: True if larger values speak for localization.

    Raises:
        UserError: if `random` is not one-dimensional or an entry is infinite.

    Source: Wang & Veitch 2025, arXiv 2502.11447, which reports 1.6e-8 from 16 random draws.
    """
    alternative, method = (
        ("greater" if greater else "less"),
        "one-sample t of random against the claim (comparison only)",
    )
    values = vector(random, "random")
    values = values[~np.isnan(values)]
    n = len(values)
    if math.isnan(claim) or n < 2 or np.ptp(values) == 0.0:
        reason = NO_CLAIM if math.isnan(claim) else "fewer than 2 different values at random locations"
        return PValue(NAN, n, method, alternative, reason=reason)
    t = (claim - values.mean()) / (values.std(ddof=1) / math.sqrt(n))
    p = float(special.stdtr(n - 1, -t if greater else t))
    return PValue(max(p, LEAST_P), n, method, alternative)
