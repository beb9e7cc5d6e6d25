"""Power: against statsmodels, closed forms, and simulated experiments that run the very tests that are planned."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from locus.errors import UserError
from locus.stats import (
    measurement_noise,
    monte_carlo_rank,
    paired_power,
    questions_for_effect,
    questions_for_rank,
    random_for_power,
    rank_power,
    smallest_detectable_effect,
)


@pytest.mark.parametrize("two_sided", [True, False])
@pytest.mark.parametrize("n", [5, 50, 400])
def test_paired_power_equals_statsmodels(n: int, two_sided: bool) -> None:
    power = pytest.importorskip("statsmodels.stats.power").TTestPower()
    word = "two-sided" if two_sided else "larger"
    theirs = power.power(0.15 / 0.5, n, 0.05, alternative=word)
    assert paired_power(0.15, 0.5, n, two_sided=two_sided) == pytest.approx(theirs, abs=1e-10)
    effect = smallest_detectable_effect(0.5, n, power=0.9, two_sided=two_sided)
    # Its own solver stops at about 1e-5, so its power is evaluated at our answer instead.
    assert power.power(effect / 0.5, n, 0.05, alternative=word) == pytest.approx(0.9, abs=1e-10)
    assert paired_power(effect, 0.5, n, two_sided=two_sided) == pytest.approx(0.9, abs=1e-10)


def test_smallest_detectable_effect_near_the_normal_formula() -> None:
    # For large n: (z_0.975 + z_0.8) sd / sqrt(n) = (1.95996 + 0.84162) / 100 = 0.0280158.
    assert smallest_detectable_effect(1.0, 10_000) == pytest.approx(0.0280158, rel=1e-3)


def test_number_of_questions_is_the_least() -> None:
    found = questions_for_effect(0.2, 1.0)
    # The usual table's answer for d = 0.2, two-sided 0.05, power 0.8, one sample.
    assert found.n == 199
    assert found.power >= 0.8 > paired_power(0.2, 1.0, 198)
    nothing = questions_for_effect(0.0, 1.0)
    assert nothing.n is None
    assert nothing.reason
    assert questions_for_effect(50.0, 1.0).n in (2, 3)


def test_measurement_noise_by_hand() -> None:
    # Q = 25, S = 4: 2^2 / 25 + 1^2 / 4 + 5^2 / 100 = 0.16 + 0.25 + 0.25 = 0.66.
    assert measurement_noise(25, 4, question_sd=2.0, seed_sd=1.0, residual_sd=5.0) == pytest.approx(math.sqrt(0.66))


@pytest.mark.parametrize(("n_random", "size"), [(19, 1 / 20), (25, 1 / 26), (39, 2 / 40), (99, 5 / 100), (16, 0.0)])
def test_rank_power_of_the_null_is_the_exact_size(n_random: int, size: float) -> None:
    # An exchangeable claim takes each of the N + 1 ranks with probability 1 / (N + 1).
    assert rank_power(0.0, n_random, noise=0.7, claim_spread=1.0) == pytest.approx(size, abs=1e-10)


def test_rank_power_without_noise_by_hand() -> None:
    # N = 19 at 0.05: none of 19 standard normals may reach the claim: Phi(effect)^19.
    assert rank_power(2.5, 19) == pytest.approx(scipy_stats.norm.cdf(2.5) ** 19, abs=1e-12)
    # A vanishing noise changes nothing.
    assert rank_power(2.5, 19, noise=1e-6) == pytest.approx(rank_power(2.5, 19), abs=1e-6)


@pytest.mark.parametrize(("effect", "n_random", "noise"), [(2.0, 19, 0.5), (3.0, 39, 1.0), (1.5, 60, 0.2)])
def test_rank_power_equals_simulated_audits(effect: float, n_random: int, noise: float) -> None:
    rng = np.random.default_rng(0)
    runs = 3000
    random = rng.normal(size=(runs, n_random)) + noise * rng.normal(size=(runs, n_random))
    claims = effect + noise * rng.normal(size=runs)
    won = np.mean([monte_carlo_rank(claim, row).p <= 0.05 for claim, row in zip(claims, random, strict=True)])
    # Four standard errors of a simulated share.
    assert rank_power(effect, n_random, noise=noise) == pytest.approx(won, abs=4 * math.sqrt(0.25 / runs))


def test_rank_power_grows_with_effect_and_shrinks_with_noise() -> None:
    by_effect = [rank_power(effect, 39, noise=0.5) for effect in np.linspace(-1, 5, 13)]
    assert all(np.diff(by_effect) > 0.0)
    by_noise = [rank_power(3.0, 39, noise=noise) for noise in (0.0, 0.3, 0.6, 1.2)]
    assert all(np.diff(by_noise) < 0.0)
    assert rank_power(3.0, 39, noise=1.0, claim_noise=0.1) > rank_power(3.0, 39, noise=1.0)


def test_number_of_random_locations_is_the_least_step() -> None:
    found = random_for_power(2.0, 0.8)
    # Steps of 20 at alpha = 0.05: 19, 39, 59; the one before is not enough.
    assert found.n == 59
    assert found.power == rank_power(2.0, 59) >= 0.8 > rank_power(2.0, 39)
    # An effect below the 95th percentile (1.645 sd) is not special, however many are drawn.
    hopeless = random_for_power(1.5, 0.8)
    assert hopeless.n is None
    assert hopeless.power == 0.0
    assert hopeless.reason
    noisy = random_for_power(2.0, 0.8, noise=1.0)
    # Limit by hand: Phi(2 - 1.644854 * sqrt(2)) = Phi(-0.326175) = 0.372.
    assert noisy.n is None
    assert noisy.power == pytest.approx(0.372, abs=1e-3)


def test_number_of_questions_for_the_rank_test_is_the_least() -> None:
    found = questions_for_rank(2.5, 39, question_sd=2.0)
    assert found.n is not None
    assert found.power >= 0.8
    assert rank_power(2.5, 39, noise=2.0 / math.sqrt(found.n - 1)) < 0.8
    assert rank_power(2.5, 39, noise=2.0 / math.sqrt(found.n)) == pytest.approx(found.power)
    few = questions_for_rank(2.5, 16, question_sd=2.0)
    assert few.n is None
    assert few.power == 0.0
    assert few.reason
    assert questions_for_rank(2.5, 39, 2.0, seed_noise=3.0).n is None


def test_arguments_that_cannot_be_used_are_refused() -> None:
    for call in (
        lambda: paired_power(1.0, 0.0, 10),
        lambda: paired_power(1.0, 1.0, 1),
        lambda: smallest_detectable_effect(1.0, 0),
        lambda: smallest_detectable_effect(1.0, 10, power=0.01),
        lambda: rank_power(1.0, -1),
        lambda: rank_power(1.0, 19, noise=-1.0),
        lambda: questions_for_rank(1.0, 39, 1.0, power=0.3),
        lambda: measurement_noise(0, 1, 1.0),
    ):
        with pytest.raises(UserError):
            call()
