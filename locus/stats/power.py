"""What a plan can find before it is run: paired means over questions, and the rank test over random Locations.

The rank test is planned on this model. In units of the standard deviation between random Locations, a random Location's
true value is standard normal; the claim's is `effect`, or normal around `effect` with sd `claim_spread` (1 and effect 0
is the null hypothesis of exchangeability). Both are measured with normal noise from finitely many questions and seeds.
What all Locations share (a hard question is hard everywhere) cancels and is no noise here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

from locus.errors import UserError
from locus.stats.estimate import check_level, check_margin
from locus.stats.ranks import exact, most_reached

MOST = 10_000_000


@dataclass(frozen=True)
class Wanted:
    """How many are needed.

    Attributes:
        n: the least number that reaches the power, or None if no number does.
        power: what is reached with it (with None: the most that can be reached).
        reason: why no number is enough; "" otherwise.
    """

    n: int | None
    power: float
    reason: str = ""


def paired_power(effect: float, sd: float, n: int, alpha: float = 0.05, two_sided: bool = True) -> float:
    """Power of the paired t-test over questions.

    For non-inferiority give true difference + margin as the effect, one-sided.

    Args:
        effect: true mean difference, in units of the scores.
        sd: standard deviation of the differences between questions, same units.
        n: number of questions (or groups of questions), at least 2.
        alpha: level of the test.
        two_sided: whether both directions are rejected.

    Raises:
        UserError: if an argument cannot be used.

    Source: Cohen 1988, Statistical Power Analysis, chapter 2 (noncentral t).
    """
    check_level(alpha, "alpha")
    check_margin(n, "n", 2)
    if not (math.isfinite(sd) and sd > 0.0):
        raise UserError("a positive standard deviation", repr(sd), "Estimate it on validation questions.")
    shift = effect / sd * math.sqrt(n)
    critical = float(special.stdtrit(n - 1, 1.0 - alpha / (2 if two_sided else 1)))
    power = _beyond(critical, n - 1, shift)
    return min(1.0, power + _beyond(critical, n - 1, -shift)) if two_sided else power


def _beyond(critical: float, degrees: int, shift: float) -> float:
    """P(noncentral t > critical); far out, where the library's series gives NaN, the normal limit decides."""
    tail = float(stats.nct.sf(critical, degrees, shift))
    return tail if math.isfinite(tail) else float(special.ndtr(shift - critical))


def smallest_detectable_effect(sd: float, n: int, alpha: float = 0.05, power: float = 0.8, two_sided: bool = True) -> float:
    """The least true mean difference that a paired t-test finds with the given power, in units of the scores.

    Arguments and errors as in `paired_power`; power is between alpha and 1. Without spread it is undefined (UserError).
    """
    check_level(power, "power")
    if power <= alpha:
        raise UserError(f"a power above alpha = {alpha:g}", repr(power), "0.8 and 0.9 are usual.")

    def excess(effect: float) -> float:
        return paired_power(effect, sd, n, alpha, two_sided) - power

    excess(0.0)  # refuses an n or sd that cannot be used, before anything is divided by it
    high = sd / math.sqrt(n)
    while excess(high) < 0.0:
        high *= 2.0
    return float(optimize.brentq(excess, 0.0, high, xtol=1e-14 * high, rtol=1e-12))


def _least(reaches: Callable[[int], bool], start: int) -> int | None:
    """The least integer from `start` up for which a monotone condition holds; None if none below MOST does."""
    high = start
    while not reaches(high):
        high *= 2
        if high > MOST:
            return None
    low = max(start - 1, high // 2)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


def questions_for_effect(effect: float, sd: float, alpha: float = 0.05, power: float = 0.8, two_sided: bool = True) -> Wanted:
    """How many questions a paired t-test needs to find an effect with the given power; arguments as above."""
    check_level(power, "power")
    if effect <= 0.0:
        return Wanted(None, alpha, "an effect of 0 or less cannot be told from none")
    n = _least(lambda count: paired_power(effect, sd, count, alpha, two_sided) >= power, 2)
    if n is None:
        return Wanted(None, paired_power(effect, sd, MOST, alpha, two_sided), f"more than {MOST} questions")
    return Wanted(n, paired_power(effect, sd, n, alpha, two_sided))


def measurement_noise(
    n_questions: int, n_seeds: int, question_sd: float, seed_sd: float = 0.0, residual_sd: float = 0.0
) -> float:
    """Standard deviation of a Location's measured mean around its true value.

    Args:
        n_questions: number of questions.
        n_seeds: number of training seeds per Location.
        question_sd: sd of the location x question interaction.
        seed_sd: sd between training seeds of one Location.
        residual_sd: sd of what is left of a single score.

    Returns:
        sqrt(question_sd^2 / Q + seed_sd^2 / S + residual_sd^2 / (Q S)), in the units given.

    Raises:
        UserError: if a count is below 1.
    """
    check_margin(n_questions, "n_questions", 1)
    check_margin(n_seeds, "n_seeds", 1)
    of_questions = (question_sd**2 + residual_sd**2 / n_seeds) / n_questions
    return math.sqrt(of_questions + seed_sd**2 / n_seeds)


def rank_power(
    effect: float,
    n_random: int,
    *,
    alpha: float = 0.05,
    noise: float = 0.0,
    claim_noise: float | None = None,
    claim_spread: float = 0.0,
) -> float:
    """Probability that the rank test with n_random random Locations gives p <= alpha.

    The claim wins if fewer than floor(alpha (1 + n_random)) random Locations reach it: a binomial tail, integrated over
    the claim's measured value.

    Args:
        effect: the claim's true value above the mean of random Locations, in sd between Locations.
        n_random: number of random Locations.
        alpha: level of the test.
        noise: sd of measurement noise of a random Location, same units (`measurement_noise`).
        claim_noise: the same of the claim; None if it is measured like the others.
        claim_spread: sd of the claim's true value around `effect`; 1 with effect 0 is the null hypothesis.

    Returns:
        Power, 0 if n_random is too small for alpha.

    Raises:
        UserError: if an argument cannot be used.

    Source: David & Nagaraja 2003, Order Statistics, section 2.1.
    """
    for name, size in (("n_random", n_random), ("noise", noise), ("claim_spread", claim_spread)):
        check_margin(size, name, 0.0)
    most = most_reached(alpha, n_random)
    if most < 0:
        return 0.0
    spread = math.hypot(noise if claim_noise is None else claim_noise, claim_spread)
    if spread == 0.0:
        return float(special.bdtr(most, n_random, special.ndtr(-effect / math.hypot(1.0, noise))))
    # The trapezoidal rule converges faster than any power for a smooth function with Gaussian tails.
    z = np.linspace(-9.0, 9.0, 4001)
    weights = np.exp(-0.5 * z**2)
    reach = special.ndtr(-(effect + spread * z) / math.hypot(1.0, noise))
    return float(np.sum(special.bdtr(most, n_random, reach) * weights) / np.sum(weights))


def _rank_limit(effect: float, alpha: float, noise: float) -> float:
    """Power of the rank test as n_random grows without bound; the claim's true value is fixed."""
    distance = effect - float(special.ndtri(1.0 - alpha)) * math.hypot(1.0, noise)
    return float(special.ndtr(distance / noise)) if noise > 0.0 else float(distance > 0.0)


def random_for_power(effect: float, power: float = 0.8, alpha: float = 0.05, noise: float = 0.0) -> Wanted:
    """How many random Locations the rank test needs for a power.

    Only numbers where one more may reach the claim are looked at (19, 39, 59, ... for alpha = 0.05): those in between
    cost more and find less. Arguments as in `rank_power`.

    Raises:
        UserError: if an argument cannot be used.
    """
    check_level(power, "power")
    check_level(alpha, "alpha")
    limit = _rank_limit(effect, alpha, noise)
    if limit <= power:
        reason = f"even endlessly many random locations give power {limit:.3f}; a larger effect or less noise is needed"
        return Wanted(None, limit, reason)

    def size(steps: int) -> int:
        return math.ceil(steps / exact(alpha)) - 1

    def reached(steps: int) -> float:
        return rank_power(effect, size(steps), alpha=alpha, noise=noise)

    steps = _least(lambda count: reached(count) >= power, 1)
    if steps is None:
        return Wanted(None, limit, f"more than {MOST} steps of random locations")
    return Wanted(size(steps), reached(steps))


def questions_for_rank(
    effect: float,
    n_random: int,
    question_sd: float,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    seed_noise: float = 0.0,
) -> Wanted:
    """How many questions the rank test needs for a power with a given number of random Locations.

    Args:
        effect: in sd between random Locations.
        n_random: number of random Locations.
        question_sd: sd of one question's part in a Location's mean (interaction and residual), same units.
        power: wanted, at least 0.5 (below that noise helps the claim, and the question has no single answer).
        alpha: level of the test.
        seed_noise: sd of the noise that more questions do not remove (seed_sd / sqrt(n_seeds)), same units.

    Raises:
        UserError: if an argument cannot be used.
    """
    check_level(power, "power")
    check_margin(power, "power", 0.5)

    def reached(count: float) -> float:
        return rank_power(effect, n_random, alpha=alpha, noise=math.hypot(question_sd / math.sqrt(count), seed_noise))

    limit = reached(math.inf)
    if limit < power:
        reason = f"even endlessly many questions give power {limit:.3f}; more random locations or seeds are needed"
        return Wanted(None, limit, reason)
    n = _least(lambda count: reached(count) >= power, 1)
    return Wanted(None, limit, f"more than {MOST} questions") if n is None else Wanted(n, reached(n))
