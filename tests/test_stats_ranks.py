"""Rank tests: counted by hand, the same decision when stopped early, and valid under exchangeability."""

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from locus.errors import UserError
from locus.stats import (
    besag_clifford,
    besag_clifford_p,
    can_change,
    least_random_for,
    monte_carlo_rank,
    most_reached,
    parametric_p,
    rank_bounds,
    smallest_p,
)


def test_rank_by_hand() -> None:
    # 3, 5 and 9 reach 3 (a tie counts): p = (1 + 3) / (1 + 4). From below, 1 and 3 do: p = (1 + 2) / (1 + 4).
    random = [1.0, 3.0, math.nan, 5.0, 9.0]
    up, down = monte_carlo_rank(3.0, random), monte_carlo_rank(3.0, random, greater=False)
    assert (up.p, up.n, up.reached, up.alternative) == (0.8, 4, 3, "greater")
    assert (down.p, down.reached, down.alternative) == (0.6, 2, "less")


def test_rank_without_claim_or_random_is_undefined() -> None:
    for found in (monte_carlo_rank(math.nan, [1.0]), monte_carlo_rank(1.0, [math.nan]), monte_carlo_rank(1.0, [])):
        assert math.isnan(found.p)
        assert found.reason
        assert found.to_dict()["p"] is None


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=40), st.integers(-20, 20), st.randoms())
def test_rank_laws(random: list[int], claim: int, shuffler: object) -> None:
    found = monte_carlo_rank(claim, random)
    assert smallest_p(len(random)) <= found.p <= 1.0
    assert monte_carlo_rank(claim + 1, random).p <= found.p
    shuffled = list(random)
    shuffler.shuffle(shuffled)
    assert monte_carlo_rank(claim, shuffled) == found
    assert monte_carlo_rank(-claim, [-x for x in random], greater=False).p == found.p


def test_rank_is_exact_under_exchangeability() -> None:
    # With the claim one of N + 1 exchangeable values, each rank is as likely: p takes 1/5 .. 5/5 once each.
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    ps = [monte_carlo_rank(v, [w for w in values if w != v]).p for v in values]
    assert sorted(ps) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_least_number_of_random_locations() -> None:
    # 1 / (1 + N) <= 0.05 from N = 19 on; 16 random draws stop at 1/17; three claims under Holm need 1/60.
    assert (least_random_for(0.05), least_random_for(0.01), least_random_for(0.05, 3)) == (19, 99, 59)
    assert smallest_p(16) == pytest.approx(1 / 17)
    assert [most_reached(0.05, n) for n in (18, 19, 38, 39, 59)] == [-1, 0, 0, 1, 2]


@given(st.sampled_from([0.001, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3]), st.integers(1, 6))
def test_least_number_is_least(alpha: float, n_claims: int) -> None:
    n = least_random_for(alpha, n_claims)
    bound = Fraction(repr(alpha)) / n_claims
    assert Fraction(1, 1 + n) <= bound < Fraction(1, n)


@pytest.mark.parametrize(("n_max", "alpha"), [(9, 0.1), (9, 0.2), (9, 0.3), (8, 0.1)])
def test_stopping_when_settled_gives_the_decision_of_all_draws(n_max: int, alpha: float) -> None:
    saved = 0
    for outcome in product([0, 1], repeat=n_max):
        decision = Fraction(1 + sum(outcome), 1 + n_max) <= Fraction(repr(alpha))
        for drawn in range(n_max + 1):
            count = sum(outcome[:drawn])
            least, greatest = rank_bounds(count, drawn, n_max)
            assert least <= (1 + sum(outcome)) / (1 + n_max) <= greatest
            if not can_change(count, drawn, n_max, alpha):
                break
        saved += n_max - drawn
        # Settled means that the best and the worst that can still come lead to one decision.
        settled = Fraction(1 + count + n_max - drawn, 1 + n_max) <= Fraction(repr(alpha))
        assert settled == decision
    assert saved > 0


def test_can_change_stops_as_early_as_possible() -> None:
    # N = 19 at 0.05: the first location that reaches the claim settles it; with none, the 19th is needed.
    assert can_change(0, 18, 19, 0.05)
    assert not can_change(1, 1, 19, 0.05)
    assert not can_change(0, 19, 19, 0.05)
    # 16 can never reach 0.05, so nothing has to be drawn.
    assert not can_change(0, 0, 16, 0.05)
    # N = 39 allows one: with none reached after 38, one more cannot undo it.
    assert can_change(0, 37, 39, 0.05)
    assert not can_change(0, 38, 39, 0.05)


def test_besag_clifford_by_hand() -> None:
    # Claim 5, h = 2: 1, 7, 2, 6 stops at the fourth draw with p = 2 / 4; 8 after it is never looked at.
    found = besag_clifford(5.0, [1.0, 7.0, 2.0, 6.0, 8.0], h=2, n_max=10)
    assert (found.p, found.n, found.reached) == (0.5, 4, 2)
    # One of four draws reached it and four was all: p = (1 + 1) / (1 + 4).
    assert besag_clifford(5.0, [1.0, 7.0, 2.0, 3.0, 9.0, 9.0], h=2, n_max=4).p == pytest.approx(0.4)
    going = besag_clifford(5.0, [1.0, math.nan], h=2, n_max=4)
    assert math.isnan(going.p)
    assert going.n == 1
    assert "not stopped" in going.reason
    assert math.isnan(besag_clifford(math.nan, [1.0], h=2, n_max=4).p)
    assert besag_clifford(5.0, [9.0], h=1, n_max=4, greater=False).to_dict()["p"] is None


@pytest.mark.parametrize(("h", "n_max"), [(1, 5), (2, 5), (3, 5)])
def test_besag_clifford_is_valid(h: int, n_max: int) -> None:
    # Under the null the claim's rank among the N + 1 values is uniform and, given it, draws come in random order; so
    # all orders of N draws with the claim at each rank are equally likely. P(p <= t) must not exceed t.
    rng = np.random.default_rng(0)
    ps = np.array([besag_clifford(draw[0], draw[1:], h, n_max).p for draw in rng.normal(size=(4000, n_max + 1))])
    for t in np.unique(ps):
        # Equality holds at every value that p can take; 4 standard errors of the share are allowed.
        assert np.mean(ps <= t) == pytest.approx(t, abs=4 * math.sqrt(0.25 / 4000))


def test_parametric_p_equals_scipy_and_shows_why_it_is_not_used() -> None:
    random = np.random.default_rng(1).normal(size=16)
    for greater, word in ((True, "less"), (False, "greater")):
        theirs = scipy_stats.ttest_1samp(random, 0.4, alternative=word).pvalue
        assert parametric_p(0.4, random, greater).p == pytest.approx(theirs, abs=1e-12)
    # A claim that half a standard deviation lifts above the mean is nothing special, whatever the t-test says.
    many = np.random.default_rng(2).normal(size=2000)
    assert parametric_p(0.5, many).p < 1e-50
    assert monte_carlo_rank(0.5, many).p > 0.25
    assert math.isnan(parametric_p(1.0, [2.0, 2.0]).p)
    assert math.isnan(parametric_p(math.nan, [1.0, 2.0]).p)


def test_counts_that_do_not_fit_are_refused() -> None:
    for call in (
        lambda: can_change(3, 2, 9, 0.05),
        lambda: can_change(0, 10, 9, 0.05),
        lambda: can_change(0, 0, 9, 5.0),
        lambda: least_random_for(0.05, 0),
        lambda: smallest_p(-1),
        lambda: besag_clifford_p(3, 5, 2, 9),
        lambda: besag_clifford_p(0, 5, 0, 9),
        lambda: monte_carlo_rank(1.0, [math.inf]),
    ):
        with pytest.raises(UserError):
            call()
