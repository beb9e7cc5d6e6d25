"""What is wrong where a verdict could not be drawn, and what would settle what is open: causes with remedies, in words.

Everything is read off `verdict.json`, so that terminal and page say the same.
"""

import math
from statistics import NormalDist
from typing import Any

from locus import stats, units
from locus.conclude.rule import UNSCORED
from locus.conclude.tests import POWER, QUESTIONS
from locus.metrics.base import metric as metric_named

SATURATED = 0.95  # share from which on a metric leaves an edit nothing to gain
FEW = 30  # test questions below which most of what is wrong is that there are so few
ALIKE = 5e-4  # scores that differ by less are shown alike
KINDS = ("claimed", "ceiling", "complement", "random")


def next_steps(claim: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """What would settle what is not settled about one claim, a sentence each.

    Args:
        claim: an entry of the verdict's claims.
        found: the verdict.
    """
    said = []
    for question in QUESTIONS:
        finding = claim[question]
        if finding["standing"] == "undecided":
            if not finding.get("to_decide"):
                return ["Finish the run: the same command goes on where it stopped."]
            said.append(settling(question, finding))
        elif finding["standing"] == "invalid" and finding["margin"] is not None:
            remedy = "train longer or faster (epochs, lr_scales) until what its sentence names has settled"
            said.append(f"{question.capitalize()} has no answer: {remedy}.")
        elif finding["standing"] == "invalid":
            return causes(finding, found)
    return said or ["Nothing is undecided. To learn how far it carries: another seed, another read mode, another dataset."]


def settling(question: str, finding: dict[str, Any]) -> str:
    """What would settle a question that is open."""
    return f"{question.capitalize()} is undecided; what would settle it: {finding.get('to_decide')}."


def causes(finding: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Why no question could be put at all, each cause with its remedy, the likeliest first.

    Args:
        finding: the invalid finding, whose estimate is the ceiling's gain.
        found: the verdict.
    """
    if said := _unread(found):
        return said  # with so much missing, what the rest shows is chance
    metric, base = found["metric"], found["baseline"]["base"]
    reached = base[0][metric]["mean"] if base and base[0].get(metric) else None
    full = reached is not None and units.is_share(metric) and reached >= SATURATED
    if full:
        said.append(
            f"The unedited model already reaches {units.amount(reached, metric)} by {metric}: nothing is left to gain. "
            "Take harder questions, or --metric margin."
        )
    elif same(found):
        said.append(
            f"Every edit scores the same by {metric}, so no Location can stand out. Take "
            f"{'another objective' if metric == 'margin' else 'a finer metric (--metric margin)'} or more test questions."
        )
    if any(False in entry["converged"] for entry in found["ceiling"]):
        said.append(
            "Training of the ceiling had not settled. Train longer or faster: --set epochs=5, --set 'lr_multipliers=[3.0,10.0]'."
        )
    said += _at_chance(found)
    return said if full or (said and _clear(finding)) else [*said, _effect(finding)]


def _unread(found: dict[str, Any]) -> list[str]:
    """What to do about a judge that left so many answers unscored that no verdict can be drawn from them."""
    missing = found.get("unscored")
    if not metric_named(found["metric"]).needs_judge or not missing or missing["worst"] <= UNSCORED:
        return []
    return [
        f"{missing['unscored']} of {missing['answers']} answers are unscored, most often because {missing['commonest']}. "
        "Take another judge (--set judge=local needs no endpoint), or mend this one; more questions would be unscored, too."
    ]


def _clear(finding: dict[str, Any]) -> bool:
    """Whether the ceiling's interval is above zero, so that more questions are not what is missing."""
    low = finding["interval"][0]
    return low is not None and low > 0


def same(found: dict[str, Any]) -> bool:
    """Whether the main metric is the same, as it is shown, under every edit and without one."""
    entries = [entry for entries in (found["baseline"]["base"], *(found[kind] for kind in KINDS)) for entry in entries]
    means = [entry[found["metric"]]["mean"] for entry in entries if entry.get(found["metric"])]
    known = [mean for mean in means if mean is not None]
    return len(known) > 1 and max(known) - min(known) < ALIKE


def gained(gain: dict[str, Any], metric: str) -> str:
    """What the ceiling gains over no edit, which is what every margin is a share of."""
    value, margin = gain["estimate"], gain["margin_share"] * abs(gain["estimate"] or 0.0)
    low, high = (units.difference(end, metric, unit=False, margin=margin) for end in gain["interval"])
    said = f"The optimal edit everywhere gains {units.difference(value, metric, margin=margin)} over no edit"
    interval = f"{units.share(gain['level'])} interval {low} to {high}"
    return f"{said} ({interval}); the margin is {units.share(gain['margin_share'])} of that."


def _at_chance(found: dict[str, Any]) -> list[str]:
    """Whether the unedited model does no better than guessing: what it does not know, an edit cannot bring out."""
    base, blind = found["baseline"]["base"], found["baseline"]["blind"]
    if not (base and blind and base[0].get("mc1")):
        return []
    mc1, chance = base[0]["mc1"], blind[0]["mc1_chance"]
    low, high = mc1["interval"]
    if low is None or not low <= chance <= high:
        return []
    n = found["n"]["test"]
    if n < FEW:
        reached = f"MC1 {units.amount(mc1['mean'], 'mc1')}, 95 % interval {units.bare(low, 'mc1')} to {units.bare(high, 'mc1')}"
        return [
            f"{n} test questions cannot tell the unedited model from guessing ({reached}; guessing gives "
            f"{units.amount(chance, 'mc1')}), nor a small effect from none: take more questions."
        ]
    return [
        f"The unedited model is at chance (MC1 {units.amount(mc1['mean'], 'mc1')}, where guessing gives "
        f"{units.amount(chance, 'mc1')}): what a model does not know, no edit brings out. Take a stronger model, or questions it "
        "knows."
    ]


def _effect(finding: dict[str, Any]) -> str:
    """What would show an effect of the ceiling, whose gain is the finding's estimate."""
    gain, interval, level = finding["estimate"], finding["interval"], finding["level"]
    if gain is None or gain <= 0 or None in interval:
        more = "more questions, " if finding["n"] < FEW else ""
        return (
            "The optimal edit of the whole model gains nothing: take "
            f"{more}a stronger model, or train longer or faster (epochs, lr_scales)."
        )
    if _clear(finding):
        return "The ceiling has an effect, but the data do not let it be read; see the reason above."
    spread = (interval[1] - interval[0]) / (2 * NormalDist().inv_cdf(0.5 + level / 2)) * math.sqrt(finding["n"])
    wanted = stats.questions_for_effect(gain, spread, (1 - level) / 2, POWER, two_sided=False)
    if wanted.n is None or wanted.n <= finding["n"]:
        return "The ceiling's effect is not clear; train with another seed."
    power = f"{units.share(POWER)} power; there were {finding['n']}"
    return f"The ceiling's effect is not clear: about {wanted.n} test questions show it, if it is as measured ({power})."
