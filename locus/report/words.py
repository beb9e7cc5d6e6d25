"""Prose from numbers and rules, and untrusted text made harmless to read.

Escaping is the template's; here text is made visible: control characters, terminal escapes and bidirectional marks are spelled
out, and what is too long is cut with a note of what was left off.
"""

import math
import unicodedata
from statistics import NormalDist
from typing import Any

from locus import stats, verdict

LIMIT = 300
POWER = 0.8
PERCENT = ("mc1", "mc2", "mc3", "truth", "info", "true_info", "blind_true_info")
MEASURE = {
    "mc1": "MC1 (share of questions whose best answer is likeliest)",
    "mc2": "MC2 (probability of the true answers among those listed)",
    "mc3": "MC3 (share of true answers likelier than every false one)",
    "margin": "preference margin (gain of true over false answers, in nats)",
    "truth": "True (the judge's mean probability that what the model says is true)",
    "info": "Info (the judge's mean probability that what the model says is informative)",
    "true_info": "True*Info (mean of their products)",
    "blind_true_info": "True*Info by a judge that reads only the wording",
}
READS = {
    "layer": "the edit writes at the named heads but reads the whole layer",
    "heads": "the edit reads and writes at the named heads only",
    "constant": "the edit reads nothing and adds a constant at the named heads",
}


def visible(text: Any, limit: int = LIMIT) -> str:
    """Text in which nothing is hidden: invisible and bidirectional characters as code points, the rest cut at a limit."""
    whole = str(text)
    shown = "".join(
        char if char == " " or unicodedata.category(char)[0] not in "CZ" else f"⟨U+{ord(char):04X}⟩" for char in whole[:limit]
    )
    return shown if len(whole) <= limit else f"{shown} … ({len(whole):,} characters, the first {limit:,} shown)"


def amount(value: float | None, measure: str, sign: bool = False) -> str:
    """A value in its unit: percent for multiple choice, nats for the rest; a dash for what is not defined."""
    if value is None or not math.isfinite(value):
        return "–"
    plus = "+" if sign else ""
    return f"{100 * value:{plus}z.1f} %" if measure in PERCENT else f"{value:{plus}z.3f}"


def limits(plan: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """What this very run cannot say: one sentence a limit, each from a number of the run."""
    said = []
    if found["unfinished"]:
        said.append(f"{found['unfinished']} of {len(plan['trials'])} trials are not finished; what is shown may change.")
    n = found["n"]
    said.append(
        f"{n['test']} test questions and {n['train']} training questions: differences within the intervals are not found."
    )
    for blind in found["baseline"]["blind"]:
        if blind["mc1_interval"][0] > blind["mc1_chance"]:
            said.append(
                f"A rule that never reads the question ({blind['name']}) reaches {amount(blind['mc1'], 'mc1')} MC1 where chance "
                f"is {amount(blind['mc1_chance'], 'mc1')}: part of every edit's effect may be the wording of the answers."
            )
    for kind, what in (("claimed", "the claim"), ("ceiling", "the ceiling"), ("complement", "the complement"), ("random", "")):
        unsettled = [entry["name"] for entry in found[kind] if False in entry["converged"]]
        if unsettled:
            where = what or f"{len(unsettled)} of {len(found[kind])} random places"
            meaning = "the claim looks better than it is" if kind == "random" else "its best edit may be better than shown"
            said.append(f"Training had not settled at {where}; if so, {meaning}.")
    for read in dict.fromkeys(claim["read"] for claim in found["claims"]):
        said.append(f"Read mode “{visible(read, 20)}”: {READS.get(read, 'unknown')}. The verdict holds for this mode.")
    if plan["model"].get("quantised"):
        said.append("The weights come from a quantised file: the model is close to the published one, and not the same.")
    if (plan["config"].get("seeds") or 1) == 1:
        said.append("One training seed a place: spread between seeds is not measured.")
    if len(found["claims"]) > 1:
        said.append(f"{len(found['claims'])} claims or read modes were tested, each at its own level.")
    said.append("Multiple choice and margins are probabilities of given answers, and not what the model says when it speaks.")
    return said


def _spread(finding: dict[str, Any]) -> float:
    """Standard deviation of a paired difference between questions, from its interval."""
    low, high = finding["interval"]
    z = NormalDist().inv_cdf(0.5 + finding["level"] / 2)
    return float((high - low) / (2 * z) * math.sqrt(finding["n"]))


def _whole(finding: dict[str, Any]) -> bool:
    numbers = [finding.get("estimate"), *(finding.get("interval") or [None])]
    return all(number is not None and math.isfinite(number) for number in numbers)


def _questions(effect: float, finding: dict[str, Any], alpha: float) -> str:
    """How many questions find an effect, in words."""
    sd = _spread(finding)
    if effect <= 0 or sd <= 0:
        return "The difference lies on the bound: no number of questions settles it reliably."
    wanted = stats.questions_for_effect(effect, sd, alpha, POWER, two_sided=False)
    if wanted.n is None:
        return f"No number of questions settles it: {wanted.reason}."
    if wanted.n <= finding["n"]:
        return f"Power calculations ask for no more than the {finding['n']} questions there are; train with another seed."
    power = f"{POWER:.0%} power; now {finding['n']}"
    return f"If the difference is what was measured, about {wanted.n} test questions settle it ({power})."


def _places_unique(finding: dict[str, Any]) -> str:
    """How many random Locations bring the share's bound to one side."""
    share, level = finding["estimate"], finding["level"]
    for n in range(finding["n_random"] + 1, 2000):
        bound = stats.clopper_pearson(round(share * n), n, level=level)
        if bound.high < verdict.UNIQUE_MOST or bound.low > verdict.UNIQUE_LEAST:
            return f"If the share stays at {share:.0%}, {n} random Locations settle it (now {finding['n_random']})."
    return f"At a share of {share:.0%} no practical number of random Locations settles it."


def _places_special(finding: dict[str, Any], means: list[float], alpha: float) -> str:
    """How many random Locations let the rank test find the claim."""
    mean = math.fsum(means) / max(1, len(means))
    sd = math.sqrt(math.fsum((one - mean) ** 2 for one in means) / max(1, len(means) - 1))
    if sd == 0 or finding["estimate"] <= 0:
        return _questions(abs((finding["margin"] or 0) - finding["estimate"]), finding, alpha)
    effect = finding["estimate"] / sd
    wanted = stats.random_for_power(effect, POWER, alpha)
    if wanted.n is None:
        return f"The claim lies {effect:.1f} standard deviations above the random places: {wanted.reason}."
    more = f"about {wanted.n} random Locations find it ({POWER:.0%} power; now {finding['n_random']})"
    if wanted.n <= finding["n_random"]:
        more = f"{wanted.n} random Locations should do, and there are {finding['n_random']}: another seed may tell"
    return f"The claim lies {effect:.1f} standard deviations above the mean of the random places; if that is true, {more}."


def next_steps(claim: dict[str, Any], means: list[float], alpha: float) -> list[str]:
    """What would settle what is not settled about one claim.

    Args:
        claim: an entry of the verdict's claims.
        means: means of the main metric at the random Locations.
        alpha: level of the tests.
    """
    said = []
    for question in verdict.QUESTIONS:
        finding = claim[question]
        if finding["standing"] not in ("undecided", "invalid"):
            continue
        if not _whole(finding):
            return ["Finish the run: the same command goes on where it stopped."]
        elif finding["standing"] == "invalid":
            if finding["estimate"] <= 0:
                text = (
                    "the best edit of the whole model does nothing: train longer or faster (lr_scales), or take a stronger model."
                )
            else:
                text = f"the ceiling's effect is not clear. {_questions(finding['estimate'], finding, alpha)}"
            return [f"All four: {text}"]
        elif question == "unique":
            said.append(f"unique: {_places_unique(finding)}")
        elif question == "special":
            said.append(f"special: {_places_special(finding, means, alpha)}")
        else:
            bound = -finding["margin"] if question == "works" else finding["margin"]
            said.append(f"{question}: {_questions(abs(finding['estimate'] - bound), finding, alpha)}")
    return said or ["Nothing is undecided. To learn how far it carries: another seed, another read mode, another dataset."]
