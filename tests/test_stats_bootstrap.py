"""Bootstrap intervals against scipy, against hand-derived values, and against the laws they must obey."""

import json
import math
from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from locus.errors import UserError
from locus.stats import Estimate, bootstrap_mean, hierarchical_bootstrap, paired_bootstrap, variance_components
from locus.stats.bootstrap import CHUNK, METHODS, resampled_means, resampled_t
from locus.stats.hierarchical import expanded_tail, mean_squares

SCORES = st.lists(st.integers(-50, 50), min_size=2, max_size=30)


@pytest.mark.parametrize(("method", "theirs"), [("percentile", "percentile"), ("bca", "BCa")])
@pytest.mark.parametrize("n", [7, 40])
def test_mean_interval_equals_scipy_with_the_same_draws(method: str, theirs: str, n: int) -> None:
    values = np.sort(np.random.default_rng(n).exponential(size=n))
    ours = bootstrap_mean(values, method=method, level=0.9, draws=3000, seed=5)
    oracle = scipy_stats.bootstrap(
        (values,), np.mean, n_resamples=3000, method=theirs, confidence_level=0.9, rng=np.random.default_rng(5)
    )
    assert [ours.low, ours.high] == pytest.approx(list(oracle.confidence_interval), abs=1e-10)
    assert (ours.value, ours.n, ours.seed, ours.reason) == (pytest.approx(values.mean()), n, 5, "")


def test_studentised_interval_by_hand() -> None:
    # Values 0 and 1: mean 1/2, sd sqrt(1/2), error sqrt(1/2)/sqrt(2) = 1/2. Resamples: {0,1} with probability 1/2 has
    # t* = 0; {0,0} and {1,1} have no spread and t* = -inf, +inf with probability 1/4 each. The quartiles and the median
    # of t* are 0 or infinite, so the central 40% interval has both ends at 1/2 and the 90% one is undefined.
    t = resampled_t(np.array([0.0, 1.0]), 4000, 0)
    assert set(t.tolist()) == {-math.inf, 0.0, math.inf}
    assert np.mean(t == 0.0) == pytest.approx(0.5, abs=0.04)
    inner = bootstrap_mean([0.0, 1.0], method="studentised", level=0.4)
    assert (inner.low, inner.high) == (0.5, 0.5)
    outer = bootstrap_mean([0.0, 1.0], method="studentised", level=0.9)
    assert math.isnan(outer.low)
    assert math.isnan(outer.high)
    assert "little spread" in outer.reason


def test_studentised_interval_from_its_definition() -> None:
    values = np.sort(np.random.default_rng(7).exponential(size=9))
    rng, t = np.random.default_rng(2), []
    for _ in range(2000):
        drawn = values[rng.integers(0, 9, size=9)]
        t.append((drawn.mean() - values.mean()) / scipy_stats.sem(drawn))
    # The upper quantile of t* gives the lower end: the long tail of the interval follows the skew.
    low, high = values.mean() - scipy_stats.sem(values) * np.quantile(t, [0.95, 0.05])
    found = bootstrap_mean(values, method="studentised", level=0.9, draws=2000, seed=2)
    assert [found.low, found.high] == pytest.approx([low, high], abs=1e-10)


def test_resample_without_spread_at_the_mean_is_zero() -> None:
    # Of the 27 resamples of 0, 1, 2 one is 1, 1, 1: its mean is the mean, its error 0.
    t = resampled_t(np.array([0.0, 1.0, 2.0]), 2000, 0)
    assert not np.isnan(t).any()


def test_chunks_do_not_change_the_draws() -> None:
    values = np.random.default_rng(0).normal(size=2001)
    draws = CHUNK // 2001 + 300
    index = np.random.default_rng(3).integers(0, 2001, size=(draws, 2001))
    assert np.array_equal(resampled_means(values, draws, 3), values[index].mean(axis=1))


@pytest.mark.parametrize("method", METHODS)
def test_unscored_questions_are_dropped_and_n_tells(method: str) -> None:
    a, b = np.array([1.0, math.nan, 3.0, 2.0, 7.0]), np.array([0.0, 1.0, math.nan, 3.0, 1.0])
    found = paired_bootstrap(a, b, method=method, draws=500)
    # Scored on both sides: 1 - 0, 2 - 3, 7 - 1.
    assert found == bootstrap_mean([1.0, -1.0, 6.0], method=method, draws=500)
    assert (found.n, found.value) == (3, 2.0)


def test_undefined_is_nan_with_a_reason_and_none_in_json() -> None:
    none, one = bootstrap_mean([math.nan]), bootstrap_mean([4.0])
    assert math.isnan(none.value)
    assert none.n == 0
    assert none.reason
    assert one.value == 4.0
    assert math.isnan(one.low)
    assert one.n == 1
    assert one.reason
    flat = bootstrap_mean([0.2] * 9)
    assert flat.low == flat.high == flat.value
    assert "no width" in flat.reason
    assert json.loads(json.dumps(one.to_dict(), allow_nan=False))["low"] is None
    assert Estimate(1.0, -math.inf, 2.0, 3, 0.95, "t").to_dict()["low"] is None


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=25)
@given(scores=SCORES, data=st.data())
def test_order_of_questions_and_duplicates_in_a_group_change_nothing(method: str, scores: list[int], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(scores))))
    first = bootstrap_mean(scores, method=method, draws=200)
    moved = bootstrap_mean([scores[i] for i in order], method=method, draws=200)
    doubled = bootstrap_mean(scores * 3, groups=list(range(len(scores))) * 3, method=method, draws=200)
    assert repr(first) == repr(moved) == repr(doubled)


@settings(max_examples=25)
@given(scores=SCORES, shift=st.integers(-9, 9), factor=st.sampled_from([0.5, 2.0, 8.0]))
def test_interval_moves_and_stretches_with_the_scores(scores: list[int], shift: int, factor: float) -> None:
    plain = bootstrap_mean(scores, draws=300)
    other = bootstrap_mean([factor * score + shift for score in scores], draws=300)
    for end in ("value", "low", "high"):
        assert getattr(other, end) == pytest.approx(factor * getattr(plain, end) + shift, abs=1e-9, nan_ok=True)


def test_rounding_of_group_means_does_not_depend_on_order() -> None:
    # 0.1 + 0.2 + 0.3 is 0.6000000000000001 and 0.3 + 0.2 + 0.1 is 0.6.
    values = {bootstrap_mean(order, groups=[0, 0, 0]).value for order in permutations([0.1, 0.2, 0.3])}
    assert len(values) == 1


def test_group_means_are_the_units() -> None:
    # Groups: a = (1 + 3) / 2 = 2, b = 10, c = only its scored question, 4. Their mean is 16 / 3.
    found = bootstrap_mean([1.0, 10.0, 3.0, math.nan, 4.0], groups=["a", "b", "a", "c", "c"])
    assert (found.n, found.value) == (3, pytest.approx(16 / 3))


@pytest.mark.parametrize("n", [20, 50, 200])
@pytest.mark.parametrize("method", METHODS)
def test_coverage_of_a_skewed_mean_is_near_its_level(method: str, n: int) -> None:
    rng = np.random.default_rng(n)
    hits = 0
    for draw in range(300):
        found = bootstrap_mean(rng.gamma(4.0, size=n), method=method, draws=400, seed=draw)
        hits += found.low <= 4.0 <= found.high
    # Binomial sd of the share is 0.013 at 0.95; skewness costs the percentile interval about 0.02 at n = 20.
    assert 0.88 <= hits / 300 <= 0.99


def test_arguments_that_cannot_be_used_are_refused() -> None:
    for call in (
        lambda: bootstrap_mean([1.0, math.inf]),
        lambda: bootstrap_mean([[1.0]]),
        lambda: bootstrap_mean([1.0, 2.0], level=95),
        lambda: bootstrap_mean([1.0, 2.0], method="magic"),
        lambda: bootstrap_mean([1.0, 2.0], draws=0),
        lambda: bootstrap_mean([1.0, 2.0], groups=["a"]),
        lambda: paired_bootstrap([1.0, 2.0], [1.0]),
        lambda: hierarchical_bootstrap([1.0, 2.0]),
        lambda: hierarchical_bootstrap([[[1.0, math.inf]]]),
    ):
        with pytest.raises(UserError):
            call()


def test_hierarchical_mean_by_weights_agrees_with_resampled_arrays() -> None:
    scores = np.random.default_rng(1).normal(size=(4, 3, 6)) + np.arange(4.0)[:, None, None]
    scores[0, 1, 2] = math.nan
    quick = hierarchical_bootstrap(scores, draws=20_000)
    plain = hierarchical_bootstrap(scores, statistic=lambda array: float(np.nanmean(array)), draws=8_000, seed=1)
    assert quick.value == plain.value == pytest.approx(np.nanmean(scores))
    # Ends of width about 2.4 with a Monte-Carlo error of about 0.02 each.
    assert [quick.low, quick.high] == pytest.approx([plain.low, plain.high], abs=0.08)


@pytest.mark.parametrize("statistic", [None, np.mean], ids=["weights", "arrays"])
def test_hierarchical_levels_are_drawn_as_the_design_says(statistic: Callable[[np.ndarray], float] | None) -> None:
    # Questions are shared: with questions at 0 and 1 the mean is 0 with probability 1/4, however many locations.
    scores = np.broadcast_to([0.0, 1.0], (30, 2, 2))
    shared = hierarchical_bootstrap(scores, statistic=statistic, level=0.6, expanded=False, draws=1000)
    assert (shared.low, shared.high) == (0.0, 1.0)
    # Seeds are not: 30 locations with seeds at 0 and 1 give a mean with sd sqrt(1/4 / 60) = 0.065, so 60% lie within
    # 0.842 sd = 0.054 of 1/2.
    scores = np.broadcast_to(np.array([0.0, 1.0])[None, :, None], (30, 2, 4))
    own = hierarchical_bootstrap(scores, statistic=statistic, level=0.6, expanded=False, draws=1000)
    assert [own.low, own.high] == pytest.approx([0.446, 0.554], abs=0.02)


def test_hierarchical_variance_by_hand() -> None:
    # Two locations at -1 and +1, nothing else varies: the resampled mean is -1, 0, +1 with probability 1/4, 1/2, 1/4.
    scores = np.broadcast_to(np.array([-1.0, 1.0])[:, None, None], (2, 3, 5))
    found = hierarchical_bootstrap(scores, level=0.95, expanded=False)
    assert (found.low, found.high) == (-1.0, 1.0)
    assert hierarchical_bootstrap(scores, level=0.4, expanded=False).low == 0.0
    # Questions at 0 and 1, shared by all locations: the resampled mean is 0, 1/2, 1 and not concentrated by locations.
    shared = hierarchical_bootstrap(np.broadcast_to([0.0, 1.0], (50, 2, 2)), level=0.95, expanded=False)
    assert (shared.low, shared.high) == (0.0, 1.0)
    # One location with seeds at 0 and 1: seeds are resampled within it.
    seeds = hierarchical_bootstrap(np.array([[[0.0] * 4, [1.0] * 4]]), level=0.95, expanded=False)
    assert (seeds.low, seeds.high) == (0.0, 1.0)
    assert "one location" in seeds.reason


def test_few_locations_widen_the_interval_as_student_does() -> None:
    # 8 locations, 95%: t with 7 degrees of freedom is 2.36462; times sqrt(8 / 7) = 2.52789; Phi(-2.52789) = 0.005737.
    assert expanded_tail(0.95, [8, 40]) == pytest.approx(0.005737, abs=1e-6)
    assert expanded_tail(0.95, [1, 8]) == expanded_tail(0.95, [40, 8]) == expanded_tail(0.95, [8, 40])
    assert expanded_tail(0.95, [1, 1]) == pytest.approx(0.025)
    assert expanded_tail(0.95, [10**6, 10**7]) == pytest.approx(0.025, abs=1e-5)
    scores = np.random.default_rng(5).normal(size=(8, 1, 1)) + np.zeros((8, 1, 30))
    wide, narrow = (hierarchical_bootstrap(scores, draws=4000, expanded=flag) for flag in (True, False))
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(2.52789 / 1.95996, rel=0.1)


def test_hierarchical_groups_and_empty_scores() -> None:
    scores = np.random.default_rng(2).normal(size=(3, 2, 5))
    doubled = np.concatenate([scores, scores], axis=2)
    one = hierarchical_bootstrap(scores, groups=list("abcde"), draws=300)
    two = hierarchical_bootstrap(doubled, groups=list("abcdeabcde"), draws=300)
    assert [one.value, one.low, one.high, one.n] == pytest.approx([two.value, two.low, two.high, two.n])
    nothing = hierarchical_bootstrap(np.full((2, 1, 3), math.nan))
    assert math.isnan(nothing.value)
    assert nothing.reason
    assert nothing.n == 0


def test_variance_components_by_hand() -> None:
    # Purely additive: locations 0 and 2, seeds -1 and +1 within each, questions 0 and 6. Then MS_location =
    # 2 * 2 * (1 + 1) / 1 = 8; MS_seed = 2 * (1 + 1 + 1 + 1) / 2 = 4; MS_question = 4 * (9 + 9) / 1 = 72; others 0.
    # location = (8 - 4 - 0 + 0) / 4 = 1; seed = (4 - 0) / 2 = 2; question = (72 - 0) / 4 = 18.
    scores = np.array([0.0, 2.0])[:, None, None] + np.array([-1.0, 1.0])[None, :, None] + np.array([0.0, 6.0])[None, None]
    found = variance_components(scores)
    assert [found.location, found.seed, found.question] == pytest.approx([1.0, 2.0, 18.0])
    assert [found.location_question, found.residual] == pytest.approx([0.0, 0.0])
    # One seed: MS_location = 2 * (1 + 1) / 1 = 4, location = 4 / 2 = 2 = between locations 0 and 2.
    single = variance_components(scores[:, :1])
    assert single.location == pytest.approx(2.0)
    assert math.isnan(single.seed)
    assert "one seed" in single.reasons["seed"]
    # Questions that are unscored anywhere are left out.
    holed = np.concatenate([scores, np.full((2, 2, 1), 9.0)], axis=2)
    holed[0, 0, 2] = math.nan
    assert variance_components(holed).n_questions == 2


def test_mean_squares_equal_those_of_statsmodels() -> None:
    formula = pytest.importorskip("statsmodels.formula.api")
    anova = pytest.importorskip("statsmodels.stats.anova")
    pandas = pytest.importorskip("pandas")
    scores = np.random.default_rng(3).normal(size=(3, 2, 4))
    location, seed, question = (axis.ravel() for axis in np.indices(scores.shape))
    frame = pandas.DataFrame({"y": scores.ravel(), "l": location, "s": seed, "q": question})
    table = anova.anova_lm(formula.ols("y ~ C(l) + C(l):C(s) + C(q) + C(l):C(q)", frame).fit())
    theirs = table["sum_sq"] / table["df"]
    ours = mean_squares(scores)
    for name, term in {
        "location": "C(l)",
        "question": "C(q)",
        "location_question": "C(l):C(q)",
        "residual": "Residual",
    }.items():
        assert ours[name] == pytest.approx(theirs[term], abs=1e-10)
    # The library counts one degree of freedom too many levels for the nested term; its sum of squares is compared.
    assert ours["seed"] * 3 == pytest.approx(table["sum_sq"]["C(l):C(s)"], abs=1e-10)


@pytest.mark.parametrize("shape", [(3, 2, 4), (4, 1, 5), (1, 3, 4)])
def test_variance_components_solve_the_expected_mean_squares(shape: tuple[int, int, int]) -> None:
    # A mean square is a quadratic form, so its expectation under a random effect with unit variance is its sum over
    # the effect's indicator arrays. The components are the solution of observed = expected.
    axes = {"location": (0,), "seed": (0, 1), "question": (2,), "location_question": (0, 2), "residual": (0, 1, 2)}
    n_locations, n_seeds, n_questions = shape
    rng = np.random.default_rng(8)
    scores = rng.normal(size=shape) + 7 * rng.normal(size=(n_locations, 1, n_questions)) + 50 * np.arange(n_questions)
    scores += np.arange(n_locations)[:, None, None] * 90 + np.arange(n_seeds)[None, :, None] * 9
    found, observed = variance_components(scores), mean_squares(scores)
    names = [name for name in axes if name not in found.reasons]
    assert all(math.isnan(getattr(found, name)) for name in found.reasons)  # none is a negative estimate set to 0
    levels = np.indices(shape)
    expected = {name: dict.fromkeys(axes, 0.0) for name in axes}
    for effect, own in axes.items():
        keys = np.ravel_multi_index([levels[axis] for axis in own], [shape[axis] for axis in own])
        for key in np.unique(keys):
            for name, square in mean_squares((keys == key).astype(float)).items():
                expected[name][effect] += square
    # With one seed the residual's row is undefined, and location x question stands for it.
    rows = [name for name in axes if not math.isnan(observed[name])]
    for name in rows:
        total = sum(expected[name][effect] * getattr(found, effect) for effect in names)
        assert total == pytest.approx(observed[name], rel=1e-9)


def test_variance_components_recover_what_was_drawn() -> None:
    rng = np.random.default_rng(4)
    shape = (60, 6, 60)
    truth = {"location": 4.0, "seed": 2.0, "question": 3.0, "location_question": 1.0, "residual": 1.0}
    axes = {
        "location": (60, 1, 1),
        "seed": (60, 6, 1),
        "question": (1, 1, 60),
        "location_question": (60, 1, 60),
        "residual": shape,
    }
    scores = sum(rng.normal(scale=math.sqrt(truth[name]), size=axes[name]) for name in truth)
    found = variance_components(scores)
    for name, value in truth.items():
        # Relative sd of a variance with 59 degrees of freedom is sqrt(2 / 59) = 0.18.
        assert getattr(found, name) == pytest.approx(value, rel=0.5)


def test_negative_component_is_zero_with_a_reason() -> None:
    # Location means are equal while seeds differ: the location component is (0 - MS_seed - ...) / 4 < 0.
    scores = np.array([[[1.0, 2.0], [3.0, 5.0]], [[3.0, 5.0], [1.0, 2.0]]])
    found = variance_components(scores)
    assert found.location == 0.0
    assert "negative" in found.reasons["location"]
    assert found.to_dict()["reasons"] == found.reasons
