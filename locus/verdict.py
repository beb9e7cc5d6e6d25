"""The closed set of sentences about a claim, by a rule that is fixed and hashed before any result exists.

Four questions, each answered supported, refuted, undecided or invalid:

works      the best edit at the claim is not inferior to the ceiling (full alignment);
special    it beats the best edits at random Locations of the same size (rank among them);
unique     few random Locations do as well as the claim;
necessary  the best edit everywhere but there falls short of the ceiling.

Refuted is not undecided: a difference is refuted only by a test that shows it smaller than a margin declared beforehand, which
is a fraction of the ceiling's own effect. If the ceiling has no effect, nothing can be said, and every answer is invalid.
Source: Wang & Veitch 2025, sections 4 to 7 for the questions; the rules are ours (docs/verdicts.md).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from locus import stats
from locus.config import AuditConfig
from locus.stats.estimate import unit_values

Floats = npt.NDArray[np.float64]
VERSION = "rule/1"
UNIQUE_MOST, UNIQUE_LEAST = 0.15, 0.05


@dataclass(frozen=True)
class Scores:
    """What a verdict is drawn from; every array is per test question, in one order.

    Attributes:
        base: [questions].
        claim: [seeds, questions], the claim's selected edit.
        ceiling: [seeds, questions].
        complement: [seeds, questions].
        random: [random Locations, seeds, questions].
        groups: group of each question.
        unconverged: names of arms whose training did not settle.
    """

    base: Floats
    claim: Floats
    ceiling: Floats
    complement: Floats
    random: Floats
    groups: list[str]
    unconverged: tuple[str, ...] = ()


def rule(config: AuditConfig) -> dict[str, Any]:
    """The rule as it is written into the plan."""
    return {
        "version": VERSION,
        "metric": config.metric,
        "alpha": config.alpha,
        "margin": config.margin,
        "margin_of": "the ceiling's mean gain over the base model",
        "special": "Monte-Carlo rank p <= alpha; refuted if claim - mean random < margin",
        "works": "paired non-inferiority of claim to ceiling",
        "unique": {"supported_if_upper_bound_below": UNIQUE_MOST, "refuted_if_lower_bound_above": UNIQUE_LEAST},
        "necessary": "ceiling - complement > margin; refuted if below",
    }


def conclude(scores: Scores, config: AuditConfig) -> dict[str, dict[str, Any]]:
    """The four findings for one claim, one read mode and one metric."""
    claim, ceiling, rest = (part.mean(axis=0) for part in (scores.claim, scores.ceiling, scores.complement))
    random = scores.random.mean(axis=1)
    effect = stats.noninferiority(ceiling, scores.base, 0.0, alpha=config.alpha, groups=scores.groups)
    gain = effect.estimate.value
    if not effect.passed:
        why = f"the ceiling itself has no clear effect ({gain:+.3f}, {span(effect.estimate)}); nothing can be compared with it"
        return {name: _invalid(why, effect.estimate, len(random)) for name in ("works", "special", "unique", "necessary")}
    margin = config.margin * gain
    return {
        "works": _works(claim, ceiling, margin, config, scores.groups),
        "special": _special(claim, random, margin, config, scores.groups),
        "unique": _unique(claim, random, margin, config, scores.groups),
        "necessary": _necessary(rest, ceiling, margin, config, scores.groups),
    }


def span(estimate: stats.Estimate) -> str:
    """An interval in words."""
    return f"{100 * estimate.level:.0f} % interval {estimate.low:+.3f} to {estimate.high:+.3f}"


def _finding(standing: str, sentence: str, estimate: stats.Estimate, **more: Any) -> dict[str, Any]:
    found = {
        "standing": standing,
        "estimate": _number(estimate.value),
        "interval": [_number(estimate.low), _number(estimate.high)],
        "level": estimate.level,
        "n": estimate.n,
        "sentence": sentence,
    }
    return {**found, "p": None, "margin": None, "n_random": None, **more}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _invalid(why: str, estimate: stats.Estimate, n_random: int) -> dict[str, Any]:
    return _finding("invalid", f"Cannot be answered: {why}.", estimate, n_random=n_random)


def _works(claim: Floats, ceiling: Floats, margin: float, config: AuditConfig, groups: list[str]) -> dict[str, Any]:
    test = stats.noninferiority(claim, ceiling, margin, alpha=config.alpha, groups=groups)
    one = test.estimate
    words = f"the claim's edit reaches {one.value:+.3f} against the ceiling ({span(one)}; margin {margin:.3f})"
    if test.passed:
        standing, sentence = "supported", f"Editing there works as well as editing everywhere: {words}."
    elif one.high < -margin:
        standing, sentence = "refuted", f"Editing there falls short of editing everywhere: {words}."
    else:
        standing, sentence = "undecided", f"Whether editing there is as good as editing everywhere is open: {words}."
    return _finding(standing, sentence, one, p=_number(test.p), margin=margin, n_random=0)


def _special(claim: Floats, random: Floats, margin: float, config: AuditConfig, groups: list[str]) -> dict[str, Any]:
    # Groups of questions are averaged first, as in every other test, so that a duplicated question weighs nothing here either.
    ours, theirs = _mean(claim, groups), np.array([_mean(place, groups) for place in random])
    rank = stats.monte_carlo_rank(ours, theirs)
    gap = stats.hierarchical_bootstrap(
        (claim[None] - random)[:, None, :], level=1 - 2 * config.alpha, groups=groups, seed=config.seed, draws=2000
    )
    words = f"{gap.value:+.3f} against the mean of {len(random)} random places ({span(gap)}), rank p = {rank.p:.3f}"
    if rank.p <= config.alpha:
        standing, sentence = "supported", f"The claimed place is better than random places: {words}."
    elif gap.high < margin:
        standing, sentence = "refuted", f"The claimed place is no better than random places, within {margin:.3f}: {words}."
    else:
        standing, sentence = "undecided", f"Whether the claimed place is better than random places is open: {words}."
    return _finding(standing, sentence, gap, p=_number(rank.p), margin=margin, n_random=len(random))


def _mean(scores: Floats, groups: list[str]) -> float:
    """Mean over groups of questions; NaN where nothing was scored."""
    units = unit_values(scores, groups)
    return float(np.nanmean(units)) if np.isfinite(units).any() else float("nan")


def _unique(claim: Floats, random: Floats, margin: float, config: AuditConfig, groups: list[str]) -> dict[str, Any]:
    tests = [stats.noninferiority(place, claim, margin, alpha=config.alpha, groups=groups) for place in random]
    count = sum(test.passed for test in tests)
    share = stats.clopper_pearson(count, len(random), level=1 - 2 * config.alpha)
    words = f"{count} of {len(random)} random places do as well as the claim, within {margin:.3f} ({span(share)} of all places)"
    if share.high < UNIQUE_MOST:
        standing, sentence = "supported", f"Hardly any other place does as well: {words}."
    elif share.low > UNIQUE_LEAST:
        standing, sentence = "refuted", f"Other places do as well: {words}."
    else:
        standing, sentence = "undecided", f"Whether other places do as well is open: {words}."
    return _finding(standing, sentence, share, margin=margin, n_random=len(random))


def _necessary(rest: Floats, ceiling: Floats, margin: float, config: AuditConfig, groups: list[str]) -> dict[str, Any]:
    gap = stats.noninferiority(ceiling - margin, rest, 0.0, alpha=config.alpha, groups=groups)
    one = stats.paired_bootstrap(ceiling, rest, level=1 - 2 * config.alpha, groups=groups, seed=config.seed)
    words = f"without the claimed heads {one.value:+.3f} of the ceiling is lost ({span(one)}; margin {margin:.3f})"
    if gap.passed:
        standing, sentence = "supported", f"The claimed place is needed: {words}."
    elif one.high < margin:
        standing, sentence = "refuted", f"The claimed place is not needed: {words}."
    else:
        standing, sentence = "undecided", f"Whether the claimed place is needed is open: {words}."
    return _finding(standing, sentence, one, p=_number(gap.p), margin=margin, n_random=0)


QUESTIONS = ("works", "special", "unique", "necessary")


def overall(found: dict[str, dict[str, Any]]) -> str:
    """One sentence from the four standings."""
    standing = {name: found[name]["standing"] for name in QUESTIONS}
    if "invalid" in standing.values():
        return "No verdict: the question could not be put (see the reasons)."
    if standing["works"] == "refuted":
        return (
            "Editing the claimed place falls short of editing everywhere: no evidence from editing that the behaviour is there."
        )
    if standing["special"] == "refuted":
        return "Editing the claimed place works no better than editing random places: the edit is no evidence of localization."
    if standing["special"] == "supported" and standing["works"] == "supported":
        more = [
            {"supported": "hardly any other place does as well", "refuted": "other places do as well too"}.get(
                standing["unique"], "whether it is the only one is open"
            ),
            {"supported": "and nothing works without it", "refuted": "and it can be done without it"}.get(
                standing["necessary"], "and whether it is needed is open"
            ),
        ]
        return f"Editing the claimed place works and beats random places; {', '.join(more)}."
    if standing["special"] == "supported":
        return "The claimed place is better than random places; whether it reaches the ceiling is open."
    return "Undecided: whether the claimed place is better than random places is open."
