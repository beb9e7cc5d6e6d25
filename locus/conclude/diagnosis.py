"""What is wrong where a verdict could not be drawn, and what would settle what is open: causes with remedies, in words.

Everything is read off `verdict.json`, so that terminal and page say the same.
"""

import math
from statistics import NormalDist

from locus import stats, units
from locus.conclude.rule import UNSCORED
from locus.conclude.tests import POWER
from locus.metrics.base import metric as metric_named
from locus.records.findings import ClaimVerdict, Finding
from locus.records.verdict import Gain, Verdict
from locus.shown import visible
from locus.sites.kind import kind_of
from locus.sites.site import Location

SATURATED = 0.95  # share from which on a metric leaves an edit nothing to gain
FEW = 30  # test questions below which most of what is wrong is that there are so few
ALIKE = 5e-4  # scores that differ by less are shown alike
KINDS = ("claimed", "ceiling", "complement", "random")


def next_steps(claim: ClaimVerdict, verdict: Verdict) -> list[str]:
    """What would settle what is not settled about one claim, a sentence each.

    Args:
        claim: one of the verdict's claims.
        verdict: the verdict.
    """
    steps = []
    for question, finding in claim.by_question.items():
        if finding.standing == "undecided":
            if not finding.to_decide:
                return ["Finish the run: the same command goes on where it stopped."]
            steps.append(settling(question, finding))
        elif finding.standing == "invalid" and finding.margin is not None:
            steps.append(f"{question.capitalize()} has no answer. {_longer(verdict)}")
        elif finding.standing == "invalid":
            return causes(finding, verdict)
        elif finding.standing == "withheld":
            return ["Read the numbers as they are: no answer follows until error rates of claims of this kind are measured."]
    return steps or ["Nothing is undecided. To learn how far it carries: another seed, another read mode, another dataset."]


def _longer(verdict: Verdict) -> str:
    """What to do where edits are not at their optimum, or no measure of one."""
    if verdict.nested is None:
        return "Train longer or faster, until what is named has settled: --set epochs=5, --set 'lr_multipliers=[3.0,10.0]'."
    return "Search further (--set rounds=30); where the ceiling has overfitted, take more training questions."


def settling(question: str, finding: Finding) -> str:
    """What would settle a question that is open."""
    return f"{question.capitalize()} is undecided; what would settle it: {finding.to_decide}."


def causes(finding: Finding, verdict: Verdict) -> list[str]:
    """Why no question could be put at all, each cause with its remedy, the likeliest first.

    Args:
        finding: the invalid finding, whose estimate is the ceiling's gain.
        verdict: the verdict.
    """
    if known := _unread(verdict):
        return known  # with so much missing, what the rest shows is chance
    metric, base = verdict.metric, verdict.baseline.base
    reached = base[0].mean(metric) if base else None
    full = reached is not None and units.is_share(metric) and reached >= SATURATED
    if full:
        known.append(
            f"The unedited model already reaches {units.amount(reached, metric)} by {metric}: nothing is left to gain. "
            "Take harder questions, or --metric margin."
        )
    elif same(verdict):
        known.append(
            f"Every edit scores the same by {metric}, so no Location can stand out. Take "
            f"{'another objective' if metric == 'margin' else 'a finer metric (--metric margin)'} or more test questions."
        )
    if not all(place.near for place in verdict.ceiling):
        known.append(f"Training of the ceiling had not settled. {_longer(verdict)}")
    known += _at_chance(verdict)
    return known if full or (known and _clear(finding)) else [*known, _effect(finding, verdict)]


def _unread(verdict: Verdict) -> list[str]:
    """What to do about a judge that left so many answers unscored that no verdict can be drawn from them."""
    missing = verdict.unscored
    if not metric_named(verdict.metric).needs_judge or missing is None or missing.worst <= UNSCORED:
        return []
    return [
        f"{missing.unscored} of {missing.answers} answers are unscored, most often because {missing.commonest}. "
        "Take another judge (--set judge=local needs no endpoint), or mend this one; more questions would be unscored, too."
    ]


def _clear(finding: Finding) -> bool:
    """Whether the ceiling's interval is above zero, so that more questions are not what is missing."""
    low = finding.interval[0]
    return low is not None and low > 0


def same(verdict: Verdict) -> bool:
    """Whether the main metric is the same, as it is shown, under every edit and without one."""
    means = [place.mean(verdict.metric) for kind in ("base", *KINDS) for place in verdict.places(kind)]
    known = [mean for mean in means if mean is not None]
    return len(known) > 1 and max(known) - min(known) < ALIKE


def gained(gain: Gain, metric: str) -> str:
    """What the ceiling gains over no edit, which is what every margin is a share of."""
    margin = gain.margin_share * abs(gain.estimate or 0.0)
    low, high = (units.difference(end, metric, unit=False, margin=margin) for end in gain.interval)
    whose = f" (that of {visible(gain.inner, 60)}, inside it, by validation questions)" if gain.inner else ""
    gains = f"The optimal edit everywhere{whose} gains {units.difference(gain.estimate, metric, margin=margin)} over no edit"
    interval = f"{units.share(gain.level)} interval {low} to {high}"
    return f"{gains} ({interval}); the margin is {units.share(gain.margin_share)} of that."


def _at_chance(verdict: Verdict) -> list[str]:
    """Whether the unedited model does no better than guessing: what it does not know, an edit cannot bring out."""
    base, blind = verdict.baseline.base, verdict.baseline.blind
    mc1 = base[0].measures.get("mc1") if base else None
    if not blind or mc1 is None:
        return []
    chance, (low, high) = blind[0].mc1_chance, mc1.interval
    if low is None or high is None or not low <= chance <= high:
        return []
    n = verdict.n.test
    if n < FEW:
        reached = f"MC1 {units.amount(mc1.mean, 'mc1')}, 95 % interval {units.bare(low, 'mc1')} to {units.bare(high, 'mc1')}"
        return [
            f"{n} test questions cannot tell the unedited model from guessing ({reached}; guessing gives "
            f"{units.amount(chance, 'mc1')}), nor a small effect from none: take more questions."
        ]
    return [
        f"The unedited model is at chance (MC1 {units.amount(mc1.mean, 'mc1')}, where guessing gives "
        f"{units.amount(chance, 'mc1')}): what a model does not know, no edit brings out. Take a stronger model, or questions it "
        "knows."
    ]


def _effect(finding: Finding, verdict: Verdict) -> str:
    """What would show an effect of the ceiling, whose gain is the finding's estimate."""
    gain, (low, high), level, n = finding.estimate, finding.interval, finding.level, finding.n
    if gain is None or gain <= 0 or low is None or high is None:
        more = "more questions, " if n is not None and n < FEW else ""
        if (claim := verdict.claims[0]).kind and kind_of(claim.kind).around:  # whose ceiling is the free edit of these layers
            layers = ", ".join(map(str, sorted({site.layer for site in Location.parse(",".join(claim.location)).sites})))
            return f"No edit of the stream at layer {layers} gains anything: claim one at another layer. {_longer(verdict)}"
        return f"The optimal edit of the whole model gains nothing: take {more}a stronger model. {_longer(verdict)}"
    if _clear(finding):
        return "The ceiling has an effect, but the data do not let it be read; see the reason above."
    if level is None or n is None:
        raise ValueError("an effect with an interval, and without its level")
    spread = (high - low) / (2 * NormalDist().inv_cdf(0.5 + level / 2)) * math.sqrt(n)
    wanted = stats.questions_for_effect(gain, spread, (1 - level) / 2, POWER, two_sided=False)
    if wanted.n is None or wanted.n <= n:
        return "The ceiling's effect is not clear; train with another seed."
    power = f"{units.share(POWER)} power; there were {n}"
    return f"The ceiling's effect is not clear: about {wanted.n} test questions show it, if it is as measured ({power})."
