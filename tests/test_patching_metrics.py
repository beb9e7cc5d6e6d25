"""Metrics by hand, their orientation, and the calibration of detection."""

import math

import numpy as np
import pytest
import torch
from scipy import stats as scipy_stats

from locus.errors import UserError
from locus.patching.detect import bootstrap_stability, detect, jaccard, split_halves, top, two_deviations
from locus.patching.metrics import Divergence, LogitDifference, Probability, effects, floor_warning
from locus.patching.pairs import PatchPair

PAIR = PatchPair((1, 2), (1, 3), (0,), (1,))
YEARS = PatchPair((1, 2), (1, 3), (0, 1, 2), (3,))


def test_values_by_hand():
    # softmax of (ln 3, ln 1, ln 4) is (3, 1, 4) / 8.
    logits = torch.tensor([[3.0, 1.0, 4.0]]).log()
    clean = torch.tensor([[1.0, 1.0, 2.0]]).log()
    assert float(LogitDifference()(logits, [PAIR], clean)) == pytest.approx(math.log(3))
    assert float(Probability()(logits, [PAIR], clean)) == pytest.approx(3 / 8)
    # KL((1/4, 1/4, 1/2) || (3/8, 1/8, 1/2)) = 1/4 ln(2/3) + 1/4 ln 2 = 1/4 ln(4/3)
    assert float(Divergence()(logits, [PAIR], clean)) == pytest.approx(-0.25 * math.log(4 / 3), rel=1e-5)


def test_several_tokens_a_side():
    logits = torch.tensor([[1.0, 2.0, 6.0, 4.0]]).log()
    pairs = [YEARS]
    assert float(LogitDifference("logsumexp")(logits, pairs, logits)) == pytest.approx(math.log(9 / 4), rel=1e-5)
    assert float(LogitDifference("mean")(logits, pairs, logits)) == pytest.approx(math.log(12) / 3 - math.log(4), rel=1e-5)
    assert float(Probability()(logits, pairs, logits)) == pytest.approx(9 / 13)
    with pytest.raises(UserError, match="logsumexp"):
        LogitDifference("sum")(logits, pairs, logits)
    even = [PatchPair((1,), (2,), (0, 1), (2, 3))]
    assert float(LogitDifference("sum")(logits, even, logits)) == pytest.approx(math.log(2 / 24), rel=1e-5)


@pytest.mark.parametrize("metric", [LogitDifference(), LogitDifference("mean"), Probability(), Divergence()])
def test_a_constant_added_to_all_logits_changes_nothing(metric):
    generator = torch.Generator().manual_seed(0)
    logits, clean = torch.randn(5, 2, 4, generator=generator), torch.randn(2, 4, generator=generator)
    pairs = [PAIR, YEARS]
    torch.testing.assert_close(metric(logits + 7.0, pairs, clean), metric(logits, pairs, clean), rtol=1e-4, atol=1e-5)


def test_effects_by_hand():
    clean, corrupted = np.array([4.0, 2.0]), np.array([0.0, 1.0])
    patched = np.array([[3.0, 1.5]])
    # raw denoising: 3 - 0, 1.5 - 1; mean span (4 + 1) / 2 = 2.5
    np.testing.assert_allclose(effects(patched, clean, corrupted, "denoise", "none").values, [[3.0, 0.5]])
    np.testing.assert_allclose(effects(patched, clean, corrupted, "denoise", "mean").values, [[1.2, 0.2]])
    np.testing.assert_allclose(effects(patched, clean, corrupted, "denoise", "example").values, [[0.75, 0.5]])
    np.testing.assert_allclose(effects(patched, clean, corrupted, "noise", "example").values, [[0.25, 0.5]])
    still = effects(patched, clean, np.array([0.0, 2.0]), "denoise", "example")
    assert np.isnan(still.values[0, 1]) and still.values[0, 0] == 0.75 and still.reason
    none = effects(patched, clean, np.array([2.0, 4.0]), "denoise", "mean")
    assert np.isnan(none.values).all() and none.reason


def test_the_floor_of_probability():
    # The published figures for a head that logit difference finds and probability does not:
    # P 0.03 when corrupted, mean effect .003, deviation .015, threshold .003 - .030 = -.027 > -.03: reachable.
    spread = np.array([[0.018], [-0.012]])  # mean .003, deviation .015
    assert floor_warning(np.array([0.03]), spread) == ""
    assert "-0.01" in floor_warning(np.array([0.01]), spread)


def test_family_wise_error_holds_for_noise_and_power_for_effects():
    """400 maps of 12 correlated components without effect; binomial(400, .05) stays at or under 33 in 99.9 % of cases."""
    rng = np.random.default_rng(0)
    limit = scipy_stats.binom.ppf(0.999, 400, 0.05)
    hits = 0
    for _ in range(400):
        noise = rng.standard_t(4, size=(12, 12)) + rng.normal(size=(1, 12))
        hits += bool(detect(noise, alpha=0.05).detected.any())
    assert hits <= limit
    assert hits >= 4  # and it is a test at its level, not a refusal: binomial(400, .05) below 4 has chance 1e-6
    strong = rng.normal(size=(12, 30))
    strong[3] += 1.5
    strong[7] -= 1.5
    for control in ("max-statistic", "benjamini-hochberg"):
        detection = detect(strong, control=control, draws=2000)
        assert list(np.flatnonzero(detection.detected)) == [3, 7]
        assert detection.mean[3] > 1 and detection.mean[7] < -1
        assert detection.intervals[3].low < detection.mean[3] < detection.intervals[3].high


def test_least_effect_that_counts():
    rng = np.random.default_rng(1)
    values = 0.5 + 0.1 * rng.normal(size=(4, 40))
    assert detect(values, draws=2000).detected.all()
    assert detect(values, least=0.3, draws=2000).detected.all()
    assert not detect(values, least=0.7, draws=2000).detected.any()


def test_single_component_equals_scipys_sign_flip():
    values = np.random.default_rng(2).normal(0.4, 1, size=(1, 9))
    expected = scipy_stats.permutation_test(
        (values[0],), np.mean, permutation_type="samples", alternative="greater", n_resamples=np.inf
    )
    other = scipy_stats.permutation_test(
        (values[0],), np.mean, permutation_type="samples", alternative="less", n_resamples=np.inf
    )
    p = min(1.0, 2 * min(expected.pvalue, other.pvalue))
    detection = detect(values)
    assert detection.p[0] == pytest.approx(p) and detection.adjusted[0] == pytest.approx(p)


def test_too_few_examples_say_so():
    # The least two-sided p of 4 sign flips is 2 / 16.
    detection = detect(np.ones((3, 4)) + np.arange(4) * 0.01)
    np.testing.assert_allclose(detection.adjusted, 0.125)
    assert not detection.detected.any() and "4 examples" in detection.reason
    assert np.isnan(detect(np.ones((3, 1))).p).all()
    assert np.isnan(detect(np.array([[1.0, np.nan, 2.0]])).p).all()


def test_two_deviations_says_what_noise_would_give():
    # 144 x 2 x (1 - Phi(2)) = 144 x 0.0455 = 6.55
    values = np.random.default_rng(0).normal(size=(144, 50))
    rule = two_deviations(values)
    assert rule.expected_false == pytest.approx(6.55, abs=0.01)
    assert rule.detected.any() and not detect(values, draws=2000).detected.any()
    assert "6.6" in rule.label
    assert not two_deviations(np.ones((5, 3))).detected.any()


def test_stability():
    rng = np.random.default_rng(0)
    steady = np.zeros((20, 40)) + 0.01 * rng.normal(size=(20, 40))
    steady[:3] += np.array([[3.0], [2.0], [-1.0]])
    assert split_halves(steady, top(3)).jaccard == 1.0
    assert split_halves(steady, top(3)).correlation > 0.99
    assert bootstrap_stability(steady, top(3)).jaccard == 1.0
    noise = rng.normal(size=(20, 40))
    assert split_halves(noise, top(3), splits=200).jaccard < 0.35
    empty = bootstrap_stability(noise, lambda values: np.zeros(len(values), bool))
    assert math.isnan(empty.jaccard) and empty.empty == 100 and empty.reason
    # 3 of 20: two random sets share about k / (2 K - k) = 3 / 37
    assert split_halves(steady, top(3)).chance == pytest.approx(3 / 37)
    assert jaccard(np.array([True, True, False]), np.array([True, False, True])) == pytest.approx(1 / 3)
