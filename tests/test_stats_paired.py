"""Paired tests against scipy and statsmodels, by hand, and for the error rates they promise."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from locus.errors import UserError
from locus.stats import noninferiority, paired_permutation, tost

SCORES = st.lists(st.integers(-9, 9), min_size=2, max_size=12)


def pair(n: int, seed: int = 0, shift: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=n) + shift, rng.normal(size=n)


@pytest.mark.parametrize("alternative", ["greater", "less", "two-sided"])
@pytest.mark.parametrize("n", [3, 10])
def test_all_arrangements_equal_scipy(alternative: str, n: int) -> None:
    a, b = pair(n)
    theirs = scipy_stats.permutation_test(
        (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", alternative=alternative, n_resamples=np.inf
    )
    ours = paired_permutation(a, b, alternative=alternative)
    assert ours.p == pytest.approx(theirs.pvalue, abs=1e-12)
    assert (ours.draws, ours.seed) == (2**n, None)


def test_sign_flip_by_hand() -> None:
    # Differences 1, 2, 3: all 8 sums are 6, 4, 2, 0, 0, -2, -4, -6. Observed 6: p = 1/8, two-sided 2/8, from below 1.
    a, b = [1.0, 2.0, 3.0], [0.0, 0.0, 0.0]
    found = [paired_permutation(a, b, alternative=word).p for word in ("greater", "two-sided", "less")]
    assert found == [0.125, 0.25, 1.0]
    # Observed 4 (differences -1, 2, 3): sums of at least 4 are 6 and 4.
    assert paired_permutation([-1.0, 2.0, 3.0], b, alternative="greater").p == 0.25


def test_rounding_does_not_break_ties() -> None:
    # 0.1 + 0.2 and 0.3 differ in the last bit: the sums of (0.1, 0.2, -0.3) are 0 on paper for two arrangements.
    exact = paired_permutation([1.0, 2.0, -3.0], [0.0] * 3, alternative="greater").p
    assert paired_permutation([0.1, 0.2, -0.3], [0.0] * 3, alternative="greater").p == exact
    # Two-sided: 0.1 + 0.2 + 0.4 - 0.6 is 0.1 on paper; summed in another order it comes out a little smaller.
    both = paired_permutation([1.0, 2.0, 4.0, -6.0], [0.0] * 4).p
    assert paired_permutation([0.1, 0.2, 0.4, -0.6], [0.0] * 4).p == both


def test_random_arrangements_come_near_all_of_them_and_never_give_zero() -> None:
    a, b = pair(12, seed=3)
    whole = paired_permutation(a, b)
    drawn = paired_permutation(a, b, exact_up_to=0, draws=20_000)
    assert drawn.p == pytest.approx(whole.p, abs=0.015)
    assert drawn.draws == 20_000
    assert drawn.seed == 0
    sure = paired_permutation(np.ones(60), np.zeros(60), draws=999)
    assert (sure.p, sure.reached) == (0.001, 0)


@settings(max_examples=40)
@given(scores=SCORES, data=st.data())
def test_permutation_laws(scores: list[int], data: st.DataObject) -> None:
    zeros = [0] * len(scores)
    p = paired_permutation(scores, zeros, alternative="greater").p
    assert 0.0 < p <= 1.0
    order = data.draw(st.permutations(scores))
    assert paired_permutation(order, zeros, alternative="greater").p == p
    # Duplicated questions under one group id give the same p; without group ids the same data would look stronger.
    groups = list(range(len(scores))) * 2
    assert paired_permutation(scores * 2, zeros * 2, alternative="greater", groups=groups).p == p
    # Larger differences never speak against "greater": raising the largest raises the observed sum most.
    best = max(range(len(scores)), key=scores.__getitem__)
    raised = [score + (i == best) * (abs(min(scores)) + 1) for i, score in enumerate(scores)]
    if all(score >= 0 for score in raised):
        assert paired_permutation(raised, zeros, alternative="greater").p <= p
    assert paired_permutation(zeros, scores, alternative="less").p == p


def test_duplicates_without_groups_would_cheat() -> None:
    a, b = pair(8, seed=1, shift=0.8)
    honest = paired_permutation(np.tile(a, 2), np.tile(b, 2), groups=list(range(8)) * 2, alternative="greater").p
    cheating = paired_permutation(np.tile(a, 2), np.tile(b, 2), alternative="greater", draws=20_000).p
    assert honest == paired_permutation(a, b, alternative="greater").p
    assert cheating < honest / 2


@pytest.mark.parametrize("margin", [0.0, 0.1, 0.5])
def test_noninferiority_equals_a_shifted_t_test(margin: float) -> None:
    a, b = pair(30, shift=0.0)
    ours = noninferiority(a, b, margin)
    theirs = scipy_stats.ttest_rel(a + margin, b, alternative="greater")
    interval = scipy_stats.ttest_rel(a, b).confidence_interval(0.9)
    assert ours.p == pytest.approx(theirs.pvalue, abs=1e-12)
    assert [ours.estimate.low, ours.estimate.high] == pytest.approx(list(interval), abs=1e-12)
    assert ours.passed == (ours.estimate.low > -margin)


def test_equivalence_equals_statsmodels() -> None:
    weightstats = pytest.importorskip("statsmodels.stats.weightstats")
    a, b = pair(40, seed=2, shift=0.05)
    for low, high in ((-0.5, 0.5), (-0.2, 0.9), (0.1, 0.3)):
        assert tost(a, b, (low, high)).p == pytest.approx(weightstats.ttost_paired(a, b, low, high)[0], abs=1e-12)


def test_equivalence_needs_both_sides() -> None:
    a, b = pair(60, seed=4, shift=0.0)
    wide = tost(a, b, (-2.0, 2.0))
    assert wide.passed
    assert wide.estimate.level == pytest.approx(0.9)
    assert not tost(a, b, (-2.0, -1.0)).passed
    assert not tost(a, b, (1.0, 2.0)).passed
    below, above = noninferiority(a, b, 0.4).p, noninferiority(b, a, 0.4).p
    assert tost(a, b, (-0.4, 0.4)).p == pytest.approx(max(below, above), abs=1e-12)


def test_low_power_is_not_equivalence() -> None:
    # Two questions that differ wildly show no significant difference, and no equivalence either.
    found = tost([5.0, -5.0], [0.0, 0.0], (-1.0, 1.0))
    assert paired_permutation([5.0, -5.0], [0.0, 0.0]).p == 1.0
    assert not found.passed
    assert found.p > 0.3


@pytest.mark.parametrize("n", [60, 400])
def test_bootstrap_agrees_with_t_on_normal_differences(n: int) -> None:
    a, b = pair(n, seed=5, shift=-0.3)
    ours, student = noninferiority(a, b, 0.4, method="bootstrap"), noninferiority(a, b, 0.4)
    assert ours.p == pytest.approx(student.p, abs=0.02)
    assert ours.p > 0.0
    assert ours.estimate.low == pytest.approx(student.estimate.low, abs=0.25 / math.sqrt(n))
    assert "bootstrap" in ours.method


def test_no_spread_is_decided_by_sign_flips() -> None:
    # An edit that changes nothing on 6 questions: all 6 lie above -0.1, so p = 2^-6; they do not lie above 0.
    same = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0]
    found = noninferiority(same, same, 0.1)
    assert found.p == 1 / 64
    assert found.passed
    assert "sign-flip" in found.method
    assert "no width" in found.estimate.reason
    assert noninferiority(same, same, 0.0).p == 1.0
    assert not noninferiority([0.0] * 5, [0.1] * 5, 0.1).passed
    # A constant difference that rounding makes uneven is still constant.
    uneven = noninferiority([0.3, 0.2, 0.7], [0.2, 0.1, 0.6], 0.05)
    assert uneven.p == 1 / 8
    assert noninferiority([1.0] * 3000, [1.0] * 3000, 0.1).p > 0.0


@pytest.mark.parametrize("scores", [[], [math.nan], [1.0]])
def test_too_few_questions_is_undefined(scores: list[float]) -> None:
    zeros = [0.0] * len(scores)
    for method in ("t", "bootstrap"):
        found = noninferiority(scores, zeros, 0.1, method=method)
        assert math.isnan(found.p)
        assert found.reason
        assert not found.passed
        assert found.to_dict()["p"] is None
        assert found.to_dict()["margin_high"] is None
    assert math.isnan(paired_permutation([math.nan], [1.0]).p)


@settings(max_examples=40)
@given(scores=SCORES, margin=st.integers(0, 5), shift=st.integers(0, 4))
def test_noninferiority_laws(scores: list[int], margin: int, shift: int) -> None:
    zeros = [0] * len(scores)
    p = noninferiority(scores, zeros, margin).p
    assert 0.0 < p <= 1.0
    assert noninferiority([score + shift for score in scores], zeros, margin).p <= p + 1e-12
    assert noninferiority(scores, zeros, margin + 1).p <= p + 1e-12
    doubled = noninferiority(scores * 2, zeros * 2, margin, groups=list(range(len(scores))) * 2)
    assert doubled.p == p
    assert doubled.estimate.n == len(scores)


@pytest.mark.parametrize("n", [20, 50, 200])
def test_false_positives_at_the_margin(n: int) -> None:
    rng = np.random.default_rng(n)
    a = rng.normal(size=(400, n)) * 0.3 - 0.1
    zeros = np.zeros(n)
    wrong = sum(noninferiority(row, zeros, 0.1).passed for row in a) / 400
    # At the margin itself the error rate is alpha = 0.05; binomial sd is 0.011.
    assert 0.01 <= wrong <= 0.1
    if n == 20:
        boot = sum(noninferiority(row, zeros, 0.1, method="bootstrap").passed for row in a) / 400
        assert 0.01 <= boot <= 0.1
        flips = sum(paired_permutation(row + 0.1, zeros, alternative="greater", draws=199).p <= 0.05 for row in a) / 400
        assert 0.01 <= flips <= 0.1


def test_arguments_that_cannot_be_used_are_refused() -> None:
    for call in (
        lambda: noninferiority([1.0, 2.0], [1.0, 1.0], -0.1),
        lambda: noninferiority([1.0, 2.0], [1.0, 1.0], 0.1, alpha=0.6),
        lambda: noninferiority([1.0, 2.0], [1.0, 1.0], 0.1, method="z"),
        lambda: tost([1.0, 2.0], [1.0, 1.0], (0.1, -0.1)),
        lambda: paired_permutation([1.0], [1.0, 2.0]),
        lambda: paired_permutation([1.0], [1.0], alternative="bigger"),
        lambda: paired_permutation([1.0], [1.0], draws=0),
    ):
        with pytest.raises(UserError):
            call()
