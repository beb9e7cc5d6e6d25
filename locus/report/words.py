"""Prose from numbers and rules, and untrusted text made harmless to read.

Escaping is the template's; here text is made visible: control characters, terminal escapes and bidirectional marks are spelled
out, and what is too long is cut with a note of what was left off.
"""

import unicodedata
from typing import Any

from locus.units import amount

LIMIT = 300
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
