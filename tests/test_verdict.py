"""The rule: what supports, what refutes, what is left open, and that looking early costs nothing in error."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from locus import stats
from locus.conclude import rule as verdict
from locus.conclude import tests as findings
from locus.plan.config import AuditConfig

CONFIG = AuditConfig(random=19, sequential=False)
N = 60


def scores(claim=1.0, complement=0.0, random=0.0, *, spread=0.05, noise=0.1, n_random=19, ceiling=1.0, seed=0, n=N, **more):
    """Scores in which the ceiling gains `ceiling` over a base of 0, and each part a given mean, noisy by question and place."""
    rng = np.random.default_rng(seed)

    def part(mean, shape):
        return mean + noise * rng.standard_normal((*shape, n))

    places = random + spread * rng.standard_normal(n_random)
    return verdict.Scores(
        base=np.zeros(n),
        claim=part(claim, (1,)),
        ceiling=part(ceiling, (1,)),
        complement=part(complement, (1,)),
        random=np.stack([part(place, (1,)) for place in places]),
        groups=[str(index) for index in range(n)],
        **more,
    )


def standings(one, config=CONFIG):
    return {name: finding.standing for name, finding in verdict.conclude([one], config).findings[0].by_question.items()}


def test_a_localized_behaviour_is_supported_four_times():
    assert standings(scores()) == dict.fromkeys(verdict.QUESTIONS, "supported")


def test_a_behaviour_that_every_place_carries_is_refuted_where_it_should_be():
    found = standings(scores(random=1.0, complement=1.0))
    assert found == {"works": "supported", "special": "refuted", "unique": "refuted", "necessary": "refuted"}


def test_a_claim_that_does_nothing_is_refuted():
    found = standings(scores(claim=0.0, complement=1.0))
    assert found == {"works": "refuted", "special": "refuted", "unique": "refuted", "necessary": "refuted"}


def test_too_few_questions_leave_it_open_and_say_what_would_decide():
    found = verdict.conclude([scores(claim=0.7, complement=0.7, random=0.5, noise=1.5, spread=0.5)], CONFIG).findings[0]
    for question in ("works", "necessary", "unique"):
        assert found.finding(question).standing == "undecided"
        assert "questions" in found.finding(question).to_decide
    assert all(not finding.to_decide for finding in verdict.conclude([scores()], CONFIG).findings[0].by_question.values())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"ceiling": 0.0}, "no clear effect"),
        ({"blind": 1.5}, "never reads the question"),
        ({"unsettled": {"ceiling": 1.0, "claim": 1.0, "random": 1.0, "complement": 1.0}}, "had not settled"),
    ],
)
def test_what_cannot_be_asked_is_invalid_with_its_reason(change, why):
    found = verdict.conclude([scores(**change)], CONFIG).findings[0]
    for finding in found.by_question.values():
        assert finding.standing == "invalid"
        assert why in finding.sentence
    assert verdict.overall(found).startswith("No verdict")


def test_unscored_questions_beyond_a_fifth_make_it_invalid():
    one = scores()
    one.claim[:, : N // 4] = np.nan
    assert "25 % of the scores of the claim are missing" in verdict.conclude([one], CONFIG).findings[0].works.sentence
    one = scores()
    one.claim[:, : N // 10] = np.nan
    assert standings(one)["works"] == "supported"


def test_only_conclusions_that_lean_on_an_unsettled_edit_are_invalid():
    # The claim's edit had not settled: what it reaches is the least it can reach, so "works" may stand.
    found = standings(scores(unsettled={"claim": 1.0}))
    assert found["works"] == "supported" and found["special"] == "supported"
    # But nothing may be refuted because it falls short.
    found = standings(scores(claim=0.0, complement=1.0, unsettled={"claim": 1.0}))
    assert found == {"works": "invalid", "special": "invalid", "unique": "invalid", "necessary": "refuted"}


def test_the_margin_carries_the_error_of_the_gain_it_is_a_share_of():
    # claim = 0.75 ceiling exactly, so claim - ceiling + 0.25 (ceiling - base) is 0 on every question: on the bound, neither way.
    one = scores(noise=0.3)
    one.claim[:] = 0.75 * one.ceiling
    test = findings.works(one, CONFIG)
    assert test.p_supported > 0.4 and test.p_refuted > 0.4
    # By hand: the contrast's mean is mean(claim) - 0.75 mean(ceiling) - 0.25 mean(base).
    by_hand = one.claim.mean() - 0.75 * one.ceiling.mean() - 0.25 * one.base.mean()
    contrast = one.mean("claim") - one.mean("ceiling") + 0.25 * one.gain
    assert np.isclose(contrast.mean(), by_hand)


def test_best_of_twenty_by_a_negligible_lead_is_refuted():
    one = scores(claim=1.0, random=0.98, spread=0.001, noise=0.001)
    assert findings.special(one, CONFIG.model_copy(update={"rule": 3})).p_supported == pytest.approx(1 / 20)
    assert findings.special(one, CONFIG).p_supported > 0.99
    assert standings(one)["special"] == "refuted"


def test_places_too_noisy_to_be_told_support_no_uniqueness():
    # With 8 questions this noisy no place can be shown to be worse; counting "not as good" would call the claim unique.
    one = scores(claim=1.0, random=0.6, noise=1.0, n=8)
    test = findings.unique(one, CONFIG)
    assert test.more["as_good"] + test.more["worse"] < 19
    assert test.p_supported > CONFIG.alpha


def test_the_unique_counts_are_binomial_tails():
    # 19 places, all worse: (1 - 0.15)^19 = 0.0456. All as good: 0.05^19.
    assert findings.unique(scores(), CONFIG).p_supported == pytest.approx(0.85**19)
    assert findings.unique(scores(random=1.0), CONFIG).p_refuted == pytest.approx(0.05**19)


def test_claims_of_one_audit_share_the_level():
    config = AuditConfig(random=39, sequential=False)
    one, other = (scores(seed=seed, n_random=39) for seed in (0, 1))
    alone = verdict.conclude([one], config).findings[0].special.p
    both = verdict.conclude([one, other], config).findings
    assert alone == pytest.approx(1 / 40)
    # Holm of two equal p-values doubles both.
    assert [found.special.p for found in both] == [pytest.approx(2 / 40)] * 2
    three = verdict.conclude([one, other, scores(seed=2, n_random=39)], config).findings
    assert {found.special.standing for found in three} == {"undecided"}, "3 / 40 is above 0.05"


def test_a_sequential_audit_stops_when_refuted_and_supports_only_with_all_places():
    config = AuditConfig(random=19)
    assert config.looks == (5, 10, 15, 19)
    early = verdict.conclude([scores(random=1.0, complement=1.0)], config)
    assert (early.look, early.settled) == (5, True)
    assert early.findings[0].special.standing == "refuted"
    assert early.findings[0].special.n_random == 5
    late = verdict.conclude([scores()], config)
    assert (late.look, late.settled) == (19, True)
    waiting = verdict.conclude([scores().first(7)], config)
    assert (waiting.look, waiting.settled) == (5, False)
    assert waiting.findings[0].special.standing == "undecided", "five places cannot support"
    invalid = verdict.conclude([scores(ceiling=0.0)], config)
    assert (invalid.look, invalid.settled) == (5, True)


def test_early_looks_pay_for_all_of_them():
    one = scores(random=0.9, spread=0.2, noise=0.3)
    whole = verdict.conclude([one.first(5)], AuditConfig(random=19), look=5).findings[0].special.p_refuted
    raw = findings.special(one.first(5), CONFIG).p_refuted
    assert whole == pytest.approx(min(1.0, 4 * raw))


def test_where_places_are_exchangeable_support_is_as_rare_as_promised():
    # The claim is drawn as the random Locations are: rank p <= 0.05 happens once in 20, and sequential looks must not add to it.
    counts = {"all": 0, "early": 0}
    for seed in range(300):
        rng = np.random.default_rng(seed)
        one = scores(claim=0.5 + 0.3 * rng.standard_normal(), random=0.5, spread=0.3, noise=0.2, seed=seed + 1000, n=100)
        test = findings.special(one, CONFIG)
        counts["all"] += test.p_supported <= CONFIG.alpha < test.p_refuted
        counts["early"] += verdict.conclude([one], AuditConfig(random=19)).findings[0].special.standing == "supported"
    # 300 x 0.05 = 15; P(more than 26) is below 0.003 for a binomial. A rule that never supports would be of no use.
    assert 4 <= counts["early"] <= counts["all"] <= 26


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_findings_do_not_depend_on_the_order_of_questions_or_on_duplicates(seed, copies):
    one = scores(claim=0.8, random=0.5, spread=0.2, noise=0.5, seed=seed, n=12, n_random=5)
    order = np.random.default_rng(seed).permutation(12)
    moved = verdict.Scores(
        one.base[order],
        one.claim[:, order],
        one.ceiling[:, order],
        one.complement[:, order],
        one.random[:, :, order],
        [one.groups[index] for index in order],
    )
    twice = verdict.Scores(
        np.tile(one.base, copies),
        np.tile(one.claim, copies),
        np.tile(one.ceiling, copies),
        np.tile(one.complement, copies),
        np.tile(one.random, copies),
        one.groups * copies,
    )
    for ask in verdict.ASKED.values():
        first, second, third = (ask(other, CONFIG) for other in (one, moved, twice))
        for name in ("p_supported", "p_refuted"):
            value = getattr(first, name)
            assert 0 < value <= 1
            assert getattr(second, name) == pytest.approx(value)
            assert getattr(third, name) == pytest.approx(value), "a question asked twice is one question"


def test_no_random_place_gives_no_number():
    one = scores(n_random=1).first(0)
    for ask in (findings.special, findings.unique):
        test = ask(one, CONFIG)
        assert np.isnan(test.p_supported) and np.isnan(test.estimate.value)


def crossed(effect, rng, n_locations=8, n=20):
    """Location and question effects of size 1 and noise of size 1 around a mean."""
    return (
        effect
        + rng.standard_normal((n_locations, 1, 1))
        + rng.standard_normal((1, 1, n))
        + rng.standard_normal((n_locations, 1, n))
    )


def test_the_crossed_mean_covers_and_agrees_with_its_p():
    hits, runs, errors = 0, 600, []
    for seed in range(runs):
        found = stats.crossed_mean(crossed(0.7, np.random.default_rng(seed)))
        one = found.interval(0.9)
        errors.append(found.error**2)
        hits += one.low <= 0.7 <= one.high
        assert (one.low > 0) == (found.p_above(0.0) < 0.05)
        assert (one.high < 1) == (found.p_below(1.0) < 0.05)
    # At least 90 % (it errs to the wide side): 0.9 - 3 standard errors of 600 runs = 0.863.
    assert hits / runs > 0.863
    # The true variance is 1/8 + 1/20 + 1/160 = 0.181; single scores are counted twice, which makes 0.1875 on average.
    assert np.mean(errors) == pytest.approx(0.1875, rel=0.1)


def test_the_crossed_mean_by_hand():
    # Rows 1, 3 and columns 1, 3 (additive): grand mean 2; row means 1, 3 and column means 1, 3, each with variance 2.
    # Variance of the mean 2/2 + 2/2 = 2; freedom 2^2 / (1/1 + 1/1) = 2.
    found = stats.crossed_mean(np.array([[[0.0, 2.0]], [[2.0, 4.0]]]))
    assert (found.value, found.freedom) == (2.0, pytest.approx(2.0))
    assert found.error == pytest.approx(np.sqrt(2.0))
    assert stats.crossed_mean(np.ones((1, 1, 5))).reason
    assert np.isnan(stats.crossed_mean(np.ones((1, 1, 5))).p_above(0))
    flat = stats.crossed_mean(np.ones((3, 1, 5)))
    assert (flat.p_above(0.5), flat.p_above(1.5)) == (0.125, 1.0)


def invalid_by(one, config=CONFIG):
    """The reason for which all four questions are invalid."""
    found = verdict.conclude([one], config).findings[0].by_question
    assert {finding.standing for finding in found.values()} == {"invalid"}
    (reason,) = {finding.sentence for finding in found.values()}
    return reason


def test_a_gain_below_the_least_gain_gives_no_verdict_and_says_which_metric_could():
    small = {"claim": 0.04, "ceiling": 0.04, "spread": 0.001, "noise": 0.01}
    reason = invalid_by(scores(**small, could=("margin",)))
    assert "gains +4.0 points, less than the least gain of 5.0 points" in reason and "--metric margin could give" in reason
    assert "no other metric that was measured gains enough" in invalid_by(scores(**small))
    for config in (CONFIG.model_copy(update={"least_gain": 0.03}), CONFIG.model_copy(update={"rule": 3})):
        assert standings(scores(**small), config)["works"] == "supported"
    half = CONFIG.model_copy(update={"metric": "margin"})
    assert "less than the least gain of 0.500 nats" in invalid_by(scores(claim=0.4, ceiling=0.4), half)


def test_what_the_unedited_model_saturates_gives_no_verdict():
    one = scores(claim=0.019, ceiling=0.019, noise=0.002, spread=0.001)
    full = replace(one, **{part: getattr(one, part) + 0.98 for part in ("base", "claim", "ceiling", "complement", "random")})
    assert "already reaches 98.0 %, so that no edit can gain 5.0 points" in invalid_by(full)


def test_a_claim_that_does_worse_than_every_random_location_is_refuted():
    """Four looks: the lead's own test pays for all of them, and a rank below all others pays for one."""
    config = AuditConfig(random=19, metric="margin", tolerance=0.02)
    one = scores(claim=-0.05, random=0.25, spread=0.01, noise=0.5, n=12, seed=16)
    special = verdict.conclude([one], config, look=19).findings[0].special
    before = verdict.conclude([one], config.model_copy(update={"rule": 3}), look=19).findings[0].special
    assert before.standing == "undecided" and special.standing == "refuted"
    assert "worse than every one" in special.sentence and "rank 20 of 20" in special.sentence and special.interval[1] < 0


def test_a_rank_alone_does_not_make_a_claim_special():
    """A claim ahead of every Location by about the margin of .25: too near to it to tell."""
    one = scores(claim=0.7, random=0.5, spread=0.01, noise=0.2)
    special = verdict.conclude([one], CONFIG).findings[0].special
    assert special.rank_p == 0.05 and special.standing == "undecided" and special.p > 0.05
    assert standings(one, CONFIG.model_copy(update={"rule": 3}))["special"] == "supported"
    assert standings(scores(claim=1.0, random=0.5, spread=0.01, noise=0.2))["special"] == "supported"


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("n", [12, 130])
def test_the_interval_leaves_out_the_margin_just_where_its_test_decides(seed, n):
    rng = np.random.default_rng(seed)
    one = scores(claim=rng.uniform(0.5, 1.1), complement=rng.uniform(0.5, 1.1), random=0.7, noise=0.5, seed=seed, n=n)
    found = verdict.conclude([one], CONFIG).findings[0]
    bounds = {"works": -found.works.margin, "necessary": found.necessary.margin, "special": found.special.margin}
    for name, bound in bounds.items():
        finding = found.finding(name)
        sides = {"p_refuted": finding.interval[1] < bound}
        if name != "special":  # which is supported by its rank
            sides["p"] = finding.interval[0] > bound
        for p, outside in sides.items():
            decided = getattr(finding, p)
            assert abs(decided - CONFIG.alpha) < 5e-4 or outside == (decided <= CONFIG.alpha), (name, p)  # of 10,000 resamples


def test_the_p_that_decides_stands_once_in_its_sentence_with_what_it_is_of():
    found = verdict.conclude([scores(complement=1.0, random=0.6)], CONFIG).findings[0]
    assert f"p = {found.special.p:.3f} over 60 questions and 19 random Locations" in found.special.sentence
    assert "against it, over 60 questions" in found.necessary.sentence and found.necessary.deciding == (
        found.necessary.p_refuted,
    )
    assert all(finding.sentence.count("p = ") == 1 for finding in found.by_question.values())
    grouped = replace(scores(), groups=[str(index // 2) for index in range(N)])
    assert "30 groups of questions" in verdict.conclude([grouped], CONFIG).findings[0].works.sentence
