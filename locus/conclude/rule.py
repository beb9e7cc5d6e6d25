"""The closed set of sentences about a claim, by a rule that is fixed and hashed before any result exists.

Four questions (locus/conclude/tests.py), each answered supported, refuted, undecided or invalid:

works      the optimal edit at the claim is not inferior to the ceiling (full alignment);
special    it beats the optimal edits at random Locations of the same size (rank among them);
unique     few random Locations do as well as the claim;
necessary  the optimal edit everywhere but there falls short of the ceiling.

Refuted is not undecided: refuting needs a test that shows a difference smaller than a margin declared beforehand. Several
claims of one audit share the level (Holm, question by question) unless the settings say that each is answered by itself. With
sequential stopping the random Locations are looked at in the order in which they were drawn, at looks fixed beforehand: refuting
may happen at any look and pays for all of them (Bonferroni); supporting may happen only with all of them, so its rank test keeps
its level whatever was looked at.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from locus import stats, units
from locus.conclude import labelled, nested
from locus.conclude import tests as findings
from locus.conclude.sentences import PLACES, WITHHELD, overall, sentences
from locus.conclude.tests import UNIQUE_LEAST, UNIQUE_MOST, Scores, Test
from locus.plan.config import RULES, AuditConfig
from locus.records.base import JsonObject
from locus.records.findings import QUESTIONS, Finding, Findings, Standing
from locus.records.labels import PASSES
from locus.records.place import NEAR
from locus.records.plan import PlanRecord
from locus.sites.kind import SiteKind, default

__all__ = ["QUESTIONS", "UNIQUE_LEAST", "UNIQUE_MOST", "Scores", "Verdicts", "conclude", "overall", "rule"]

VERSIONS = tuple(f"rule/{number}" for number in RULES)
UNSCORED, UNSETTLED = 0.2, 0.2  # shares from which on a question cannot be put
ASKED: dict[str, Callable[[Scores, AuditConfig], Test]] = {
    "works": findings.works,
    "special": findings.of_both,
    "unique": findings.unique,
    "necessary": findings.necessary,
}
DRAWN = ("special", "unique")  # the questions that random Locations answer
# An edit that had not settled shows only the least that the optimal edit there does. These conclusions lean on more than that.
LEANS = {
    "works": {"supported": "ceiling", "refuted": "claim"},
    "special": {"supported": "random", "refuted": "claim"},
    "unique": {"supported": "random", "refuted": "claim"},
    "necessary": {"supported": "complement", "refuted": "ceiling"},
}


@dataclass(frozen=True)
class Verdicts:
    """The findings of all claims of an audit, and after how many random Locations they were drawn.

    Attributes:
        findings: of each claim.
        look: random Locations looked at.
        settled: whether more random Locations could change nothing.
    """

    findings: list[Findings]
    look: int
    settled: bool


def rule(config: AuditConfig, kind: SiteKind | None = None, known: PlanRecord | None = None) -> JsonObject:
    """The rule as it is written into the plan.

    Args:
        config: the settings, with no more random Locations than there are places.
        kind: of the sites that are claimed; heads by default.
        known: the plan that a run was begun with, if it was: answers that it withholds stay withheld.
    """
    own = kind or default()
    withheld = not own.calibrated or (known is not None and "withheld" in known.rule)
    of_kind: JsonObject = {"kind": own.name, "withheld": WITHHELD.format(nouns=own.nouns)} if withheld else {}
    searched: JsonObject = {
        "nested_within": nested.NOISE,
        "near_from": NEAR,
        "ceiling_overfitted": "a place inside it leads on test questions by more than the margin, at alpha",
    }
    fourth: JsonObject = {
        "least_gain": findings.least_gain(config),
        "special_needs": "the mean of claim - random - margin above 0, besides the rank",
        "last": "special is refuted, too, with all random Locations, if none does worse than the claim and its lead is below 0",
    }
    told: JsonObject = {
        "answers": config.labels,
        "drawn": "questions at random by the seed, groups whole; of each the answers of base, ceiling, claim, complement and one "
        "random Location, in turn",
        "passes": PASSES,
        "interval": "prediction-powered, weight 1; ranks, and unique, by the judge alone",
    }
    beside: JsonObject = {"beside": "special by random Locations of the claim's layers, which decides nothing"}
    ranks: JsonObject = {"of": list(config.ranks), "beside": "special and works by edits of these ranks, which decides nothing"}
    if own.nulls:
        beside = {
            "beside": f"special by {config.nulls[-1]} random {own.nouns}, which decides nothing",
            "both": f"special by {config.nulls[0]} and by {config.nulls[1]}: the worse decides, refuted at half the level each",
        }
    return {
        **of_kind,
        **({"labels": told} if config.labels else {}),
        **(beside if len(config.nulls) > 1 else {}),
        **({"ranks": ranks} if config.ranks else {}),
        **(searched if config.search == "newton" else {}),
        **(fourth if config.rule >= 4 else {}),
        "version": f"rule/{config.rule}",
        "metric": config.metric,
        "alpha": config.alpha,
        "margin": config.tolerance,
        "margin_of": "the ceiling's gain over the base model, question by question",
        "works": "mean of claim - ceiling + margin above 0; refuted if below",
        "special": "Monte-Carlo rank p with all random Locations; refuted if the mean of claim - random - margin is below 0",
        "unique": {"supported_if_share_below": UNIQUE_MOST, "refuted_if_share_above": UNIQUE_LEAST},
        "necessary": "mean of ceiling - complement - margin above 0; refuted if below",
        "claims": "Holm, question by question" if config.share_level else "each by itself, as if it were the only one",
        "looks": list(config.looks),
        "invalid": {"unscored_from": UNSCORED, "unsettled_from": UNSETTLED, "ceiling_without_gain_at": config.alpha},
    }


def conclude(claims: Sequence[Scores], config: AuditConfig, look: int | None = None, drawn: Sequence[str] = DRAWN) -> Verdicts:
    """The findings for all claims of an audit, in one read mode and one metric.

    Args:
        claims: scores of each claim; all have the same number of random Locations, or some not yet.
        config: alpha, margin, looks.
        look: number of random Locations to conclude from; by default the first look at which all is settled, or the last that
            the scores reach.
        drawn: the questions that these random Locations are to answer.
    """
    planned = config.looks
    held = min(len(scores.random) for scores in claims)
    reached = [count for count in planned if count <= held] if look is None else [look]
    assert reached, f"a first look needs {planned[0]} random Locations, not {held}"
    known = {question: [_asked(question, scores, config) for scores in claims] for question in QUESTIONS if question not in DRAWN}
    for count in reached:
        answers = _at(claims, config, count, known)
        settled = count == planned[-1] or all(_closed(one, drawn) for one in answers)
        if settled:
            break
    return Verdicts(answers, count, settled)


def _asked(question: str, scores: Scores, config: AuditConfig) -> Test:
    """A question's test, with people's labels where there are some."""
    test = ASKED[question](scores, config)
    return test if scores.people is None else labelled.answered(question, test, scores, config)


def _closed(answers: Findings, drawn: Sequence[str]) -> bool:
    """Whether random Locations not drawn yet can change nothing."""
    return all(answers.finding(question).standing in ("refuted", "invalid") for question in drawn)


def _at(claims: Sequence[Scores], config: AuditConfig, count: int, known: dict[str, list[Test]]) -> list[Findings]:
    """Findings from the first `count` random Locations; `known` are the tests that no random Location takes part in."""
    planned = config.looks
    seen = [scores.first(count) for scores in claims]
    effects = [(labelled if scores.people is not None else findings).effect(scores, config) for scores in seen]
    refusals = [_refusal(scores, gain, p, config) for scores, (gain, p) in zip(seen, effects, strict=True)]
    answers: list[dict[str, Finding]] = [{} for _ in claims]
    for question in QUESTIONS:
        of_places = question in DRAWN
        tests = [_asked(question, scores, config) for scores in seen] if of_places else known[question]
        supported = _shared([test.p_supported for test in tests], config)
        if of_places and count < planned[-1]:
            supported = np.ones(len(tests))
        refuted = np.minimum(1.0, _shared([test.p_refuted for test in tests], config) * (len(planned) if of_places else 1))
        if count == planned[-1]:
            refuted = np.fmin(refuted, _shared([test.p_last for test in tests], config))
        for index, test in enumerate(tests):
            if refusals[index]:
                answers[index][question] = _invalid(refusals[index], effects[index][0], count if of_places else 0)
            else:
                p = (float(supported[index]), float(refuted[index]))
                answers[index][question] = _finding(question, test, p, seen[index], config)
    return [Findings(**by_question) for by_question in answers]


def _shared(ps: list[float], config: AuditConfig) -> npt.NDArray[np.float64]:
    """The claims' p-values to one question, adjusted where they share the level."""
    return stats.holm(ps) if config.share_level else np.array(ps, dtype=np.float64)


def _refusal(scores: Scores, gain: stats.Estimate, p: float, config: AuditConfig) -> str:
    """Why no question can be put at all, or ""."""
    parts = [part for part in ("base", "claim", "ceiling", "complement", "random") if getattr(scores, part).size]
    worst = max(parts, key=lambda part: float(np.isnan(getattr(scores, part)).mean()))
    missing = float(np.isnan(getattr(scores, worst)).mean())
    if missing > UNSCORED:
        return f"{units.share(missing)} of the scores of {PLACES.get(worst, 'the base model')} are missing"
    if scores.people is not None and gain.reason:
        return gain.reason
    if not p <= config.alpha:
        effect = f"{units.difference(gain.value, config.metric)}, {findings.span(gain, config.metric)}"
        return f"the ceiling itself has no clear effect ({effect}); nothing can be compared with it"
    known = None if scores.people is None else gain.value
    if config.rule >= 4 and (small := findings.too_small(scores, config, known)):
        return small
    reached = float(np.nanmean(scores.mean("ceiling")))
    if scores.blind is not None and scores.blind >= reached:
        blind, ceiling = units.amount(scores.blind, config.metric), units.amount(reached, config.metric)
        return f"a rule that never reads the question does as well ({blind}) as the ceiling ({ceiling})"
    return ""


def _finding(question: str, test: Test, p: tuple[float, float], scores: Scores, config: AuditConfig) -> Finding:
    """One finding: the standing, or invalid where it would lean on edits that had not settled."""
    # Being the best of twenty by a lead that is shown to be negligible is refuted, not supported.
    standing: Standing = "refuted" if p[1] <= config.alpha else "supported" if p[0] <= config.alpha else "undecided"
    part = LEANS[question].get(standing, "")
    share = scores.unsettled.get(part, 0.0)
    why = _misled(question, scores, config)
    words = test.words if config.rule < 4 else f"{test.words}; {_decided(standing, p, test, scores, config)}"
    if question not in DRAWN and (inner := [f"of {name} to that of {PLACES[part]}" for part, name in scores.inner.items()]):
        words += f"; validation questions prefer the edit {' and '.join(inner)}, which contains it"
    last = config.rule >= 4 and standing == "refuted" and test.p_last <= config.alpha
    sentence = f"{sentences(config.rule)[question]['last' if last else standing]}: {words}."
    if scores.withheld:
        words = f"{test.words}; {_decided('withheld', p, test, scores, config)}"
        standing, sentence = "withheld", f"{WITHHELD.format(nouns=scores.nouns)}: {words}."
    if why:
        standing, sentence = "invalid", f"Cannot be answered: {why}; {words}."
    elif share > UNSETTLED and not scores.withheld:
        standing = "invalid"
        sentence = (
            f"Cannot be answered: training had not settled at {PLACES[part]} ({units.share(share)}), "
            f"so the optimal edit may do more there than was seen; {words}."
        )
    one = test.estimate
    return Finding(
        standing=standing,
        estimate=_number(one.value),
        interval=(_number(one.low), _number(one.high)),
        level=one.level,
        n=one.n,
        p=_number(p[0]),
        p_refuted=_number(p[1]),
        margin=_number(test.margin),
        n_random=test.n_random,
        sentence=sentence,
        to_decide=test.to_decide if standing == "undecided" else "",
        **{name: _number(value) for name, value in test.more.items()},
    )


def _decided(standing: str, p: tuple[float, float], test: Test, scores: Scores, config: AuditConfig) -> str:
    """The p that decides, or the two that could have, with what they are of."""
    scored = [group for group, value in zip(scores.groups, scores.mean("claim"), strict=True) if np.isfinite(value)]
    groups = len(set(scored))
    asked = f"{groups} questions" if groups == len(scored) else f"{groups} groups of questions"
    over = f"{asked} and {test.n_random} random Locations" if test.n_random else asked
    for_it, against = map(units.p_value, p)
    if standing == "supported":
        return f"p = {for_it} over {over}"
    if standing == "refuted":
        return f"p = {against} against it, over {over}"
    return f"p = {for_it} for it and {against} against it, over {over}"


def _misled(question: str, scores: Scores, config: AuditConfig) -> str:
    """Why what the claim is held against is no optimum, or no measure of one, for the questions that ask for one; or ""."""
    if question in DRAWN or config.search != "newton":
        return ""
    parts = ("ceiling",) if question == "works" else ("ceiling", "complement")
    beaten = next((scores.beaten[part] for part in parts if part in scores.beaten), "")
    return beaten or nested.overfitted(scores, config)


def _invalid(why: str, gain: stats.Estimate, n_random: int) -> Finding:
    return Finding(
        standing="invalid",
        estimate=_number(gain.value),
        interval=(_number(gain.low), _number(gain.high)),
        level=gain.level,
        n=gain.n,
        p=None,
        p_refuted=None,
        margin=None,
        n_random=n_random,
        sentence=f"Cannot be answered: {why}.",
        to_decide="",
    )


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None
