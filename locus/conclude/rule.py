"""The closed set of sentences about a claim, by a rule that is fixed and hashed before any result exists.

Four questions (locus/conclude/tests.py), each answered supported, refuted, undecided or invalid:

works      the optimal edit at the claim is not inferior to the ceiling (full alignment);
special    it beats the optimal edits at random Locations of the same size (rank among them);
unique     few random Locations do as well as the claim;
necessary  the optimal edit everywhere but there falls short of the ceiling.

Refuted is not undecided: refuting needs a test that shows a difference smaller than a margin declared beforehand. Several
claims of one audit share the level (Holm, question by question). With sequential stopping the random Locations are looked at
in the order in which they were drawn, at looks fixed beforehand: refuting may happen at any look and pays for all of them
(Bonferroni); supporting may happen only with all of them, so its rank test keeps its level whatever was looked at.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from locus import stats, units
from locus.conclude import nested
from locus.conclude import tests as findings
from locus.conclude.tests import UNIQUE_LEAST, UNIQUE_MOST, Scores, Test
from locus.plan.config import AuditConfig
from locus.records.base import JsonObject
from locus.records.findings import QUESTIONS, Finding, Findings, Standing
from locus.records.place import NEAR

__all__ = ["QUESTIONS", "UNIQUE_LEAST", "UNIQUE_MOST", "Scores", "Verdicts", "conclude", "overall", "rule"]

VERSION = "rule/3"
UNSCORED, UNSETTLED = 0.2, 0.2  # shares from which on a question cannot be put
ASKED: dict[str, Callable[[Scores, AuditConfig], Test]] = {
    "works": findings.works,
    "special": findings.special,
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
PLACES = {"claim": "the claim", "ceiling": "the ceiling", "complement": "everywhere but the claim", "random": "random Locations"}
SAID = {
    "works": {
        "supported": "Editing there works as well as editing everywhere",
        "refuted": "Editing there falls short of editing everywhere",
        "undecided": "Whether editing there is as good as editing everywhere is open",
    },
    "special": {
        "supported": "The claimed Location is better than random Locations",
        "refuted": "The claimed Location is no better than random Locations, within the margin",
        "undecided": "Whether the claimed Location is better than random Locations is open",
    },
    "unique": {
        "supported": "Hardly any other Location does as well",
        "refuted": "Other Locations do as well",
        "undecided": "Whether other Locations do as well is open",
    },
    "necessary": {
        "supported": "The claimed Location is needed",
        "refuted": "The claimed Location is not needed",
        "undecided": "Whether the claimed Location is needed is open",
    },
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


def rule(config: AuditConfig) -> JsonObject:
    """The rule as it is written into the plan."""
    searched: JsonObject = {
        "nested_within": nested.NOISE,
        "near_from": NEAR,
        "ceiling_overfitted": "a place inside it leads on test questions by more than the margin, at alpha",
    }
    return {
        **(searched if config.search == "newton" else {}),
        "version": VERSION,
        "metric": config.metric,
        "alpha": config.alpha,
        "margin": config.tolerance,
        "margin_of": "the ceiling's gain over the base model, question by question",
        "works": "mean of claim - ceiling + margin above 0; refuted if below",
        "special": "Monte-Carlo rank p with all random Locations; refuted if the mean of claim - random - margin is below 0",
        "unique": {"supported_if_share_below": UNIQUE_MOST, "refuted_if_share_above": UNIQUE_LEAST},
        "necessary": "mean of ceiling - complement - margin above 0; refuted if below",
        "claims": "Holm, question by question",
        "looks": list(config.looks),
        "invalid": {"unscored_from": UNSCORED, "unsettled_from": UNSETTLED, "ceiling_without_gain_at": config.alpha},
    }


def conclude(claims: Sequence[Scores], config: AuditConfig, look: int | None = None) -> Verdicts:
    """The findings for all claims of an audit, in one read mode and one metric.

    Args:
        claims: scores of each claim; all have the same number of random Locations, or some not yet.
        config: alpha, margin, looks.
        look: number of random Locations to conclude from; by default the first look at which all is settled, or the last that
            the scores reach.
    """
    planned = config.looks
    held = min(len(scores.random) for scores in claims)
    reached = [count for count in planned if count <= held] if look is None else [look]
    assert reached, f"a first look needs {planned[0]} random Locations, not {held}"
    known = {question: [ASKED[question](scores, config) for scores in claims] for question in QUESTIONS if question not in DRAWN}
    for count in reached:
        answers = _at(claims, config, count, known)
        settled = count == planned[-1] or all(_closed(one) for one in answers)
        if settled:
            break
    return Verdicts(answers, count, settled)


def _closed(answers: Findings) -> bool:
    """Whether random Locations not drawn yet can change nothing."""
    return all(answers.finding(question).standing in ("refuted", "invalid") for question in DRAWN)


def _at(claims: Sequence[Scores], config: AuditConfig, count: int, known: dict[str, list[Test]]) -> list[Findings]:
    """Findings from the first `count` random Locations; `known` are the tests that no random Location takes part in."""
    planned = config.looks
    seen = [scores.first(count) for scores in claims]
    effects = [findings.effect(scores, config) for scores in seen]
    refusals = [_refusal(scores, gain, p, config) for scores, (gain, p) in zip(seen, effects, strict=True)]
    answers: list[dict[str, Finding]] = [{} for _ in claims]
    for question in QUESTIONS:
        of_places = question in DRAWN
        tests = [ASKED[question](scores, config) for scores in seen] if of_places else known[question]
        supported = stats.holm([test.p_supported for test in tests])
        if of_places and count < planned[-1]:
            supported = np.ones(len(tests))
        refuted = np.minimum(1.0, stats.holm([test.p_refuted for test in tests]) * (len(planned) if of_places else 1))
        for index, test in enumerate(tests):
            if refusals[index]:
                answers[index][question] = _invalid(refusals[index], effects[index][0], count if of_places else 0)
            else:
                p = (float(supported[index]), float(refuted[index]))
                answers[index][question] = _finding(question, test, p, seen[index], config)
    return [Findings(**by_question) for by_question in answers]


def _refusal(scores: Scores, gain: stats.Estimate, p: float, config: AuditConfig) -> str:
    """Why no question can be put at all, or ""."""
    parts = [part for part in ("base", "claim", "ceiling", "complement", "random") if getattr(scores, part).size]
    worst = max(parts, key=lambda part: float(np.isnan(getattr(scores, part)).mean()))
    missing = float(np.isnan(getattr(scores, worst)).mean())
    if missing > UNSCORED:
        return f"{units.share(missing)} of the scores of {PLACES.get(worst, 'the base model')} are missing"
    if not p <= config.alpha:
        effect = f"{units.difference(gain.value, config.metric)}, {findings.span(gain, config.metric)}"
        return f"the ceiling itself has no clear effect ({effect}); nothing can be compared with it"
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
    sentence = f"{SAID[question][standing]}: {test.words}."
    if why:
        standing, sentence = "invalid", f"Cannot be answered: {why}; {test.words}."
    elif share > UNSETTLED:
        standing = "invalid"
        sentence = (
            f"Cannot be answered: training had not settled at {PLACES[part]} ({units.share(share)}), "
            f"so the optimal edit may do more there than was seen; {test.words}."
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


def overall(answers: Findings) -> str:
    """One sentence from the four standings."""
    standing = {name: finding.standing for name, finding in answers.by_question.items()}
    if set(standing.values()) == {"invalid"}:
        return "No verdict: the question could not be put (see the reasons)."
    if standing["works"] == "refuted" and standing["special"] == "supported":
        return (
            "The claimed Location beats random Locations but falls short of editing everywhere: at most part of the behaviour is "
            "there."
        )
    if standing["works"] == "refuted":
        return (
            "Editing the claimed Location falls short of editing everywhere: no evidence from editing that the behaviour is "
            "there."
        )
    if standing["special"] == "refuted":
        return (
            "Editing the claimed Location works no better than editing random Locations: the edit is no evidence of localization."
        )
    if standing["special"] == "supported" and standing["works"] == "supported":
        more = [
            {"supported": "hardly any other Location does as well", "refuted": "other Locations do as well too"}.get(
                standing["unique"], "whether it is the only one is open"
            ),
            {"supported": "and nothing works without it", "refuted": "and it can be done without it"}.get(
                standing["necessary"], "and whether it is needed is open"
            ),
        ]
        return f"Editing the claimed Location works and beats random Locations; {', '.join(more)}."
    if standing["special"] == "supported":
        return "The claimed Location is better than random Locations; whether it reaches the ceiling is open."
    if standing["special"] == "invalid":
        return "No verdict: whether the claimed Location is special could not be asked (see the reason)."
    return "Undecided: whether the claimed Location is better than random Locations is open."
