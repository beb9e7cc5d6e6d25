"""Proportions, several claims at once, corrected judges, agreement and calibration: oracles and hand-derived values."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from sklearn.metrics import brier_score_loss, cohen_kappa_score

from locus.errors import UserError
from locus.stats import benjamini_hochberg, calibration_error, clopper_pearson, cohen_kappa, holm, ppi_mean, rogan_gladen

PS = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (1, 10), (7, 16), (16, 16), (96, 100)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_clopper_pearson_equals_scipy(k: int, n: int, level: float) -> None:
    for side, word in (("two-sided", "two-sided"), ("lower", "greater"), ("upper", "less")):
        theirs = scipy_stats.binomtest(k, n, alternative=word).proportion_ci(level, method="exact")
        ours = clopper_pearson(k, n, level, side)
        assert [ours.low, ours.high] == pytest.approx([theirs.low, theirs.high], abs=1e-10)


def test_clopper_pearson_by_hand() -> None:
    # No success in 10: (1 - high)^10 = 0.05 one-sided.
    assert clopper_pearson(0, 10, side="upper").high == pytest.approx(1 - 0.05**0.1)
    none = clopper_pearson(0, 0)
    assert math.isnan(none.value)
    assert none.reason


@pytest.mark.parametrize("n", [1, 2, 5, 12])
def test_adjusted_p_values_equal_statsmodels(n: int) -> None:
    multiple = pytest.importorskip("statsmodels.stats.multitest").multipletests
    for digits in (1, 6):  # with one digit there are ties
        ps = np.round(np.random.default_rng(n).random(n) ** 2, digits)
        assert holm(ps) == pytest.approx(multiple(ps, method="holm")[1], abs=1e-12)
        assert benjamini_hochberg(ps) == pytest.approx(multiple(ps, method="fdr_bh")[1], abs=1e-12)


@settings(max_examples=60)
@given(PS, st.data())
def test_adjusted_p_value_laws(ps: list[float], data: st.DataObject) -> None:
    assert benjamini_hochberg(ps) == pytest.approx(scipy_stats.false_discovery_control(ps), abs=1e-12)
    assert (holm(ps) >= benjamini_hochberg(ps) - 1e-12).all()
    assert (holm(ps) <= np.minimum(1.0, np.array(ps) * len(ps)) + 1e-12).all()
    order = data.draw(st.permutations(range(len(ps))))
    assert holm([ps[i] for i in order]).tolist() == holm(ps)[order].tolist()


def test_adjusted_p_values_by_hand() -> None:
    # Holm: 3 * .01, 2 * .02, then max(.04, .03). BH: .03, .03, .03. An undefined fourth still counts in the family.
    assert holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert benjamini_hochberg([0.03, 0.01, 0.02]) == pytest.approx([0.03, 0.03, 0.03])
    assert holm([0.03, math.nan, 0.01]) == pytest.approx([0.06, math.nan, 0.03], nan_ok=True)
    assert benjamini_hochberg([math.nan, 0.02]) == pytest.approx([math.nan, 0.04], nan_ok=True)
    assert len(holm([])) == len(benjamini_hochberg([])) == 0


def labels(positives: int, hits: int, negatives: int, false_alarms: int) -> tuple[list[int], list[int]]:
    judge = [1] * hits + [0] * (positives - hits) + [1] * false_alarms + [0] * (negatives - false_alarms)
    return judge, [1] * positives + [0] * negatives


def test_rogan_gladen_by_hand() -> None:
    # Rate 0.5, sensitivity 0.9, specificity 0.8: (0.5 + 0.8 - 1) / 0.7 = 3/7.
    # Delta: variance = (0.25/100 + (3/7)^2 * 0.09/20 + (4/7)^2 * 0.16/10) / 0.49 = 0.0174511...; sd 0.1321.
    judge, truth = labels(20, 18, 10, 2)
    judged = [1] * 50 + [0] * 50 + [math.nan]
    found = rogan_gladen(judged, judge, truth, method="delta")
    error = math.sqrt((0.25 / 100 + 9 / 49 * 0.09 / 20 + 16 / 49 * 0.16 / 10) / 0.49)
    assert (found.value, found.n) == (pytest.approx(3 / 7), 100)
    assert found.high - found.low == pytest.approx(2 * 1.959964 * error, rel=1e-6)


def test_resampled_judges_without_skill_leave_the_rate_open() -> None:
    # Sensitivity and specificity 2/3 on three labels each: often no skill is left, and sometimes 0 / 0.
    judge, truth = labels(3, 2, 3, 1)
    found = rogan_gladen([1, 0, 0], judge, truth, method="bootstrap")
    assert (found.low, found.high) == (0.0, 1.0)


def test_three_intervals_agree_where_there_are_many_labels() -> None:
    judge, truth = labels(2000, 1800, 2000, 400)
    ends = [rogan_gladen([1, 0] * 400, judge, truth, method=method) for method in ("delta", "bootstrap", "lang-reiczigel")]
    assert len({found.value for found in ends}) == 1
    for found in ends[1:]:
        # The half width is about 0.053.
        assert [found.low, found.high] == pytest.approx([ends[0].low, ends[0].high], abs=0.004)


def test_rogan_gladen_published_example() -> None:
    # 23 of 150 cows test positive, sensitivity 0.96, specificity 0.89: true prevalence 5.1%
    # (an example of the epiR manual).
    judge, truth = labels(100, 96, 100, 11)
    assert rogan_gladen([1] * 23 + [0] * 127, judge, truth).value == pytest.approx(0.051, abs=5e-4)


def test_lang_reiczigel_ends_by_hand() -> None:
    # 4 of 10 judged true, 8 of 8 positives and 8 of 8 negatives right, z = 1.959964 (z^2 = 3.841459):
    # n' = 13.841459, p' = (4 + 1.920729) / n' = 0.427753; Se' = Sp' = 9/10 over 10; skill 0.8;
    # P' = (0.427753 + 0.9 - 1) / 0.8 = 0.409692; var Se' = var Sp' = 0.09/10 = 0.009;
    # shift = 2 z^2 0.009 (P' - (1 - P')) = 0.069146 * (-0.180617) = -0.012489;
    # variance = p'(1 - p')/n' + 0.009 (P'^2 + (1 - P')^2) = 0.017685 + 0.009 * 0.516311 = 0.022331;
    # half = 1.959964 * 0.149437 / 0.8 = 0.366115; ends 0.397203 -+ 0.366115.
    judge, truth = labels(8, 8, 8, 0)
    found = rogan_gladen([1] * 4 + [0] * 6, judge, truth)
    assert found.value == pytest.approx(0.4)
    assert [found.low, found.high] == pytest.approx([0.031088, 0.763318], abs=2e-4)


def test_rogan_gladen_refuses_a_judge_without_skill_and_says_when_it_clips() -> None:
    judge, truth = labels(10, 5, 10, 5)
    blind = rogan_gladen([1, 0, 1], judge, truth)
    assert math.isnan(blind.value)
    assert "chance" in blind.reason
    judge, truth = labels(20, 18, 20, 4)
    low = rogan_gladen([0] * 30, judge, truth)
    assert low.value == low.low == 0.0
    assert "outside" in low.reason
    assert math.isnan(rogan_gladen([1, 0], [1, 1], [1, 1]).value)
    assert math.isnan(rogan_gladen([math.nan], judge, truth).value)


@pytest.mark.parametrize("n", [20, 50, 200])
def test_corrected_rate_covers_the_true_rate(n: int) -> None:
    rng = np.random.default_rng(n)
    rate, sensitivity, specificity = 0.3, 0.85, 0.9
    hits = raw = 0
    for _ in range(300):
        judged = rng.random(n) < rate * sensitivity + (1 - rate) * (1 - specificity)
        judge, truth = labels(30, rng.binomial(30, sensitivity), 30, rng.binomial(30, 1 - specificity))
        found = rogan_gladen(judged, judge, truth)
        hits += found.low <= rate <= found.high
        raw += abs(found.value - rate)
    assert hits / 300 >= 0.9
    # The correction is not merely wide: its mean error shrinks as more answers are judged.
    assert raw / 300 <= 0.6 / math.sqrt(n) + 0.06


def test_prediction_powered_mean_by_hand() -> None:
    # Judge 0, 0, 1, 1 elsewhere (mean 1/2, variance 1/4); labelled: truth - judge = 1, 0, 0, 0 (mean 1/4, variance
    # 3/16). Value 3/4; error sqrt((1/4) / 4 + (3/16) / 4) = sqrt(7/64).
    found = ppi_mean([0, 0, 1, 1], [0, 1, 0, 1], [1, 1, 0, 1], level=0.95)
    assert found.value == pytest.approx(0.75)
    assert found.n == 4
    assert (found.high - found.low) / 2 == pytest.approx(1.959964 * math.sqrt(7 / 64), rel=1e-6)
    # Weight 0 forgets the judge: the mean of the labels.
    alone = ppi_mean([0, 0, 1, 1], [0, 1, 0, 1], [1, 1, 0, 1], weight=0.0)
    assert alone.value == 0.75
    assert (alone.high - alone.low) / 2 == pytest.approx(1.959964 * math.sqrt(3 / 64), rel=1e-6)
    assert math.isnan(ppi_mean([1.0], [1, 0], [1, 0]).value)
    # The best weight: covariance of judge and truth 1/2 - 3/8 = 1/8, over (1 + 4/4) times the judge's variance 1/4.
    # Truth - judge / 4 is 1, 3/4, 0, 3/4 (variance 9/64): error sqrt((1/16)(1/4) / 4 + (9/64) / 4) = sqrt(5/128).
    tuned = ppi_mean([0, 0, 1, 1], [0, 1, 0, 1], [1, 1, 0, 1], weight=None)
    assert tuned.method.endswith("weight 0.25")
    assert (tuned.high - tuned.low) / 2 == pytest.approx(1.959964 * math.sqrt(5 / 128), rel=1e-6)


def test_prediction_powered_mean_is_unbiased_and_gains_from_a_good_judge() -> None:
    rng = np.random.default_rng(0)
    hits, widths, values = 0, [], []
    for _ in range(300):
        truth = rng.random(1100) < 0.4
        # The judge says yes too often: its own rate is 0.4 * 0.95 + 0.6 * 0.2 = 0.5.
        judge = np.where(truth, rng.random(1100) < 0.95, rng.random(1100) < 0.2)
        found = ppi_mean(judge[100:], judge[:100], truth[:100], weight=None)
        hits += found.low <= 0.4 <= found.high
        widths.append(found.high - found.low)
        values.append(found.value)
    # Mean of 300 estimates with sd of about 0.035: standard error 0.002.
    assert np.mean(values) == pytest.approx(0.4, abs=0.008)
    assert 0.9 <= hits / 300 <= 0.99
    # Labels alone would need 2 * 1.96 * sqrt(0.24 / 100) = 0.192.
    assert np.mean(widths) < 0.16


def test_kappa_equals_sklearn_and_statsmodels() -> None:
    inter = pytest.importorskip("statsmodels.stats.inter_rater")
    rng = np.random.default_rng(1)
    a = rng.integers(0, 3, size=80)
    b = np.where(rng.random(80) < 0.6, a, rng.integers(0, 3, size=80))
    table = np.zeros((3, 3))
    np.add.at(table, (a, b), 1)
    theirs, ours = inter.cohens_kappa(table), cohen_kappa(a, b)
    assert ours.value == pytest.approx(cohen_kappa_score(a, b), abs=1e-12)
    assert [ours.low, ours.high] == pytest.approx([theirs.kappa_low, theirs.kappa_upp], abs=1e-10)


def test_kappa_by_hand() -> None:
    # Agreement 3/4; both say yes half the time, so by chance 1/2: kappa (3/4 - 1/2) / (1/2) = 1/2 ... with rows 2, 2
    # and columns 3, 1 of 4: chance = (2 * 3 + 2 * 1) / 16 = 1/2.
    assert cohen_kappa(["y", "y", "n", "n"], ["y", "y", "y", "n"]).value == pytest.approx(0.5)
    assert math.isnan(cohen_kappa([1, 1], [1, 1]).value)
    assert cohen_kappa([1, 1], [1, 1]).reason
    assert math.isnan(cohen_kappa([], []).value)
    perfect = cohen_kappa([0, 1, 1], [0, 1, 1])
    assert perfect.value == 1.0
    assert "never disagreed" in perfect.reason


def test_calibration_by_hand() -> None:
    # Equal width, 2 bins: {0.1, 0.3} with outcomes 0, 1 (confidence 0.2, accuracy 0.5); {0.6, 0.8, 1.0} with 1, 0, 1
    # (0.8, 2/3). Error = (2 * 0.3 + 3 * (0.8 - 2/3)) / 5 = 0.2.
    given_, seen = [0.8, 0.1, 1.0, 0.3, 0.6], [0, 0, 1, 1, 1]
    wide = calibration_error(given_, seen, n_bins=2, binning="equal-width")
    assert wide.error == pytest.approx(0.2)
    assert wide.count == (2, 3)
    # Equal mass, 2 bins: {0.1, 0.3, 0.6} with 0, 1, 1 (1/3, 2/3); {0.8, 1.0} with 0, 1 (0.9, 0.5).
    # Error = (3 * 1/3 + 2 * 0.4) / 5 = 0.36.
    mass = calibration_error(given_, seen, n_bins=2)
    assert mass.error == pytest.approx(0.36)
    assert mass.count == (3, 2)
    assert mass.brier == pytest.approx(brier_score_loss(seen, given_))
    assert json.loads(json.dumps(mass.to_dict(), allow_nan=False))["n"] == 5
    assert math.isnan(calibration_error([math.nan], [1]).error)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 10), st.booleans()), min_size=1, max_size=40), st.integers(1, 12), st.data())
def test_calibration_laws(pairs: list[tuple[int, bool]], n_bins: int, data: st.DataObject) -> None:
    for binning in ("equal-mass", "equal-width"):
        found = calibration_error([p / 10 for p, _ in pairs], [o for _, o in pairs], n_bins, binning)
        moved = data.draw(st.permutations(pairs))
        again = calibration_error([p / 10 for p, _ in moved], [o for _, o in moved], n_bins, binning)
        assert found == again
        assert sum(found.count) == len(pairs)
        assert len(found.count) <= n_bins
        # Never below the difference of the two overall means, never above 1 (triangle inequality over bins).
        overall = abs(np.mean([p / 10 for p, _ in pairs]) - np.mean([o for _, o in pairs]))
        assert overall - 1e-12 <= found.error <= 1.0


def test_arguments_that_cannot_be_used_are_refused() -> None:
    for call in (
        lambda: clopper_pearson(3, 2),
        lambda: clopper_pearson(1, 2, side="left"),
        lambda: holm([0.5, 1.5]),
        lambda: rogan_gladen([0.5], [1, 0], [1, 0]),
        lambda: rogan_gladen([1.0], [1, 0], [1]),
        lambda: rogan_gladen([1.0], [1, 0], [1, 0], method="bayes"),
        lambda: ppi_mean([1.0, 0.0], [1, 0, 1], [1, 0]),
        lambda: cohen_kappa([1, 2], [1]),
        lambda: calibration_error([1.5], [1]),
        lambda: calibration_error([0.5], [2]),
        lambda: calibration_error([0.5], [1], n_bins=0),
    ):
        with pytest.raises(UserError):
            call()
