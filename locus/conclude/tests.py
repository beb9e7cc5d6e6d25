"""The four questions put to the scores of one claim: for each, one test that would support it and one that would refute it.

Every margin is a share m of the ceiling's gain over the base model, and that gain is itself measured on the same questions.
So no margin is taken as known: "the claim loses less than m of the gain" is the per-question contrast
claim - (1 - m) ceiling - m base, whose mean is tested against zero; its sampling error is the margin's too.
Source of the questions: Wang & Veitch 2025, sections 4 to 7; of the contrast: retention of effect, Rothmann et al. 2003,
Design and analysis of non-inferiority mortality trials in oncology.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from scipy import stats as distributions

from locus import stats, units
from locus.metrics.base import metric
from locus.plan.config import AuditConfig
from locus.stats.estimate import unit_values

Floats = npt.NDArray[np.float64]
Values = Mapping[str, Floats]  # part -> [questions]
UNIQUE_MOST, UNIQUE_LEAST = 0.15, 0.05
SMALL, POWER = 100, 0.8


@dataclass(frozen=True)
class People:
    """What people say of the labelled answers, and the judge of the very same, [questions], NaN where nobody read.

    Attributes:
        labels: part -> people's.
        judge: part -> the judge's.
        place: which random Location was read.
    """

    labels: Values
    judge: Values
    place: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Scores:
    """What a verdict is drawn from; scores are per test question, in one order, NaN where unscored.

    Attributes:
        base: [questions].
        claim: [seeds, questions], the claim's selected edit.
        ceiling: [seeds, questions].
        complement: [seeds, questions].
        random: [random Locations, seeds, questions], in the order in which they were drawn.
        groups: group of each question.
        unsettled: share of trainings that had not settled, by part (claim, ceiling, complement, random).
        blind: what the best question-blind rule reaches in this metric, or None if that was not measured or says nothing
            against the ceiling, since the wanted side is a form.
        beaten: part -> why its optimum was not reached, where a place inside it ends at a lower training loss.
        inner: part -> the place inside it whose edit validation questions prefer to its own.
        could: other metrics by which the ceiling gains as much as a verdict needs.
        nouns: what the claimed sites are, in words.
        exhausted: whether the random Locations are all other places that there are.
        withheld: whether the answers are withheld, since nobody has measured how often they are wrong.
        people: what people say of some answers, where that is asked for.
        also: random Locations drawn in another way, which the claim must beat as well; none where there is one way.
    """

    base: Floats
    claim: Floats
    ceiling: Floats
    complement: Floats
    random: Floats
    groups: list[str]
    unsettled: dict[str, float] = field(default_factory=dict)
    blind: float | None = None
    beaten: dict[str, str] = field(default_factory=dict)
    could: tuple[str, ...] = ()
    inner: dict[str, str] = field(default_factory=dict)
    nouns: str = "heads"
    exhausted: bool = False
    withheld: bool = False
    people: People | None = None
    also: Floats | None = None

    def first(self, count: int) -> "Scores":
        """The same with the first random Locations only."""
        return replace(self, random=self.random[:count], also=None if self.also is None else self.also[:count])

    def mean(self, part: str) -> Floats:
        """[questions] of a part, averaged over seeds ([random Locations, questions] of random)."""
        array: Floats = getattr(self, part).mean(axis=1 if part == "random" else 0)
        return array

    @property
    def gain(self) -> Floats:
        """[questions], the ceiling above the base model."""
        return self.mean("ceiling") - self.base


@dataclass(frozen=True)
class Test:
    """One question's two one-sided tests.

    Attributes:
        estimate: what was measured, with its interval of level 1 - 2 alpha.
        p_supported: of the test that would support it; NaN if undefined.
        p_refuted: of the test that would refute it.
        margin: in the metric's units.
        words: the numbers as part of a sentence.
        to_decide: what would settle it if it stays open.
        n_random: random Locations used.
        more: other numbers worth keeping.
        p_last: that a claim which no random Location does worse than does so by chance; NaN where that refutes nothing.
    """

    estimate: stats.Estimate
    p_supported: float
    p_refuted: float
    margin: float
    words: str
    to_decide: str
    n_random: int = 0
    more: dict[str, float | int | None] = field(default_factory=dict)
    p_last: float = math.nan


def span(estimate: stats.Estimate, metric: str, margin: float | None = None) -> str:
    """The interval of a difference in words."""
    low, high = (units.difference(end, metric, unit=False, margin=margin) for end in (estimate.low, estimate.high))
    return f"{units.share(estimate.level)} interval {low} to {high}"


def _margin(value: float, config: AuditConfig) -> str:
    margin = f"margin {units.difference(value, config.metric, unit=False, sign=False, margin=value)}"
    return f"{margin}, {units.share(config.tolerance)} of the ceiling's gain" if config.rule >= 4 else margin


@dataclass(frozen=True)
class Sided:
    """One-sided tests that the mean of a per-question contrast lies above and below zero, and its interval by the same method."""

    above: float
    below: float
    interval: stats.Estimate


def sided(contrast: Floats, config: AuditConfig, groups: list[str]) -> Sided:
    """Test whether the mean of a per-question contrast lies above or below zero.

    t for few distinct values (what 0/1 scores give) and from 100 questions on; a studentised bootstrap for smooth scores of
    fewer questions, where t errs up to twice as often as it says when losses are skewed (studies/coverage.md).
    """
    contrast = np.round(contrast, 12)  # a contrast that is 0 but for rounding is 0
    asked = unit_values(contrast, groups)
    smooth = len(asked) < SMALL and len(np.unique(asked)) > len(asked) / 2
    method, nothing = ("bootstrap" if smooth else "t"), np.zeros_like(contrast)
    above, below = (
        stats.noninferiority(one, nothing, 0.0, alpha=config.alpha, method=method, groups=groups, seed=config.seed)
        for one in (contrast, -contrast)
    )
    return Sided(above.p, below.p, above.estimate)


def effect(scores: Scores, config: AuditConfig) -> tuple[stats.Estimate, float]:
    """The ceiling's gain with its interval, and the one-sided p that there is one."""
    test = sided(scores.gain, config, scores.groups)
    return difference(scores.mean("ceiling"), scores.base, test, config, scores.groups), test.above


def least_gain(config: AuditConfig) -> float | None:
    """What the ceiling must gain before a verdict is given, in the main metric's own unit; None where nothing is declared."""
    return config.least_gain if config.least_gain is not None else metric(config.metric).least_gain


def too_small(scores: Scores, config: AuditConfig, gain: float | None = None) -> str:
    """Why a gain is too small to be asked where it comes from, and which metric could; "" where it is not.

    Args:
        scores: that are concluded from.
        config: which says how much is enough.
        gain: the ceiling's, where it is not the scores' own mean.
    """
    least, gain = least_gain(config), _known(scores.gain) if gain is None else gain
    if least is None or not gain < least:
        return ""
    reached = _known(scores.base)
    why = f"the ceiling gains {units.difference(gain, config.metric)}, less than the least gain of "
    why += units.difference(least, config.metric, sign=False)
    if units.is_share(config.metric) and reached + least > 1:
        why = f"the unedited model already reaches {units.amount(reached, config.metric)}, so that no edit can gain "
        why += units.difference(least, config.metric, sign=False)
    could = ", ".join(scores.could)
    return f"{why}; {f'--metric {could} could give a verdict' if could else 'no other metric that was measured gains enough'}"


def _known(values: Floats) -> float:
    """Mean of what is scored; NaN where nothing is."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else np.nan


def works(scores: Scores, config: AuditConfig) -> Test:
    """Non-inferiority of the claim's edit to the ceiling."""
    claim, ceiling, margin = scores.mean("claim"), scores.mean("ceiling"), config.tolerance * scores.gain
    contrast = claim - ceiling + margin
    test = sided(contrast, config, scores.groups)
    one = difference(claim, ceiling, test, config, scores.groups)
    least = _known(margin)
    gap = units.difference(one.value, config.metric, margin=least)
    words = f"the claim's edit is at {gap} from the ceiling ({span(one, config.metric, least)}; {_margin(least, config)})"
    permutation = stats.paired_permutation(claim, ceiling, groups=scores.groups, seed=config.seed)
    return Test(
        one,
        test.above,
        test.below,
        least,
        words,
        _more_questions(contrast, config, scores.groups),
        more={"p_permutation": permutation.p},
    )


def special(scores: Scores, config: AuditConfig) -> Test:
    """The claim's rank among random Locations, and its lead over their mean, which refutes it where it is under the margin.

    To support it both are asked for since rule 4: a claim that is truly ahead of every random Location by less than the margin
    ranks first, too.
    """
    if not len(scores.random):
        return _nothing_drawn()
    claim, random, margin = scores.mean("claim"), scores.mean("random"), config.tolerance * scores.gain
    ours, theirs = _mean(claim, scores.groups), np.array([_mean(place, scores.groups) for place in random])
    rank, parametric = stats.monte_carlo_rank(ours, theirs), stats.parametric_p(ours, theirs)
    level, least = 1 - 2 * config.alpha, _known(margin)
    ahead = stats.crossed_mean((claim - random)[:, None, :], scores.groups)
    short = stats.crossed_mean((claim - random - margin)[:, None, :], scores.groups)
    lead = ahead.interval(level)
    gap = units.difference(lead.value, config.metric, margin=least)
    inside = span(lead, config.metric, least)
    words = f"{gap} against the mean of {len(random)} random Locations ({inside}), rank p = {rank.p:.3f}"
    if config.rule >= 4:
        lead = _moved(short.interval(level), lead.value)
        inside = f"{span(lead, config.metric, least)}; {_margin(least, config)}"
        place = f"{1 + rank.reached} of {1 + rank.n}" if rank.reached is not None else "unknown"
        drawn = f"{len(random)} random Locations"
        if scores.exhausted:
            drawn, place = (
                f"all {len(random)} other Locations",
                f"{place}, exact: no p is under {stats.smallest_p(len(random)):.3f}",
            )
        words = f"{gap} against the mean of {drawn} ({inside}), rank {place}"
    more = {"rank_p": rank.p, "reached": rank.reached, "p_parametric_for_comparison_only": parametric.p}
    return Test(
        lead,
        rank.p if config.rule < 4 else float(np.maximum(rank.p, short.p_above(0.0))),
        short.p_below(0.0),
        least,
        words,
        _more_places(ours, theirs, config),
        len(random),
        more,
        np.fmax(stats.monte_carlo_rank(ours, theirs, greater=False).p, ahead.p_below(0.0)) if config.rule >= 4 else math.nan,
    )


def of_both(scores: Scores, config: AuditConfig) -> Test:
    """The claim held against random Locations of two kinds: it is special if it beats both, and not if it fails against one.

    Supporting it takes both tests, so it needs no smaller level; to refute it is tried twice (Bonferroni).
    """
    if scores.also is None:
        return special(scores, config)
    both = [special(one, config) for one in (replace(scores, also=None), replace(scores, random=scores.also, also=None))]
    worse = max(both, key=lambda one: np.nan_to_num(one.p_supported, nan=1.0))
    words = "; ".join(f"{way}: {one.words}" for way, one in zip(("by the activations' covariance", "by shuffled labels"), both))
    refuted, last = (float(np.fmin(1.0, 2 * np.fmin(*(getattr(one, p) for one in both)))) for p in ("p_refuted", "p_last"))
    return replace(worse, p_refuted=refuted, p_last=last, words=words)


def unique(scores: Scores, config: AuditConfig) -> Test:
    """The share of random Locations whose edit is not inferior to the claim's.

    A Location is as good, worse, or open (too few questions to say). Supporting uniqueness counts the open ones as good,
    refuting it counts them as worse, so that little data never decides.
    """
    if not len(scores.random):
        return _nothing_drawn()
    claim, random, margin = scores.mean("claim"), scores.mean("random"), config.tolerance * scores.gain
    nothing = np.zeros_like(claim)
    level, groups = config.alpha, scores.groups
    good = sum(stats.noninferiority(place - claim + margin, nothing, 0.0, alpha=level, groups=groups).passed for place in random)
    worse = sum(stats.noninferiority(claim - margin - place, nothing, 0.0, alpha=level, groups=groups).passed for place in random)
    n = len(random)
    share = stats.clopper_pearson(good, n, level=1 - 2 * config.alpha)
    least = _known(margin)
    open_ = f", {n - good - worse} cannot be told" if good + worse < n else ""
    within = units.difference(least, config.metric, sign=False, margin=least)
    low, high = (units.bare(end, "share") for end in (share.low, share.high))
    words = (
        f"{good} of {n} random Locations do as well as the claim, within {within}{open_} "
        f"({units.share(share.level)} interval {low} to {high} % of all Locations)"
    )
    return Test(
        share,
        float(distributions.binom.cdf(n - worse, n, UNIQUE_MOST)),
        float(distributions.binom.sf(good - 1, n, UNIQUE_LEAST)),
        least,
        words,
        _more_places_for_share(good, worse, n, config.alpha),
        n,
        {"as_good": good, "worse": worse},
    )


def necessary(scores: Scores, config: AuditConfig) -> Test:
    """What the optimal edit everywhere but there loses against the ceiling."""
    ceiling, rest, margin = scores.mean("ceiling"), scores.mean("complement"), config.tolerance * scores.gain
    contrast = ceiling - rest - margin
    test = sided(contrast, config, scores.groups)
    one = difference(ceiling, rest, test, config, scores.groups)
    least = _known(margin)
    loss = units.difference(one.value, config.metric, sign=False, margin=least)
    inside = f"{span(one, config.metric, least)}; {_margin(least, config)}"
    words = f"without the claimed {scores.nouns} the ceiling loses {loss} ({inside})"
    return Test(one, test.above, test.below, least, words, _more_questions(contrast, config, scores.groups))


def _nothing_drawn() -> Test:
    nan, why = float("nan"), "no random Location was drawn"
    return Test(stats.Estimate(nan, nan, nan, 0, 0.9, "none", reason=why), nan, nan, nan, why, "random Locations")


def difference(a: Floats, b: Floats, test: Sided, config: AuditConfig, groups: list[str]) -> stats.Estimate:
    """The mean of a - b, with the interval of the test that decides.

    That is of a contrast, which carries the margin's own error; its interval is moved back by the mean margin, so that it
    leaves out the margin just where one of the two one-sided tests has p under alpha. Before rule 4 it was a bootstrap of a - b.
    """
    if config.rule < 4:
        return stats.paired_bootstrap(a, b, level=1 - 2 * config.alpha, groups=groups, seed=config.seed, draws=2000)
    return _moved(test.interval, _mean(a - b, groups))


def _moved(interval: stats.Estimate, value: float) -> stats.Estimate:
    """An interval moved to where another value is its estimate."""
    by = value - interval.value
    return replace(interval, value=value, low=interval.low + by, high=interval.high + by)


def _mean(scores: Floats, groups: list[str]) -> float:
    """Mean over groups of questions, so that a duplicated question weighs nothing; NaN where nothing was scored."""
    asked = unit_values(scores, groups)
    return float(asked.mean()) if len(asked) else float("nan")


def _more_questions(contrast: Floats, config: AuditConfig, groups: list[str]) -> str:
    asked = unit_values(contrast, groups)
    sd = float(asked.std(ddof=1)) if len(asked) > 1 else 0.0
    distance = abs(float(asked.mean())) if len(asked) else 0.0
    if sd <= 0 or distance <= 1e-3 * sd:
        return "what was measured lies on the bound: no number of questions settles it reliably"
    wanted = stats.questions_for_effect(distance, sd, config.alpha, POWER, two_sided=False)
    if wanted.n is None:
        return f"no number of questions settles it: {wanted.reason}"
    enough = max(wanted.n, len(asked))
    return f"about {enough} questions, if things are as measured ({units.share(POWER)} power; there were {len(asked)})"


def _more_places(ours: float, theirs: Floats, config: AuditConfig) -> str:
    sd = float(np.nanstd(theirs, ddof=1)) if np.isfinite(theirs).sum() > 1 else 0.0
    if not sd > 0 or not ours > np.nanmean(theirs):
        return "more questions, to show that its lead is under the margin"
    wanted = stats.random_for_power((ours - float(np.nanmean(theirs))) / sd, POWER, config.alpha)
    if wanted.n is None or wanted.n <= len(theirs):
        return "more questions: the number of random Locations is not what is missing"
    return f"about {wanted.n} random Locations, if things are as measured ({units.share(POWER)} power; there were {len(theirs)})"


def _more_places_for_share(good: int, worse: int, n: int, alpha: float) -> str:
    if good + worse < n:
        return f"more questions: {n - good - worse} of {n} Locations can be told neither as good nor worse"
    for more in range(n + 1, 2000):
        count = round(good / n * more) if n else 0
        settled = (
            distributions.binom.cdf(count, more, UNIQUE_MOST) <= alpha
            or distributions.binom.sf(count - 1, more, UNIQUE_LEAST) <= alpha
        )
        if settled:
            return f"{more} random Locations, if the share stays at {units.share(good / max(1, n))} (there were {n})"
    return "no practical number of random Locations, if the share stays as it is"
