"""Prediction-powered means: against the textbook, by hand, and that they hold what they say whatever the judge is like."""

import math

import numpy as np
import pytest

from locus.errors import UserError
from locus.stats import powered_mean
from locus.stats.paired import t_interval
from studies.powered import JUDGES, leads, works


def drawn(n=80, labelled=30, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.choice([-1.0, 0.0, 1.0], size=n)
    judged = 0.5 * truth + 0.3 + 0.4 * rng.normal(size=n)
    return judged, np.where(np.arange(n) < labelled, truth, np.nan), truth


def test_it_is_the_published_estimate_on_the_labelled_and_the_others():
    judged, labels, truth = drawn()
    ours = powered_mean(judged, labels)
    # Angelopoulos et al., section 2, with the labelled answers among all of them: mean of all, plus the rectifier.
    assert ours.value == pytest.approx(judged.mean() + (truth[:30] - judged[:30]).mean())
    gap = truth[:30] - judged[:30]
    variance = judged.var(ddof=1) / 80 + gap.var(ddof=1) / 30 + 2 * np.cov(judged[:30], gap)[0, 1] / 80
    assert ours.error == pytest.approx(math.sqrt(variance))
    assert (ours.n, ours.n_labelled) == (80, 30)


def test_without_the_judge_it_is_the_labels_own_t():
    judged, labels, truth = drawn()
    alone, plain = powered_mean(judged, labels, weight=0.0).interval(0.9), t_interval(truth[:30], 0.9)
    assert (alone.value, alone.low, alone.high) == pytest.approx((plain.value, plain.low, plain.high))


def test_where_all_are_labelled_the_judge_says_nothing():
    judged, _, truth = drawn()
    all_, plain = powered_mean(judged, truth), t_interval(truth, 0.95)
    assert all_.value == pytest.approx(plain.value)
    assert all_.error == pytest.approx(truth.std(ddof=1) / math.sqrt(80))


def test_the_tuned_weight_is_the_slope_and_never_below_zero():
    judged, labels, truth = drawn()
    slope = np.polyfit(judged[:30], truth[:30], 1)[0]
    assert powered_mean(judged, labels, weight=None).weight == pytest.approx(slope)
    assert powered_mean(-judged, labels, weight=None).weight == 0.0
    assert powered_mean(np.zeros(80), labels, weight=None).weight == 0.0


def test_a_question_asked_twice_adds_nothing():
    judged, labels, _ = drawn()
    once = powered_mean(judged, labels, groups=np.arange(80))
    twice = powered_mean(np.tile(judged, 2), np.tile(labels, 2), groups=np.tile(np.arange(80), 2))
    assert (twice.value, twice.error, twice.n, twice.n_labelled) == pytest.approx((once.value, once.error, 80, 30))
    half = np.concatenate([labels, np.full(80, np.nan)])  # a group that is labelled in part is not labelled
    assert powered_mean(np.tile(judged, 2), half, groups=np.tile(np.arange(80), 2)).n_labelled == 0


def test_what_the_judge_leaves_out_is_still_counted_by_the_labels():
    judged, labels, truth = drawn()
    judged[:5] = np.nan
    ours = powered_mean(judged, labels)
    guess = np.where(np.isnan(judged), np.nanmean(judged), judged)
    assert ours.value == pytest.approx(np.nanmean(judged) + (truth[:30] - guess[:30]).mean())
    assert ours.n_labelled == 30


def test_intervals_and_p_values_agree_at_the_edge():
    ours = powered_mean(*drawn()[:2])
    interval = ours.interval(0.9)
    assert ours.p_above(interval.low) == pytest.approx(0.05)
    assert ours.p_below(interval.high) == pytest.approx(0.05)
    assert ours.p_above(0.0) + ours.p_below(0.0) == pytest.approx(1.0)


@pytest.mark.parametrize("why", ["few", "alike", "none"])
def test_too_little_is_undefined_with_a_reason(why):
    judged, labels, _ = drawn(labelled=19 if why == "few" else 30)
    if why == "alike":
        judged, labels = np.zeros(80), np.where(np.isnan(labels), np.nan, 0.0)
    if why == "none":
        judged = np.full(80, np.nan)
    ours = powered_mean(judged, labels)
    assert ours.reason
    assert math.isnan(ours.interval(0.95).low)
    assert math.isnan(ours.p_above(0.0))
    assert math.isnan(ours.p_below(0.0))


def test_shapes_that_differ_are_refused():
    with pytest.raises(UserError, match="in the same order"):
        powered_mean(np.zeros(3), np.zeros(4))


def test_labels_that_share_a_location_count_as_one_where_they_agree():
    judged, labels, _ = drawn()
    apart = powered_mean(judged, labels, clusters=np.arange(80))
    assert apart.error == pytest.approx(powered_mean(judged, labels).error)
    shifted = np.where(np.isnan(labels), np.nan, labels + 3.0 * (np.arange(80) % 3))  # three Locations far apart
    assert powered_mean(judged, shifted, clusters=np.arange(80) % 3).error > 2 * powered_mean(judged, shifted).error


@pytest.mark.parametrize("judge", ["good", "leans to the claim by one unit of log-odds", "knows nothing", "says the opposite"])
def test_intervals_hold_what_they_say(judge):
    # 600 simulated audits: 95 % within three of their standard errors (0.9 points); studies/powered.md has 4,000 of each.
    runs = list(works(JUDGES[judge], 40, 600, 3))
    assert 0.923 <= np.mean([one["1"][0] for one in runs]) <= 0.977
    if judge != "good":  # which a judge alone does not
        assert np.mean([one["judge alone"][0] for one in runs]) < 0.9


def test_a_lead_over_random_locations_holds_too():
    runs = list(leads(JUDGES["leans to the claim by one unit of log-odds"], 40, 400, 3))
    assert 0.917 <= np.mean([one["1"][0] for one in runs]) <= 0.983
    assert np.mean([one["judge alone"][0] for one in runs]) < 0.1
