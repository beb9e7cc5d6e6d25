"""Prose from numbers and rules, and untrusted text made harmless to read.

Escaping is the template's; here text is made visible: control characters, terminal escapes and bidirectional marks are spelled
out, and what is too long is cut with a note of what was left off.
"""

import math
import unicodedata
from statistics import NormalDist
from typing import Any

from locus import stats, units, verdict
from locus.units import amount

LIMIT = 300
POWER = 0.8
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
HEADINGS = {
    "true_info": "True*Info, %",
    "truth": "True, %",
    "info": "Info, %",
    "mc1": "MC1, %",
    "mc2": "MC2, %",
    "mc3": "MC3, %",
    "margin": "Margin, nats",
    "kl": "KL, nats a token",
    "ce": "CE change, nats a token",
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
            where = what or f"{len(unsettled)} of {len(found[kind])} random Locations"
            meaning = "the claim looks better than it is" if kind == "random" else "its optimal edit may be better than shown"
            said.append(f"Training had not settled at {where}; if so, {meaning}.")
    for read in dict.fromkeys(claim["read"] for claim in found["claims"]):
        said.append(f"Read mode “{visible(read, 20)}”: {READS.get(read, 'unknown')}. The verdict holds for this mode.")
    if plan["model"].get("quantised"):
        said.append("The weights come from a quantised file: the model is close to the published one, and not the same.")
    if (plan["config"].get("seeds") or 1) == 1:
        said.append("One training seed a place: spread between seeds is not measured.")
    if len(found["claims"]) > 1:
        said.append(f"{len(found['claims'])} claims or read modes: claims share the level (Holm), read modes do not.")
    drawn = found.get("drawn") or {}
    if drawn.get("stopped_early") and drawn["random"] < drawn["planned"]:
        said.append(
            f"{drawn['random']} of {drawn['planned']} random Locations were drawn: more could not change the verdict, "
            "but their distribution is less well known."
        )
    said += _judge_limits(found)
    if not found.get("judge"):
        said.append("Multiple choice and margins are probabilities of given answers, and not what the model says when it speaks.")
    return said


def _judge_limits(found: dict[str, Any]) -> list[str]:
    """What the judge of generated answers cannot say; nothing where nobody judged."""
    judge = found.get("judge")
    if not judge:
        return []
    said = [f"Answers were judged by {visible(judge['name'], 80)}, and a judge errs."]
    if not judge.get("confusion"):
        said.append("This judge's errors were never measured, so nothing is corrected for them.")
    for target, one in (judge.get("confusion") or {}).items():
        known = {name: one.get(name) for name in ("sensitivity", "specificity")}
        measured = " and ".join(f"{name} {amount(value, 'truth')}" for name, value in known.items() if value is not None)
        if measured:
            said.append(f"Its {visible(target, 20)} judgments on answers it never saw: {measured}.")
    if judge.get("seen"):
        said.append(f"It learned from {judge['seen']} of the {found['n']['test']} test questions.")
    return said


def next_steps(claim: dict[str, Any], alpha: float) -> list[str]:
    """What would settle what is not settled about one claim.

    Args:
        claim: an entry of the verdict's claims.
        alpha: level of the tests.
    """
    said = []
    for question in verdict.QUESTIONS:
        finding = claim[question]
        if finding["standing"] == "undecided":
            if not finding.get("to_decide"):
                return ["Finish the run: the same command goes on where it stopped."]
            said.append(f"{question}: {finding['to_decide']}.")
        elif finding["standing"] == "invalid" and finding["margin"] is not None:
            said.append(f"{question}: train longer or faster (epochs, lr_scales) until the places named in its sentence settle.")
        elif finding["standing"] == "invalid":
            return [f"All four: {_effect(finding, alpha)}"]
    return said or ["Nothing is undecided. To learn how far it carries: another seed, another read mode, another dataset."]


def _effect(finding: dict[str, Any], alpha: float) -> str:
    """What would show an effect of the ceiling, whose gain is the finding's estimate."""
    gain, interval = finding["estimate"], finding["interval"]
    if gain is None or gain <= 0 or None in interval:
        return "the optimal edit of the whole model does nothing: train longer or faster (lr_scales), or take a stronger model."
    if interval[0] > 0:
        return "the ceiling has an effect, but the data do not let it be read; see the reason above."
    z = NormalDist().inv_cdf(0.5 + finding["level"] / 2)
    spread = (interval[1] - interval[0]) / (2 * z) * math.sqrt(finding["n"])
    wanted = stats.questions_for_effect(gain, spread, alpha, POWER, two_sided=False)
    if wanted.n is None or wanted.n <= finding["n"]:
        return "the ceiling's effect is not clear; train with another seed."
    power = f"{units.share(POWER)} power; there were {finding['n']}"
    return f"the ceiling's effect is not clear: about {wanted.n} test questions show it, if it is as measured ({power})."
